//! Raft by openraft: its types, its log on our write-ahead log, its state machine on our state, its calls over gRPC.
//!
//! Nothing else in the crate knows openraft's traits; `server` holds the `Raft` handle.

pub(crate) mod codec;
pub(crate) mod log_store;
pub(crate) mod network;
pub(crate) mod peer_service;
pub(crate) mod snapshot;
pub(crate) mod state_machine;
pub(crate) mod types;

#[cfg(test)]
mod tests;
