//! The datapath's keeper: loads the BPF programs, pins them, attaches them, fills their maps.
//!
//! - `datapath`: open, then sync, then activate; `generation`: maps of another ABI are made anew beside the
//!   old ones. - `migrate`: what those of the ABI before keep.
//! - `programs`: the programs in the kernel, and whether an earlier run's are the same.
//! - `attach`: programs onto interfaces; `hook`: by TCX links or clsact filters.
//! - `tables`, `sync`: what the maps should hold, and making it so by difference.
//! - `ports`: what each port has of its own: counters, memory of flows.
//! - `counters`, `events`: what the programs tell.
//! - `bpffs`, `features`: what the kernel gives.
//! - `syscall`: bpf(2) where aya has no call for it.
//! - `judge`: what the programs decide of one packet, for tests.
//! - `pods`: the one place that says the abi's structs are plain bytes.
//!
//! Never: decides what should be in a table.

mod attach;
pub mod bpffs;
mod counters;
mod datapath;
mod error;
mod events;
pub mod features;
mod generation;
mod hook;
#[cfg(any(test, feature = "test-util"))]
mod judge;
mod migrate;
mod pods;
mod ports;
mod programs;
mod sync;
mod syscall;
mod tables;

#[cfg(test)]
mod tests;

pub use counters::arrival_of;
pub use datapath::{Begun, Datapath, OpenConfig};
pub use error::Error;
pub use events::{EventReader, Events};
pub use hook::Hook;
#[cfg(any(test, feature = "test-util"))]
pub use judge::Entry;
pub use sync::SyncReport;
pub use tables::Tables;
pub use weft_ebpf_abi as abi;

/// The programs, built by `cargo xtask bpf` from `ebpf/programs` and checked in.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../prebuilt/weft.bpf.o");
