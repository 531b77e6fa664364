//! What joins the nodes of a lab and makes their links as bad as the file says.
//!
//! Every frame of an impaired link, and every frame between virtual machines, passes here, so delay,
//! loss and rate are the same whatever the kernel offers, and each frame can be counted and captured.
//! - `impairment`, `spec`: what is wanted. `random`: chance, from a seed.
//! - `lane`: one direction. `bridge`: a segment's addresses. `fabric`: all links; pure, `now` comes in.
//! - `port`: unix sockets and TAP devices. `capture`: pcapng. `serve`: the one thread that moves frames.
//! - `control`: what a running relay is asked. `clients`: its connections.
//!
//! Never: addresses, routes, or which node is joined to which; that is the engine's.

use std::io::Write;

use anyhow::Context;

mod bridge;
mod capture;
mod clients;
mod control;
mod fabric;
mod impairment;
mod lane;
mod port;
mod random;
mod serve;
mod spec;
#[cfg(test)]
mod tests;

pub use capture::CaptureStats;
pub use control::{Client, EndStats, LinkStats, Reply, Request};
pub use fabric::{Direction, Fabric, LaneStats, PortId, Sink, Way};
pub use impairment::{Impairment, Queue};
pub use lane::{Cause, Counters, Departure, Lane, Verdict};
pub use serve::Relay;
pub use spec::{EndSpec, LinkKind, LinkSpec, PortSpec, RelaySpec};

/// The hidden word of the command line.
pub const WORD: &str = "lab-relay";

/// `lab-relay ID FILE`: joins what the [`RelaySpec`] in FILE says, says `ready` and works until it is
/// asked to stop. ID is the lab's, for who looks at the process.
pub fn main(args: &[String]) -> ! {
    match serve_file(args) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            // The engine reads this line; there is nobody else to tell.
            let _ = writeln!(std::io::stdout(), "error: {error:#}");
            std::process::exit(1);
        }
    }
}

fn serve_file(args: &[String]) -> anyhow::Result<()> {
    let [_, file] = args else {
        anyhow::bail!("`weft {WORD}` is started by `weft lab`; it is not for people");
    };
    let text = std::fs::read(file).with_context(|| format!("read {file}"))?;
    let spec: RelaySpec = serde_json::from_slice(&text).with_context(|| format!("read {file}"))?;
    let mut relay = Relay::open(&spec)?;
    println!("ready");
    std::io::stdout().flush()?;
    Ok(relay.run()?)
}
