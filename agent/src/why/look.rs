//! What one node has for a flow.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_overlay::{EndpointRef, NodeName};

/// Facts of one node, as its agent tells them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The node.
    pub node: NodeName,
    /// The address that its tunnels really have.
    pub vtep: IpAddr,
    /// Its endpoints of the flow.
    pub ports: Vec<PortLook>,
    /// Where its tables lead the flow.
    pub way: Way,
    /// The tunnel's device is there, up, and has its program.
    pub tunnel: Result<(), String>,
    /// Its tables know the other nodes' addresses: those that are not as documented.
    pub strangers: Vec<String>,
    /// A packet filter of the node looks at what arrives.
    pub filtered: bool,
}

/// Where tables lead an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// To an endpoint of this node.
    Here,
    /// Through the tunnel to this node.
    Node(NodeName),
    /// Nowhere.
    Nobody,
    /// The network is not in the tables: it has no port here.
    Unknown,
}

/// An endpoint's end on its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortLook {
    /// Which.
    pub endpoint: EndpointRef,
    /// Its container runs.
    pub running: bool,
    /// The host end is there and up.
    pub up: bool,
    /// The host end has its program.
    pub program: bool,
    /// The tables have the port and its addresses.
    pub entered: bool,
    /// What its end in the container lacks, in words (`route 0.0.0.0/0`).
    pub lacks: Vec<String>,
    /// Somebody in the container listens at the flow's port; unknown where that cannot be seen.
    pub listens: Option<bool>,
}
