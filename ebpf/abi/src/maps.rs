//! Keys and values of the maps, by map name.
//!
//! | map | type | key | value | filled by |
//! | --- | --- | --- | --- | --- |
//! | `config` | array[1] | 0 | [`NodeConfig`] | loader |
//! | `ports` | hash | ifindex `u32` | [`Port`] | agent |
//! | `endpoints` | hash | [`EndpointKey`] | [`Endpoint`] | agent |
//! | `networks` | hash | vni `u32` | [`Network`] | agent |
//! | `subnets` | hash | [`SubnetKey`] | [`Subnet`] | agent |
//! | `nodes` | hash | node id `u32` | [`Node`] | agent |
//! | `vteps` | hash | [`VtepKey`] | node id `u32` | agent |
//! | `classes` | hash | [`ClassKey`] | class `u32` | chain compiler |
//! | `class_cidrs` | LPM trie | [`ClassCidrKey`] | class `u32` | chain compiler |
//! | `pairs` | hash | [`PairKey`] | [`Rules`] | chain compiler |
//! | `stages` | hash | stage `u32` | [`Stage`] | chain compiler |
//! | `slots` | hash | [`SlotKey`] | steering block `u32` | chain compiler |
//! | `positions` | hash | steering block `u32` | [`Position`] | chain compiler |
//! | `flows` | hash of LRU hashes | port id `u32`, then [`FlowKey`] | [`Flow`] | agent makes one a port, programs fill it |
//! | `drops` | per-CPU array | reason `u32` | `u64` packets | programs |
//! | `network_drops` | per-CPU hash | [`DropKey`] | `u64` packets | programs, for networks that are here |
//! | `arrivals` | LRU hash | probe's number `u64` | [`Arrival`](crate::Arrival) | programs |
//! | `port_stats` | per-CPU hash | port id `u32` | [`PortStats`] | agent makes one a port, programs count |
//! | `trace_filter` | array[1] | 0 | [`TraceFilter`](crate::TraceFilter) | agent |
//! | `events_lost` | per-CPU array[1] | 0 | `u64` events | programs |
//! | `decision` | per-CPU array[1] | 0 | [`Decision`] | programs, for tests |
//! | `events` | ring buffer | | [`TraceEvent`](crate::TraceEvent) | programs |

/// What the programs must know of their node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of whoever filled the maps.
    pub abi: u32,
    /// This node's id.
    pub node: u32,
    /// The VXLAN device.
    pub vxlan_ifindex: u32,
    /// The tunnel's UDP port while datagrams may take the short way in, which passes the node's own packet filter by; else 0.
    pub short_way_port: u32,
    /// This node's own VTEP address, the tunnel's local address.
    pub vtep: [u8; 16],
}

/// [`Port::flags`]: the interface of a hop, without addresses; only steered frames pass.
pub const PORT_HOP: u32 = 1;
/// [`Port::flags`]: deliver by `bpf_redirect`, not `bpf_redirect_peer` (tap devices, foreign AF_PACKET).
pub const PORT_NO_PEER: u32 = 2;
/// [`Port::flags`]: the network's gateway; what it sends comes from outside.
pub const PORT_GATEWAY: u32 = 4;

/// The host end of an endpoint's interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Port id, never reused on this node, 24 bits.
    pub port: u32,
    /// The network's VNI.
    pub vni: u32,
    /// `PORT_*`.
    pub flags: u32,
    /// The endpoint's MAC address.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
    /// Its first IPv4 address, mapped, and its first IPv6 address; all zero without one. All of its addresses are in
    /// `endpoints`; these need not be looked up.
    pub own: [[u8; 16]; 2],
}

/// An address in a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The network's VNI.
    pub vni: u32,
    /// The address.
    pub addr: [u8; 16],
}

/// Who owns an address: a local port, or another node (a moved endpoint).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The node that holds it.
    pub node: u32,
    /// On this node: host end of the interface. Elsewhere 0.
    pub ifindex: u32,
    /// On this node: the port id. Elsewhere 0.
    pub port: u32,
    /// The endpoint's MAC address.
    pub mac: [u8; 6],
    /// On this node: [`PORT_NO_PEER`], as of its port. Elsewhere 0.
    pub flags: u16,
}

/// [`Network::flags`]: some chain selects traffic of this network.
pub const NETWORK_CHAINS: u32 = 1;
/// [`Network::flags`]: some chain selects by CIDR, so `class_cidrs` must be asked after `classes`.
pub const NETWORK_CIDR_CLASSES: u32 = 2;

/// [`Network::flags`]: the tunnel takes the priority of the packet, and the packet's becomes what the tunnel's became
/// (RFC 2983, uniform).
pub const NETWORK_DSCP_UNIFORM: u32 = 4;
/// [`Network::flags`]: the same of the time to live, which is never made longer.
pub const NETWORK_TTL_UNIFORM: u32 = 8;

/// A network that has endpoints, or carries a chain, on this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// IPv4 CIDR, mapped; all zero without one.
    pub net4: [u8; 16],
    /// IPv6 CIDR; all zero without one.
    pub net6: [u8; 16],
    /// IPv4 gateway, mapped.
    pub gateway4: [u8; 16],
    /// `NETWORK_*`.
    pub flags: u32,
    /// Prefix length of `net4`, 0..=32.
    pub len4: u8,
    /// Prefix length of `net6`, 0..=128.
    pub len6: u8,
    /// Prefix length of IPv4 subnets, 0..=32.
    pub subnet_len4: u8,
    /// Prefix length of IPv6 subnets, 0..=128.
    pub subnet_len6: u8,
    /// MTU of the network's interfaces, bytes of IP packet.
    pub mtu: u32,
    /// Host end of the network's gateway on this node (ifindex); 0 without one.
    pub gateway: u32,
}

/// A subnet: an address masked by the network's subnet length.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubnetKey {
    /// The network's VNI.
    pub vni: u32,
    /// The subnet's first address.
    pub addr: [u8; 16],
}

/// Who leases a subnet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subnet {
    /// The node.
    pub node: u32,
    /// As of the node in `nodes`.
    pub mtu: u32,
    /// As of the node in `nodes`, so that it need not be looked up; all zero where it is not there.
    pub vtep: [u8; 16],
    /// Which of its addresses must be looked up in `endpoints`, since some are elsewhere: bit [`moved_bit`] of each.
    pub moved: u64,
}

/// The bit of an address in [`Subnet::moved`], by the address's last byte: in subnets of up to 64 addresses one for each.
pub const fn moved_bit(last: u8) -> u64 {
    1 << (last & 63)
}

/// How another node is reached.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its VTEP.
    pub vtep: [u8; 16],
    /// Largest inner IP packet on the way there, bytes; 0 = the network's MTU.
    pub mtu: u32,
    /// Zero.
    pub flags: u32,
}

/// The outer source address of a tunnel packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VtepKey {
    /// The address.
    pub addr: [u8; 16],
}

/// Exact address to selector class.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassKey {
    /// The network's VNI.
    pub vni: u32,
    /// The address.
    pub addr: [u8; 16],
}

/// LPM data of `class_cidrs`; the prefix length counts the 32 bits of the VNI too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassCidrKey {
    /// The network's VNI, big endian.
    pub vni_be: [u8; 4],
    /// The address.
    pub addr: [u8; 16],
}

/// Two classes that some chain joins. Class 0 = matches no selector.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairKey {
    /// The network's VNI.
    pub vni: u32,
    /// Class of the flow's originator.
    pub from: u32,
    /// Class of the flow's target.
    pub to: u32,
}

/// Rules a pair can have; the compiler refuses more.
pub const RULES_MAX: usize = 16;

/// One traffic selector. The same rule serves the reply: then ports are compared with the source.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Stage of the chain's first hop in forward direction.
    pub stage: u32,
    /// Stage of the chain's last hop in reverse direction; 0 when the chain is not symmetric.
    pub reverse_stage: u32,
    /// First destination port, host order. ICMP and "any": 0.
    pub port_lo: u16,
    /// Last destination port, host order. ICMP and "any": 65535.
    pub port_hi: u16,
    /// IP protocol; 0 = any. `icmp` compiles to two rules, 1 and 58.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// The rules of a pair, best first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many are in use.
    pub count: u32,
    /// The rules.
    pub rules: [Rule; RULES_MAX],
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            count: 0,
            rules: [Rule::default(); RULES_MAX],
        }
    }
}

/// [`Stage::flags`]: packets pass the hop by when no instance lives (`on_failure = "bypass"`).
pub const STAGE_BYPASS: u32 = 1;
/// [`Stage::flags`]: reverse direction.
pub const STAGE_REVERSE: u32 = 2;

/// One hop of one chain version in one direction. Stage 0 means "the end of the chain".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Slots in `slots` (0 = no live instance). A flow takes slot `hash % slots`.
    pub slots: u32,
    /// The next stage in this direction, 0 = end. Used when bypassing.
    pub next: u32,
    /// `STAGE_*`.
    pub flags: u32,
    /// Zero.
    pub pad: u32,
}

/// Slots a stage has when any instance lives.
pub const STAGE_SLOTS: u32 = 128;

/// A slot of a stage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    /// The stage.
    pub stage: u32,
    /// 0..[`STAGE_SLOTS`].
    pub slot: u32,
}

/// An instance of a hop in a chain version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The network's VNI.
    pub vni: u32,
    /// The node that holds the instance.
    pub node: u32,
    /// On that node: host end of the first interface (forward packets enter here). Elsewhere 0.
    pub in_ifindex: u32,
    /// On that node: host end of the second interface (reverse packets enter here). Elsewhere 0.
    pub out_ifindex: u32,
    /// On that node: port id of the first interface.
    pub in_port: u32,
    /// On that node: port id of the second interface.
    pub out_port: u32,
    /// Stage after this hop in forward direction, 0 = end.
    pub next_forward: u32,
    /// Stage after this hop in reverse direction, 0 = end.
    pub next_reverse: u32,
}

/// Flows that the memory of an endpoint's port holds, at least. Some 128 bytes each, allocated at once.
pub const FLOWS_PER_PORT: u32 = 8192;
/// The same of a hop's port, where the flows of many endpoints meet.
pub const FLOWS_PER_HOP: u32 = 65536;

/// A flow as seen at the port where a container sent it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Steering id the packet left the hop with, or 0 at an ordinary endpoint.
    pub steer: u32,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Source port, host order; ICMP echo: identifier.
    pub sport: u16,
    /// Destination port, host order; ICMP echo: identifier.
    pub dport: u16,
    /// IP protocol.
    pub proto: u8,
    /// `FLOW_*`.
    pub kind: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// [`FlowKey::kind`]: a flow.
pub const FLOW_PORTS: u8 = 0;
/// [`FlowKey::kind`]: the fragments of one packet; `sport` and `dport` are the upper and lower half of its
/// identification, and a steering id of 0 means that no chain selects it.
pub const FLOW_FRAGMENTS: u8 = 1;

/// What is remembered of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Steering id to enter next.
    pub steer: u32,
    /// Port id of the predecessor, from the source address of the steered frame; 0 = none.
    pub from_port: u32,
    /// `CLOCK_MONOTONIC` of the last packet, ns.
    pub last_seen: u64,
}

/// What drops are counted by, beside their reason alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    /// The network's VNI; 0 = the packet was of no network that is here, or its sender unknown.
    pub vni: u32,
    /// A [`DropReason`](crate::DropReason) as a number.
    pub reason: u32,
}

/// Counters of a port, from the container's point of view.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets the container sent.
    pub tx_packets: u64,
    /// Bytes the container sent, Ethernet header included.
    pub tx_bytes: u64,
    /// Packets delivered to the container.
    pub rx_packets: u64,
    /// Bytes delivered to the container.
    pub rx_bytes: u64,
    /// Packets the container sent that were dropped.
    pub drops: u64,
    /// Packets of a chain whose flow was not remembered, for the port has no memory.
    pub unremembered: u64,
}

/// [`Decision::action`]: dropped, with a reason.
pub const ACTION_DROP: u32 = 1;
/// [`Decision::action`]: into the container behind `target` (ifindex).
pub const ACTION_LOCAL: u32 = 2;
/// [`Decision::action`]: over the tunnel to node `target`.
pub const ACTION_TUNNEL: u32 = 3;
/// [`Decision::action`]: answered in place.
pub const ACTION_ANSWER: u32 = 4;
/// [`Decision::action`]: consumed without a fault (a probe, an announcement).
pub const ACTION_IGNORE: u32 = 5;

/// What the programs decided about the last packet on a CPU; read by tests.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// `ACTION_*`.
    pub action: u32,
    /// By action: ifindex or node id.
    pub target: u32,
    /// The network's VNI.
    pub vni: u32,
    /// A [`DropReason`](crate::DropReason) as a number, or 0.
    pub reason: u32,
    /// Steering id, 0 = none.
    pub steer: u32,
}

macro_rules! assert_sizes {
    ($($type:ty = $size:expr),* $(,)?) => { $(const _: () = assert!(core::mem::size_of::<$type>() == $size);)* };
}
assert_sizes! {
    NodeConfig = 32, Port = 52, EndpointKey = 20, Endpoint = 20, Network = 64, SubnetKey = 20,
    Subnet = 32, Node = 24, VtepKey = 16, ClassKey = 20, ClassCidrKey = 20, PairKey = 12, Rule = 16,
    Rules = 260, Stage = 16, SlotKey = 8, Position = 32, FlowKey = 44, Flow = 16, PortStats = 48,
    Decision = 20, DropKey = 8,
}
