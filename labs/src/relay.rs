//! What joins the nodes of a lab and makes their links as bad as the file says.
//!
//! Every frame of an impaired link, and every frame between virtual machines, passes here, so delay,
//! loss and rate are the same whatever the kernel offers, and each frame can be counted and captured.
//! - `impairment`, `spec`: what is wanted.
//! - `lane`: one direction. `bridge`: a segment's addresses. `fabric`: all links; pure, `now` comes in.
//! - `port`: unix sockets and TAP devices. `capture`: pcapng. `serve`: the one thread that moves frames.
//! - `clock`, `state`: a relay that stands still, and goes on from a file.
//! - `control`: what a running relay is asked. `clients`: its connections. `process`: the relay of a lab.
//!
//! Never: addresses, routes, or which node is joined to which; that is the engine's.

mod bridge;
mod capture;
mod clients;
mod clock;
mod control;
mod fabric;
mod impairment;
mod lane;
mod port;
pub(crate) mod process;
mod serve;
mod spec;
mod state;
#[cfg(test)]
mod tests;

pub use capture::CaptureStats;
pub use control::{Client, EndStats, LinkStats, Reply, Request};
pub use fabric::{Direction, Fabric, LaneStats, PortId, Sink, Way};
pub use impairment::{Impairment, Queue};
pub use lane::{Cause, Counters, Departure, Lane, Verdict};
pub use process::main;
pub use serve::Relay;
pub use spec::{EndSpec, LinkKind, LinkSpec, PortSpec, RelaySpec};

/// The hidden word of the command line.
pub const WORD: &str = "lab-relay";
