//! The relay's promises. `engine`: for any input, on a clock that is a number. `io`, `tap`,
//! `frozen`: real sockets and devices. `figures`: what is promised in numbers. `rig`: what those three stand on.

mod engine;
mod figures;
mod frozen;
mod io;
mod rig;
mod tap;
