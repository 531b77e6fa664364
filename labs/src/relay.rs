//! What joins the nodes of a lab and makes their links as bad as the file says.
//!
//! Every frame of an impaired link, and every frame between virtual machines, passes here, so delay,
//! loss and rate are the same whatever the kernel offers, and each frame can be counted and captured.
//! - `impairment`, `spec`: what is wanted. `random`: chance, from a seed.
//! - `lane`: one direction. `bridge`: a segment's addresses. `fabric`: all links; pure, `now` comes in.
//!
//! Never: addresses, routes, or which node is joined to which; that is the engine's.

mod bridge;
mod fabric;
mod impairment;
mod lane;
mod random;
mod spec;
#[cfg(test)]
mod tests;

pub use fabric::{Direction, Fabric, LaneStats, PortId, Sink, Way};
pub use impairment::{Impairment, Queue};
pub use lane::{Cause, Counters, Departure, Lane, Verdict};
pub use spec::{EndSpec, LinkKind, LinkSpec, PortSpec, RelaySpec};
