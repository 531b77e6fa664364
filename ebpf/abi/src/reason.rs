//! Why a packet was dropped: one enum for kernel, metrics and trace.

/// A reason for a drop. The numbers are part of the ABI: append only.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The interface carries the program but has no entry in `ports`.
    UnknownPort = 1,
    /// The frame is shorter than its headers say.
    Malformed = 2,
    /// Not IPv4, IPv6 or ARP, or within a VLAN's tag.
    UnsupportedProtocol = 3,
    /// The source MAC is not the endpoint's.
    SpoofedMac = 4,
    /// The source address is not the endpoint's.
    SpoofedAddress = 5,
    /// Multicast or broadcast: networks do not flood.
    Multicast = 6,
    /// The destination lies in no network that the sender may reach.
    NoRoute = 7,
    /// The destination lies in the network, but nobody owns it.
    NoEndpoint = 8,
    /// The destination is an address of a node.
    NodeAddress = 9,
    /// The packet came from a VTEP that belongs to no node.
    UnknownVtep = 10,
    /// The VNI is not known on this node.
    UnknownVni = 11,
    /// The tunnel key could not be read or set.
    TunnelKey = 12,
    /// The steering id is not known on this node.
    UnknownSteer = 13,
    /// A hop sent a frame that belongs to no flow it was given.
    HopStray = 14,
    /// A chain's hop has no live instance, and the hop drops on failure.
    NoInstance = 15,
    /// A reply that belongs to no flow of the chain.
    NoFlow = 16,
    /// More redirects than the hop budget allows.
    HopBudget = 17,
    /// A later fragment whose first was not seen.
    Frag = 18,
    /// Larger than the path's MTU; an endpoint that sent it is told.
    TooBig = 19,
    /// The destination is the gateway, and the gateway offers no such service.
    GatewayService = 20,
    /// The node table has no VTEP for the destination's node.
    NoVtep = 21,
    /// The destination MAC is not the gateway's.
    ForeignMac = 22,
    /// The packet says by whom it wants to go (RFC 791 section 3.1, RFC 5095).
    SourceRoute = 23,
}

impl DropReason {
    /// Every reason, in the order of the numbers.
    pub const ALL: [DropReason; 23] = [
        Self::UnknownPort,
        Self::Malformed,
        Self::UnsupportedProtocol,
        Self::SpoofedMac,
        Self::SpoofedAddress,
        Self::Multicast,
        Self::NoRoute,
        Self::NoEndpoint,
        Self::NodeAddress,
        Self::UnknownVtep,
        Self::UnknownVni,
        Self::TunnelKey,
        Self::UnknownSteer,
        Self::HopStray,
        Self::NoInstance,
        Self::NoFlow,
        Self::HopBudget,
        Self::Frag,
        Self::TooBig,
        Self::GatewayService,
        Self::NoVtep,
        Self::ForeignMac,
        Self::SourceRoute,
    ];

    /// Size of the per-CPU counter array (index = number; 0 is unused, the rest is room to grow).
    pub const SLOTS: u32 = 64;

    /// The name in files, metrics and traces.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownPort => "unknown_port",
            Self::Malformed => "malformed",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::SpoofedMac => "spoofed_mac",
            Self::SpoofedAddress => "spoofed_address",
            Self::Multicast => "multicast",
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::NodeAddress => "node_address",
            Self::UnknownVtep => "unknown_vtep",
            Self::UnknownVni => "unknown_vni",
            Self::TunnelKey => "tunnel_key",
            Self::UnknownSteer => "unknown_steer",
            Self::HopStray => "hop_stray",
            Self::NoInstance => "no_instance",
            Self::NoFlow => "no_flow",
            Self::HopBudget => "hop_budget",
            Self::Frag => "frag",
            Self::TooBig => "too_big",
            Self::GatewayService => "gateway_service",
            Self::NoVtep => "no_vtep",
            Self::ForeignMac => "foreign_mac",
            Self::SourceRoute => "source_route",
        }
    }

    /// The reason with this number.
    pub const fn from_number(number: u8) -> Option<DropReason> {
        if number == 0 || number as usize > Self::ALL.len() {
            return None;
        }
        Some(Self::ALL[number as usize - 1])
    }
}
