//! Tests with real containers; they need root. The shim is this crate's example of that name.

mod entering;
mod life;
mod support;
mod walls;
