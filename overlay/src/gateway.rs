//! The way of a network out of itself on one node, and in by published ports: a network namespace of its own between
//! the datapath and the node, so that networks with the same addresses never meet in the node's tables.
//!
//! ```text
//! container -- datapath -- [ inner   gateway namespace   up ] -- node -- underlay
//!                  wefti<n>-'  10.10.0.1, fe80::1    169.254.64.2n+1  `-weftu<n> 169.254.64.2n
//! ```
//!
//! What leaves is translated twice: to the gateway's transit address, and by the node to its own. What comes to a
//! published port is translated twice as well: by the node to the transit address, by the gateway to the container.
//! Who asks from outside is seen by the container with its own address, but for clients that the container could not
//! answer (nodes, and addresses of the network's own range), which appear as the gateway.
//!
//! - `plan`: names, addresses, rules; pure. - `apply`: makes it so.

mod apply;
mod plan;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};

pub use apply::{GatewayError, Hold, configure, ensure, lacks, passes_on, remove};
pub use plan::{
    FLOWS_MAX, GATEWAYS_MAX, INNER_PREFIX, TABLE, TRANSIT4, TRANSIT6, UP_PREFIX, gateway_rules,
    inner_name, node_rules, transit4, transit6, up_name,
};

use crate::publish::Publish;

/// A network's gateway on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Which one of this node it is, below [`GATEWAYS_MAX`]: names and transit addresses follow from it.
    pub index: u16,
    /// The network's IPv4 range.
    pub cidr4: Option<Ipv4Net>,
    /// The network's IPv6 range.
    pub cidr6: Option<Ipv6Net>,
    /// The network's MTU, bytes.
    pub mtu: u32,
    /// The underlay's MTU, bytes.
    pub underlay_mtu: u32,
    /// Whether containers may begin flows to the outside.
    pub egress: bool,
    /// Published ports and the addresses that answer there.
    pub published: BTreeSet<(Publish, IpAddr)>,
}
