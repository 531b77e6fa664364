//! What is asked of links, and what was seen of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::ids::Mac;

/// What a link is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// A learning bridge.
    Bridge,
    /// One end of a pair.
    Veth,
    /// A tunnel device.
    Vxlan,
    /// Another kind, by the kernel's name.
    Other(String),
    /// A device of a driver: a network card, loopback.
    Device,
}

/// A link as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// The link it is a port of.
    pub master: Option<u32>,
    /// A veth's other end: its number in its own namespace.
    pub peer: Option<u32>,
    /// What a VXLAN device is set to.
    pub vxlan: Option<VxlanInfo>,
}

/// What a VXLAN device is set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VxlanInfo {
    /// UDP port.
    pub port: u16,
    /// Tunnel keys come with each packet (`external`).
    pub external: bool,
    /// Learns senders.
    pub learning: bool,
    /// Outer UDP checksum over IPv4.
    pub udp_csum: bool,
    /// No outer UDP checksum over IPv6.
    pub udp6_zero_csum_tx: bool,
}

/// The node's tunnel device: `external`, learning off, outer UDP checksum on (without it, receivers
/// cannot merge segments).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanSpec {
    /// Its name.
    pub name: String,
    /// UDP port; one `external` device fits per port and namespace.
    pub port: u16,
    /// MTU of what it carries: the underlay's less the encapsulation.
    pub mtu: u32,
    /// Its own address, which must never be an inner packet's source; random without it.
    pub mac: Option<Mac>,
}

impl VxlanSpec {
    /// The device of a node: on `port`, over an underlay of MTU `underlay` with VTEPs like `vtep`.
    pub fn over(name: impl Into<String>, port: u16, underlay: u32, vtep: IpAddr) -> VxlanSpec {
        VxlanSpec {
            name: name.into(),
            port,
            mtu: u32::from(crate::mtu::overlay_mtu(underlay, vtep)),
            mac: None,
        }
    }

    /// What a device made by it is set to.
    pub fn flags(&self) -> VxlanInfo {
        VxlanInfo {
            port: self.port,
            external: true,
            learning: false,
            udp_csum: true,
            udp6_zero_csum_tx: false,
        }
    }
}

/// A veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethSpec {
    /// This end.
    pub name: String,
    /// This end's address; random without it.
    pub mac: Option<Mac>,
    /// The other end, in its namespace.
    pub peer_name: String,
    /// The other end's address; random without it.
    pub peer_mac: Option<Mac>,
    /// MTU of both ends.
    pub mtu: u32,
}

impl LinkInfo {
    /// Whether it is a device of drivers/net/tun.c that carries Ethernet frames: the others have no address.
    pub fn is_tap(&self) -> bool {
        self.kind == LinkKind::Other("tun".to_owned()) && self.mac.is_some()
    }
}

/// A link that should exist and be up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredLink {
    /// A tunnel device.
    Vxlan(VxlanSpec),
    /// A bridge, by name.
    Bridge(String),
    /// A port: this end of a pair, without IPv6 of its own.
    Veth(VethSpec),
}

impl DesiredLink {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Vxlan(spec) => &spec.name,
            Self::Bridge(name) => name,
            Self::Veth(spec) => &spec.name,
        }
    }
    /// What it is.
    pub fn kind(&self) -> LinkKind {
        match self {
            Self::Vxlan(_) => LinkKind::Vxlan,
            Self::Bridge(_) => LinkKind::Bridge,
            Self::Veth(_) => LinkKind::Veth,
        }
    }
    /// The MTU it is to have; `None`: any.
    pub fn mtu(&self) -> Option<u32> {
        match self {
            Self::Vxlan(spec) => Some(spec.mtu),
            Self::Bridge(_) => None,
            Self::Veth(spec) => Some(spec.mtu),
        }
    }
}

/// An address of a link as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressInfo {
    /// The link's name.
    pub link: String,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Duplicate address detection has not ended.
    pub tentative: bool,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// To where.
    pub destination: IpNet,
    /// By whom; none: directly.
    pub gateway: Option<IpAddr>,
    /// Out of which link.
    pub link: String,
    /// Take the gateway to be on the link, whatever the addresses say.
    pub onlink: bool,
}

impl Route {
    /// Directly reachable on `link`.
    pub fn direct(destination: IpNet, link: impl Into<String>) -> Route {
        Route {
            destination,
            gateway: None,
            link: link.into(),
            onlink: false,
        }
    }
    /// By way of `gateway` on `link`.
    pub fn via(destination: IpNet, gateway: IpAddr, link: impl Into<String>) -> Route {
        Route {
            destination,
            gateway: Some(gateway),
            link: link.into(),
            onlink: true,
        }
    }
}

/// The inside of one interface of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerNet {
    /// Its name inside.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses, set as /32 and /128; none on a hop's interface.
    pub addresses: Vec<IpAddr>,
    /// The IPv4 gateway.
    pub gateway4: Option<Ipv4Addr>,
    /// The IPv6 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// What lies behind the gateway: the network's ranges, and `DEFAULT4`, `DEFAULT6` on the
    /// interface that everything else takes (the container's first).
    pub routes: Vec<IpNet>,
    /// A hop's interface: no addresses, no IPv6, nothing but steered frames.
    pub hop: bool,
}

/// 0.0.0.0/0
pub const DEFAULT4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
/// ::/0
pub const DEFAULT6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

impl ContainerNet {
    /// An interface of a hop.
    pub fn hop(interface: impl Into<String>, mac: Mac, mtu: u32) -> ContainerNet {
        ContainerNet {
            interface: interface.into(),
            mac,
            mtu,
            addresses: Vec::new(),
            gateway4: None,
            gateway6: None,
            routes: Vec::new(),
            hop: true,
        }
    }

    /// An ordinary interface in a network: its ranges by the gateway, and everything else too if it
    /// is the container's first.
    pub fn ordinary(
        interface: impl Into<String>,
        mac: Mac,
        mtu: u32,
        addresses: Vec<IpAddr>,
        spec: &crate::documents::NetworkSpec,
        first: bool,
    ) -> ContainerNet {
        let mut routes: Vec<IpNet> = crate::network::ranges(spec)
            .into_iter()
            .map(|(c, _)| c)
            .collect();
        if first {
            routes.extend([DEFAULT4, DEFAULT6]);
        }
        ContainerNet {
            interface: interface.into(),
            mac,
            mtu,
            gateway4: spec.cidr4.map(|c| crate::network::gateway4(&c)),
            gateway6: spec.cidr6.map(|_| crate::network::GATEWAY6),
            addresses,
            routes,
            hop: false,
        }
    }
}
