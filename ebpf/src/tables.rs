//! What the maps should hold: plain values that planners make and tests compare.

use std::collections::BTreeMap;

use weft_ebpf_abi::{
    ClassCidrKey, ClassKey, Endpoint, EndpointKey, Network, Node, PairKey, Port, Position, Rules,
    SlotKey, Stage, Subnet, SubnetKey, VtepKey,
};

/// Every map that user space fills, by name. Flows, counters and events are the programs' own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Interface index to port.
    pub ports: BTreeMap<u32, Port>,
    /// Address to owner.
    pub endpoints: BTreeMap<EndpointKey, Endpoint>,
    /// VNI to network.
    pub networks: BTreeMap<u32, Network>,
    /// Subnet to node.
    pub subnets: BTreeMap<SubnetKey, Subnet>,
    /// Node id to the way there.
    pub nodes: BTreeMap<u32, Node>,
    /// Tunnel source to node id.
    pub vteps: BTreeMap<VtepKey, u32>,
    /// Address to selector class.
    pub classes: BTreeMap<ClassKey, u32>,
    /// Prefix (its length counts the VNI's 32 bits) to selector class.
    pub class_cidrs: BTreeMap<(u32, ClassCidrKey), u32>,
    /// Classes to rules.
    pub pairs: BTreeMap<PairKey, Rules>,
    /// Stages of chains.
    pub stages: BTreeMap<u32, Stage>,
    /// Slots of stages to steering blocks.
    pub slots: BTreeMap<SlotKey, u32>,
    /// Steering block to position.
    pub positions: BTreeMap<u32, Position>,
}
