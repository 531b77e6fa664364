//! What the maps should hold: plain values that planners make and tests compare.

use std::collections::BTreeMap;

use weft_ebpf_abi::{
    ClassCidrKey, ClassKey, Endpoint, EndpointKey, Network, Node, PairKey, Port, Position, Rules,
    SlotKey, Stage, Subnet, SubnetKey, VtepKey, moved_bit,
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

impl Tables {
    /// Writes into each subnet what the programs need not look up then: where its node is, and which of its addresses
    /// `endpoints` has. To be called when all nodes, subnets and endpoints are there.
    pub fn complete_subnets(&mut self) {
        for subnet in self.subnets.values_mut() {
            let node = self.nodes.get(&subnet.node).copied().unwrap_or_default();
            (subnet.vtep, subnet.mtu, subnet.moved) = (node.vtep, node.mtu, 0);
        }
        for key in self.endpoints.keys() {
            let Some(network) = self.networks.get(&key.vni) else {
                continue;
            };
            let addr = u128::from_be_bytes(key.addr);
            let length = match addr >> 32 {
                MAPPED => 96 + u32::from(network.subnet_len4),
                _ => u32::from(network.subnet_len6),
            };
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length));
            let of = SubnetKey {
                vni: key.vni,
                addr: (addr & mask.unwrap_or(0)).to_be_bytes(),
            };
            if let Some(subnet) = self.subnets.get_mut(&of) {
                subnet.moved |= moved_bit(key.addr[15]);
            }
        }
    }
}

/// The upper 96 bits of IPv4 addresses as the maps have them.
const MAPPED: u128 = 0xffff;
