//! Tenant networks: what they are, who holds which part of them, and the links that carry them.
//!
//! - `names`, `ids`: parsed once at the edge, then trusted.
//! - `documents`: the desired and observed state as it stands in the store (JSON), except chain specs.
//! - `site`: what a person writes, before it becomes documents.
//! - `keys`: where each document stands; the one place that knows the key layout.
//!
//! Never: talks to the store or to BPF.

pub mod documents;
pub mod ids;
pub mod keys;
pub mod names;
pub mod site;

pub use ids::{Mac, NodeId, PortId, Vni};
pub use names::{
    ChainName, ContainerName, ContainerRef, EndpointName, EndpointRef, InterfaceName, NameError,
    NetworkName, NetworkRef, NodeName, TenantName,
};
