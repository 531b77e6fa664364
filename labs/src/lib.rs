//! The lab engine: whole clusters on one machine, from one file.
//!
//! - `file`, `site`, `tables`: the TOML of labs and sites. `diagnose`: every mistake at its line and column.
//! - `builtin`: the topologies that go by name.
//! - `holder`, `enter`: the namespaces of a node, kept by a small process, and the way into them.
//! - `journal`, `place`, `processes`, `cgroups`: what a lab owns on the machine, so that it can be removed.
//! - `machine`: virtual machines: kernel, initramfs, QEMU, the guest's side.
//! - `underlay`: the segment or the links that join the nodes.
//! - `disk`: a machine's disk that loses in a power cut what a real one may lose.
//! - `random`: seeded chance.
//! - `backend`: what carries nodes: namespaces or machines, behind one trait.
//! - `relay`: what joins nodes frame by frame, with delay, loss, rate and cuts.
//! - `node`: a node, driven through the real binary as a process (`command`, `cancel`).
//! - `engine`: up, steps, down. `steps`, `observe`, `report`: what a lab asserts and prints.
//!
//! Never: imports the agent. A lab drives the same binary that a user has, through its command line.
#![forbid(unsafe_code)]

mod backend;
mod builtin;
mod cancel;
mod cgroups;
mod command;
mod diagnose;
pub mod disk;
mod engine;
pub mod enter;
mod error;
pub mod file;
pub mod holder;
mod journal;
pub mod machine;
mod node;
mod observe;
mod options;
mod place;
mod processes;
mod random;
pub mod relay;
mod report;
pub mod site;
mod steps;
mod tables;
mod underlay;

pub use backend::Backend;
pub use builtin::names as builtin_names;
pub use diagnose::Diagnostic;
pub use engine::{
    cp, down, exec, graph, inspect, kernel, kill, logs, ls, plan, restore, run, runs_here, shell,
    snapshot, start, up,
};
pub use error::LabError;
pub use file::{LabFile, schema};
pub use options::{DEFAULT_ROOT, Drawing, Host, Outcome, RunOptions};

/// Hidden `weft lab-holder ARGS...`: all arguments after the word. Call it before any thread starts.
pub fn holder_main(args: &[String]) -> ! {
    holder::main(args)
}

/// Hidden `weft lab-enter ARGS...`: all arguments after the word. Call it before any thread starts.
pub fn enter_main(args: &[String]) -> ! {
    enter::main(args)
}

/// Hidden `weft lab-machine ARGS...`: all arguments after the word. Call it before any thread starts.
pub fn machine_main(args: &[String]) -> ! {
    machine::keeper::main(args)
}

/// Hidden `weft lab-guest ARGS...`: all arguments after the word. Call it before any thread starts.
pub fn guest_main(args: &[String]) -> ! {
    machine::guest::main(args)
}

/// Hidden `weft lab-relay ARGS...`: all arguments after the word. Call it before any thread starts.
pub fn relay_main(args: &[String]) -> ! {
    relay::main(args)
}
