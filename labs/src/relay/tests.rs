//! The relay's promises. `engine`: for any input, on a clock that is a number.

mod engine;
