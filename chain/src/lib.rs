//! Service chains: from a TOML file to the tables that steer packets, and the built-in service
//! functions.
//!
//! - [`file`]: reads a chain file; every mistake with its line and column.
//! - [`policy`]: what a chain says, without the places in the file; what the store keeps.
//! - [`documents`]: the store's documents of a chain.
//! - [`traffic`]: `tcp/80`, `udp/53`, `tcp/8000-8100`, `icmp`.
//! - [`check`]: the verifier: a file against the tenant's networks and containers.
//! - [`compile`]: policies + endpoints + instances to the datapath's tables.
//! - [`functions`]: firewall, counter, serve, probe.
//! - [`diagnostic`]: a mistake with its place.
//!
//! Never: reads the store, talks to the kernel's datapath (only `functions` opens sockets), decides
//! what time it is.
#![deny(unsafe_code)]

pub mod check;
pub mod compile;
pub mod diagnostic;
pub mod documents;
pub mod file;
pub mod functions;
pub mod policy;
pub mod traffic;

pub use check::{World, WorldContainer, check};
pub use compile::{
    BlockName, CarriedVersion, ChainTables, CompileInput, Instance, LocalPort, StageIds, compile,
};
pub use diagnostic::Diagnostic;
pub use documents::{ChainDoc, ChainVersionDoc};
pub use file::{ChainFile, parse};
pub use policy::Policy;
pub use traffic::Traffic;
