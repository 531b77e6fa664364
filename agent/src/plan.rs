//! Pure decisions, one file a subject: documents, local state, what is observed and the time go in,
//! what to do comes out. Never: tokio, the store, netlink or BPF.

pub mod chains;
pub mod containers;
pub mod desired;
pub mod endpoints;
pub mod gateways;
pub mod leases;
pub mod tables;
