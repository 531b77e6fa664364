//! The relay's promises. `engine`: for any input, on a clock that is a number. `io`: real sockets and
//! devices, with what is promised of them in figures.

mod engine;
mod io;
