//! The replicated store: etcd's v3 API over Raft, a write-ahead log and multi-version state.
//!
//! Map: `proto` (generated wire types), `wal` (checksummed, fsynced log files), `mvcc` (the state machine of keys
//! and leases: one apply path), `lease` (deadlines, kept by the leader), `raft` (openraft's storage and network over
//! the former), `server` (one member: start, propose, read, stop), `api` (the gRPC services), `client` (for everybody else).
//! It knows nothing of tenants, networks or containers, and never reads the clock while applying.

#![forbid(unsafe_code)]

mod api;
pub mod client;
mod lease;
mod mvcc;
pub mod proto;
mod raft;
pub mod server;
mod wal;
