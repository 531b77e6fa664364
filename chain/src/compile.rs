//! From policies, endpoints and instances to the datapath's tables. Pure and deterministic.
//!
//! Which versions of a chain a node carries, and which one classifies new flows, comes in: an update
//! carries both, switches, and drops the old one when its flows are gone.
//!
//! Numbers must not move while packets fly, because tables change entry by entry:
//! - A class is named by a hash of the selectors that it is the set of; other chains do not move it.
//! - A stage is named by a hash of (tenant, chain, version, hop, direction). Collisions are settled by
//!   [`StageIds`]: what one compile gave out goes into the next one, which keeps it as long as the
//!   version is carried. Ids are this node's own; no packet carries one.
//!
//! - `classes`: addresses to sets of selectors, sets to rules.
//! - `stages`: hops to stages, slots by rendezvous hashing, instances to positions.

mod classes;
mod hash;
mod stages;

use std::collections::BTreeMap;

use weft_ebpf_abi as abi;
use weft_overlay::documents::{EndpointDoc, InstanceDoc};
use weft_overlay::{
    ChainName, ContainerName, EndpointRef, NetworkRef, NodeId, NodeName, TenantName, Vni,
};

use crate::policy::Policy;

pub use stages::StageIds;

/// A port of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPort {
    /// Host end of its interface.
    pub ifindex: u32,
    /// Port id.
    pub port: u32,
}

/// An instance of a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The hop's name.
    pub hop: String,
    /// The container that serves.
    pub container: ContainerName,
    /// Its document.
    pub doc: InstanceDoc,
}

/// A version of a chain that this node carries.
#[derive(Clone, Debug)]
pub struct CarriedVersion<'a> {
    /// The chain's tenant.
    pub tenant: &'a TenantName,
    /// The chain.
    pub chain: &'a ChainName,
    /// The version.
    pub version: u64,
    /// What it says.
    pub policy: &'a Policy,
    /// New flows are classified by it; one version of a chain at most.
    pub classifies: bool,
    /// Who serves its hops.
    pub instances: Vec<Instance>,
}

/// What is compiled.
#[derive(Clone, Debug)]
pub struct CompileInput<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// Every node's id.
    pub nodes: BTreeMap<NodeName, NodeId>,
    /// Every network's VNI.
    pub networks: BTreeMap<NetworkRef, Vni>,
    /// Every endpoint of those networks.
    pub endpoints: Vec<(&'a EndpointRef, &'a EndpointDoc)>,
    /// The endpoints that are on this node and have their interface.
    pub ports: BTreeMap<EndpointRef, LocalPort>,
    /// The versions to carry.
    pub chains: Vec<CarriedVersion<'a>>,
    /// [`ChainTables::stage_ids`] of the compile before; empty at first.
    pub stage_ids: StageIds,
}

/// The chains' part of the datapath's tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainTables {
    /// Exact addresses to classes.
    pub classes: BTreeMap<abi::ClassKey, u32>,
    /// Ranges to classes: prefix length (the 32 bits of the VNI counted) and key.
    pub class_cidrs: BTreeMap<(u32, abi::ClassCidrKey), u32>,
    /// Pairs of classes to rules.
    pub pairs: BTreeMap<abi::PairKey, abi::Rules>,
    /// Stages.
    pub stages: BTreeMap<u32, abi::Stage>,
    /// Slots to steering blocks.
    pub slots: BTreeMap<abi::SlotKey, u32>,
    /// Steering blocks to instances.
    pub positions: BTreeMap<u32, abi::Position>,
    /// `NETWORK_CHAINS`, `NETWORK_CIDR_CLASSES` by VNI; networks without chains are absent.
    pub network_flags: BTreeMap<u32, u32>,
    /// For the next compile.
    pub stage_ids: StageIds,
    /// What each block is, to name it in traces and statistics.
    pub blocks: BTreeMap<u32, BlockName>,
    /// What could not be carried as said, for people.
    pub problems: Vec<String>,
}

/// What a steering block is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockName {
    /// The chain's tenant.
    pub tenant: TenantName,
    /// The chain.
    pub chain: ChainName,
    /// The version.
    pub version: u64,
    /// The hop.
    pub hop: String,
    /// The instance's container.
    pub container: ContainerName,
}

/// Compiles.
pub fn compile(input: &CompileInput<'_>) -> ChainTables {
    let mut tables = ChainTables::default();
    let mut order: Vec<&CarriedVersion<'_>> = input.chains.iter().collect();
    order.sort_by_key(|one| (one.tenant, one.chain, one.version));
    tables.stage_ids = stages::number(&order, &input.stage_ids);
    for carried in &order {
        let name = format!("{}/{}", carried.tenant, carried.chain);
        let Some(network) = carried.policy.network() else {
            tables.problems.push(format!(
                "chain {name}: selects in no network, so it is not carried"
            ));
            continue;
        };
        let Some(vni) = input.networks.get(&network) else {
            tables.problems.push(format!(
                "chain {name}: network {network} does not exist, so it is not carried"
            ));
            continue;
        };
        stages::carry(carried, &network, vni.get(), input, &mut tables);
    }
    classes::classify(&order, input, &mut tables);
    tables
}
