//! Containers: a root file system, namespaces, a cgroup and a process each, held by a small shim
//! process of its own, so that no container depends on the life of the agent.
//!
//! The map of this crate:
//! - `config`, `error`: what goes in, what can go wrong.
//! - `runtime`: what the agent calls (`runtime/making`: what `create` does); it starts shims and talks to them. `client`, `protocol`: how. `exec`: commands in containers.
//! - `shim`: the single-threaded process that holds one container: control socket, exit code; `log`: its output.
//! - `launch`: makes the container's processes and namespaces. `channel`: how these report; `failure`: what.
//!   `rootfs`: what it sees of the disk.
//!   `privileges`: what it may do. `cgroup`: how much it may use. `capability`: which powers can be asked for.
//! - `private`: files and folders for root alone.
//! - `sys`: every system call that nix has not; the only unsafe code.
//! - `features`: what this machine offers, for `weft doctor`.
//!
//! Never here: networks (the overlay crate moves devices into a container's network namespace
//! between `create` and `start`), documents of the store, restart policies.

#![deny(unsafe_code)]

mod capability;
mod cgroup;
mod channel;
mod client;
mod config;
mod error;
mod exec;
mod failure;
pub mod features;
mod launch;
mod log;
mod private;
mod privileges;
mod protocol;
mod rootfs;
mod runtime;
pub mod shim;
mod sys;

pub use config::{ContainerConfig, Created, Observed, RuntimeConfig, State};
pub use error::Error;
pub use exec::{ExecExit, ExecHandle};
pub use runtime::Runtime;
