//! Tenant networks: what they are, who holds which part of them, and the links that carry them.
//!
//! - `names`, `ids`: parsed once at the edge, then trusted; `naming`: names that follow from others.
//! - `documents`: the desired and observed state as it stands in the store (JSON), except chain specs.
//! - `site`: what a person writes, before it becomes documents.
//! - `keys`: where each document stands; the one place that knows the key layout.
//! - `network`: from a written network to its document: ranges, subnet lengths, gateway, what is refused.
//! - `allocate`, `leases`: which number, address or subnet is next, and who holds what. Pure.
//! - `mtu`: how large a packet fits.
//! - `link`: links, addresses, routes and sysctls by netlink, in our own verbs; `netns`: namespaces.
//! - `filter`: packet filters and NAT by netlink; `gateway`: the way of a network out of itself, and in by published ports.
//! - `tap`: TAP devices; the only unsafe code.
//!
//! Never: talks to the store or to BPF.
#![deny(unsafe_code)]

pub mod allocate;
pub mod documents;
pub mod filter;
pub mod foreign;
pub mod gateway;
pub mod ids;
pub mod keys;
pub mod leases;
pub mod link;
pub mod mtu;
pub mod names;
pub mod naming;
pub mod netns;
pub mod network;
pub mod publish;
pub mod site;
pub mod tap;

pub use ids::{Mac, NodeId, PortId, Vni};
pub use names::{
    ChainName, ContainerName, ContainerRef, EndpointName, EndpointRef, InterfaceName, NameError,
    NetworkName, NetworkRef, NodeName, TenantName,
};
