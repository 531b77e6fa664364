//! The maps, by the names and shapes of the abi crate. Hashes are not preallocated: a node with few
//! endpoints pays for few.
//!
//! Flow memory is one LRU a port, so that a flood evicts only its own flows; user space makes it with the port.
//! LRU hashes are always preallocated, so only ports that chains concern have one. The LRU list is common to
//! all CPUs: with `BPF_F_NO_COMMON_LRU` each CPU could only use its share of the entries, and a port's packets
//! mostly come by one.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{
        Array, HashMap, HashOfMaps, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf,
    },
    macros::btf_map,
};
use weft_ebpf_abi as abi;

const LAZY: usize = BPF_F_NO_PREALLOC as usize;

/// The flows of one port.
pub type PortFlows = LruHashMap<abi::FlowKey, abi::Flow, { abi::FLOWS_PER_PORT as usize }>;

#[btf_map(name = "config")]
pub static CONFIG: Array<abi::NodeConfig, 1> = Array::new();
#[btf_map(name = "ports")]
pub static PORTS: HashMap<u32, abi::Port, 16384, LAZY> = HashMap::new();
#[btf_map(name = "endpoints")]
pub static ENDPOINTS: HashMap<abi::EndpointKey, abi::Endpoint, 131072, LAZY> = HashMap::new();
#[btf_map(name = "networks")]
pub static NETWORKS: HashMap<u32, abi::Network, 16384, LAZY> = HashMap::new();
#[btf_map(name = "subnets")]
pub static SUBNETS: HashMap<abi::SubnetKey, abi::Subnet, 131072, LAZY> = HashMap::new();
#[btf_map(name = "nodes")]
pub static NODES: HashMap<u32, abi::Node, 16384, LAZY> = HashMap::new();
#[btf_map(name = "vteps")]
pub static VTEPS: HashMap<abi::VtepKey, u32, 32768, LAZY> = HashMap::new();
#[btf_map(name = "classes")]
pub static CLASSES: HashMap<abi::ClassKey, u32, 131072, LAZY> = HashMap::new();
#[btf_map(name = "class_cidrs")]
pub static CLASS_CIDRS: LpmTrie<abi::ClassCidrKey, u32, 16384, LAZY> = LpmTrie::new();
#[btf_map(name = "pairs")]
pub static PAIRS: HashMap<abi::PairKey, abi::Rules, 16384, LAZY> = HashMap::new();
#[btf_map(name = "stages")]
pub static STAGES: HashMap<u32, abi::Stage, 16384, LAZY> = HashMap::new();
#[btf_map(name = "slots")]
pub static SLOTS: HashMap<abi::SlotKey, u32, 262144, LAZY> = HashMap::new();
#[btf_map(name = "positions")]
pub static POSITIONS: HashMap<u32, abi::Position, 65536, LAZY> = HashMap::new();
#[btf_map(name = "flows")]
pub static FLOWS: HashOfMaps<u32, PortFlows, 16384, LAZY> = HashOfMaps::new();
#[btf_map(name = "drops")]
pub static DROPS: PerCpuArray<u64, { abi::DropReason::SLOTS as usize }> = PerCpuArray::new();
/// The drops of networks that are here, and under VNI 0 what is the node's own. What finds no room here is still in `drops`.
#[btf_map(name = "network_drops")]
pub static NETWORK_DROPS: PerCpuHashMap<abi::DropKey, u64, 16384, LAZY> = PerCpuHashMap::new();
#[btf_map(name = "arrivals")]
pub static ARRIVALS: LruHashMap<u64, abi::Arrival, { abi::ARRIVALS as usize }> = LruHashMap::new();
#[btf_map(name = "port_stats")]
pub static PORT_STATS: PerCpuHashMap<u32, abi::PortStats, 16384, LAZY> = PerCpuHashMap::new();
#[btf_map(name = "trace_filter")]
pub static TRACE_FILTER: Array<abi::TraceFilter, 1> = Array::new();
#[btf_map(name = "events")]
pub static EVENTS: RingBuf<abi::TraceEvent, 1048576> = RingBuf::new();
#[btf_map(name = "events_lost")]
pub static EVENTS_LOST: PerCpuArray<u64, 1> = PerCpuArray::new();
/// What the last run on this CPU decided; read by tests only.
#[btf_map(name = "decision")]
pub static DECISION: PerCpuArray<abi::Decision, 1> = PerCpuArray::new();
/// The packet in hand, see `scratch`.
#[btf_map(name = "scratch")]
pub static SCRATCH: PerCpuArray<crate::packet::Packet, 1> = PerCpuArray::new();
