//! What the programs tell about a packet, and which packets they tell about.

/// Where in the datapath an event was made.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TracePoint {
    /// A container sent it; seen at the host end of its veth.
    FromContainer = 1,
    /// A chain's rule (or flow memory) selected it; `steer` is the position it goes to.
    ChainEntry = 2,
    /// Handed to the VXLAN device for another node; `peer` is that node's id.
    Encap = 3,
    /// Arrived on the VXLAN device; `peer` is the sender's node id.
    Decap = 4,
    /// Given to a hop; `steer` is its position.
    ToHop = 5,
    /// A hop sent it; `steer` is the position it left.
    FromHop = 6,
    /// Delivered to a container.
    ToContainer = 7,
    /// Dropped; `reason` says why.
    Drop = 8,
    /// Answered in place (ARP, neighbour discovery).
    Answered = 9,
    /// Given to the network's gateway on this node, on its way out.
    ToGateway = 10,
    /// The network's gateway sent it; it comes from outside.
    FromGateway = 11,
}

impl TracePoint {
    /// The point with this number.
    pub const fn from_number(number: u8) -> Option<TracePoint> {
        Some(match number {
            1 => Self::FromContainer,
            2 => Self::ChainEntry,
            3 => Self::Encap,
            4 => Self::Decap,
            5 => Self::ToHop,
            6 => Self::FromHop,
            7 => Self::ToContainer,
            8 => Self::Drop,
            9 => Self::Answered,
            10 => Self::ToGateway,
            11 => Self::FromGateway,
            _ => return None,
        })
    }
    /// The name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromContainer => "from_container",
            Self::ChainEntry => "chain_entry",
            Self::Encap => "encap",
            Self::Decap => "decap",
            Self::ToHop => "to_hop",
            Self::FromHop => "from_hop",
            Self::ToContainer => "to_container",
            Self::Drop => "drop",
            Self::Answered => "answered",
            Self::ToGateway => "to_gateway",
            Self::FromGateway => "from_gateway",
        }
    }
}

/// One observation of one packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceEvent {
    /// `CLOCK_MONOTONIC` of this node, ns.
    pub time: u64,
    /// Hash of what does not change on the way: addresses, protocol, ports, IP id, TCP sequence
    /// number, first payload bytes.
    pub identity: u64,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// The network's VNI.
    pub vni: u32,
    /// Port id, 0 on the VXLAN device.
    pub port: u32,
    /// Interface of the event.
    pub ifindex: u32,
    /// Steering id, 0 = none.
    pub steer: u32,
    /// The other node (`Encap`, `Decap`), else 0.
    pub peer: u32,
    /// Length of the frame, bytes.
    pub len: u32,
    /// TCP sequence number, host order.
    pub seq: u32,
    /// TCP: payload bytes. Else 0.
    pub payload: u32,
    /// Source port, host order; ICMP echo: identifier.
    pub sport: u16,
    /// Destination port, host order; ICMP echo: identifier.
    pub dport: u16,
    /// IPv4 identification, host order.
    pub ip_id: u16,
    /// IP protocol; 0 = ARP.
    pub proto: u8,
    /// A [`TracePoint`].
    pub point: u8,
    /// A [`DropReason`](crate::DropReason) when `point` is `Drop`, else 0.
    pub reason: u8,
    /// TCP flags byte.
    pub tcp_flags: u8,
    /// ICMP type, with `proto` 1 or 58.
    pub icmp_type: u8,
    /// Zero.
    pub pad: [u8; 5],
}

/// [`TraceFilter::proto`]: any protocol.
pub const TRACE_FILTER_PROTO_ANY: u8 = 0;
/// [`TraceFilter::port`]: any port.
pub const TRACE_FILTER_PORT_ANY: u16 = 0;

/// Which packets are told about. A packet matches in either direction: `a` and `b` are its two ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// 0 = off; 1 = packets that match below; 2 = every packet.
    pub mode: u32,
    /// VNI, 0 = any.
    pub vni: u32,
    /// One end; all zero = any.
    pub a: [u8; 16],
    /// The other end; all zero = any.
    pub b: [u8; 16],
    /// Port of either end, host order.
    pub port: u16,
    /// IP protocol.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
    /// Hash sampling: a packet is told when `identity & sample == 0`; 0 = every packet.
    pub sample: u32,
}

const _: () = assert!(core::mem::size_of::<TraceEvent>() == 96);
const _: () = assert!(core::mem::size_of::<TraceFilter>() == 48);
