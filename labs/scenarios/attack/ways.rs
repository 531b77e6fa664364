//! The ways out, and who takes part.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::frames::{
    ARP, ICMP, ICMP6, IPIP, IPV4, IPV6, LLDP, Mac, SERVICE_TAG, TAG, TCP, UDP, arp, ethernet, ipv4,
    ipv6, neighbour, syn, udp, vxlan,
};
use crate::lab::{Lab, node_address, objects, six};

/// In every frame, behind what makes it an attack.
pub const MARK: &[u8] = b"forged by mallory";
/// Of every network, and what the datapath writes for a chain: a position, and a port (`weft-ebpf-abi`).
const GATEWAY: Mac = [0x0a, 0x77, 0x65, 0x66, 0x74, 0x01];
const POSITION: Mac = [0x0a, 0x77, 0x44, 0, 0, 4];
const PORT: Mac = [0x0a, 0x77, 0x53, 0, 0, 1];
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL: Mac = [0xff; 6];
const OTHER_NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 13);

/// Who they are.
pub struct Cast {
    pub mac: Mac,
    pub own: Ipv4Addr,
    own6: Ipv6Addr,
    near: Ipv4Addr,
    near6: Ipv6Addr,
    near_mac: Mac,
    pub far: Ipv4Addr,
    far6: Ipv6Addr,
    vault: Ipv4Addr,
    vault6: Ipv6Addr,
    /// Link-local addresses that mallory's kernel made, or could.
    local6: Ipv6Addr,
}

/// A way out: what it is, the reason it is dropped for, the frame.
pub type Way = (&'static str, &'static str, Vec<u8>);

impl Cast {
    pub fn of(lab: &Lab) -> Cast {
        let show = |name: &str| {
            let line = ["weft", "endpoint", "show", name, "--json"];
            let shown = objects(&lab.must("n1", &line));
            shown.into_iter().next().expect("the endpoint")
        };
        let (mallory, near) = (show("red/front/mallory"), show("red/front/near"));
        let (far, vault) = (show("red/front/far"), show("red/back/vault"));
        Cast {
            mac: mac(&mallory),
            own: v4(&mallory),
            own6: v6(&mallory),
            near: v4(&near),
            near6: v6(&near),
            near_mac: mac(&near),
            far: v4(&far),
            far6: v6(&far),
            vault: v4(&vault),
            vault6: v6(&vault),
            local6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x66),
        }
    }

    pub fn frame(&self, kind: u16, packet: &[u8]) -> Vec<u8> {
        ethernet(GATEWAY, self.mac, kind, packet)
    }

    /// A datagram between two addresses, otherwise honest.
    pub fn says(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        self.frame(IPV4, &ipv4(from, to, UDP, 0, &[], &udp(9000, MARK)))
    }

    fn says6(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        self.frame(IPV6, &ipv6(from, to, UDP, &udp(9000, MARK)))
    }

    pub fn to(&self, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        self.frame(IPV4, &ipv4(self.own, to, protocol, 0, &[], payload))
    }

    /// To a node by its number, whatever family it is known by.
    pub fn to_node(&self, number: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match node_address(number) {
            IpAddr::V4(to) => self.to(to, protocol, payload),
            IpAddr::V6(to) => self.to6(to, protocol, payload),
        }
    }

    pub fn says6_own(&self, to: Ipv6Addr) -> Vec<u8> {
        self.says6(self.own6, to)
    }

    fn to6(&self, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
        self.frame(IPV6, &ipv6(self.own6, to, next, payload))
    }
}

fn mac(endpoint: &Value) -> Mac {
    let text = endpoint["mac"].as_str().expect("a MAC");
    let bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
    bytes.collect::<Vec<u8>>().try_into().expect("six bytes")
}

fn addresses(endpoint: &Value) -> impl Iterator<Item = IpAddr> {
    let all = endpoint["addresses"].as_array().expect("addresses");
    all.iter()
        .map(|one| one.as_str().expect("text").parse().expect("an address"))
}

fn v4(endpoint: &Value) -> Ipv4Addr {
    let mut all = addresses(endpoint);
    all.find_map(|one| match one {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    })
    .expect("an IPv4 address")
}

fn v6(endpoint: &Value) -> Ipv6Addr {
    let mut all = addresses(endpoint);
    all.find_map(|one| match one {
        IpAddr::V6(v6) => Some(v6),
        IpAddr::V4(_) => None,
    })
    .expect("an IPv6 address")
}

/// To be somebody else.
fn forged_senders(c: &Cast) -> Vec<Way> {
    let other: Mac = [0x0a, 0x58, 1, 2, 3, 4];
    let datagram = ipv4(c.own, c.far, UDP, 0, &[], &udp(9000, MARK));
    vec![
        (
            "source address of a neighbour",
            "spoofed_address",
            c.says(c.near, c.far),
        ),
        (
            "source address of nobody",
            "spoofed_address",
            c.says(Ipv4Addr::new(10, 10, 77, 77), c.far),
        ),
        (
            "source address of the gateway",
            "spoofed_address",
            c.says(GATEWAY4, c.far),
        ),
        (
            "source address of a node",
            "spoofed_address",
            c.says(OTHER_NODE, c.far),
        ),
        (
            "no source address",
            "spoofed_address",
            c.says(Ipv4Addr::UNSPECIFIED, c.far),
        ),
        (
            "multicast as source address",
            "spoofed_address",
            c.says(Ipv4Addr::new(224, 0, 0, 1), c.far),
        ),
        (
            "IPv6 source address of a neighbour",
            "spoofed_address",
            c.says6(c.near6, c.far6),
        ),
        (
            "link-local source address",
            "spoofed_address",
            c.says6(c.local6, c.far6),
        ),
        (
            "source MAC of nobody, as behind an own bridge",
            "spoofed_mac",
            ethernet(GATEWAY, other, IPV4, &datagram),
        ),
        (
            "source MAC of a neighbour",
            "spoofed_mac",
            ethernet(GATEWAY, c.near_mac, IPV4, &datagram),
        ),
        (
            "source MAC of the gateway",
            "spoofed_mac",
            ethernet(c.mac, GATEWAY, IPV4, &datagram),
        ),
        (
            "source MAC of a chain's port",
            "spoofed_mac",
            ethernet(POSITION, PORT, IPV4, &datagram),
        ),
        (
            "redirect by the gateway",
            "spoofed_address",
            c.frame(
                IPV4,
                &ipv4(
                    GATEWAY4,
                    c.far,
                    ICMP,
                    0,
                    &[],
                    &[&[5, 1, 0, 0][..], &c.own.octets(), &datagram].concat(),
                ),
            ),
        ),
    ]
}

/// To take another's address.
fn forged_neighbours(c: &Cast) -> Vec<Way> {
    let asks = |mac, sender, target| ethernet(ALL, c.mac, ARP, &arp(1, mac, sender, target, MARK));
    let tells = |mac, sender| ethernet(c.near_mac, c.mac, ARP, &arp(2, mac, sender, c.near, MARK));
    let nd = |from, to, kind, target| {
        c.frame(
            IPV6,
            &ipv6(from, to, ICMP6, &neighbour(kind, target, c.mac, MARK)),
        )
    };
    let nodes: Ipv6Addr = "ff02::1".parse().expect("an address");
    let multicast = |frame: Vec<u8>| [&[0x33, 0x33, 0, 0, 0, 1], &frame[6..]].concat();
    let router = [
        &[134, 0, 0, 0, 64, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0][..],
        MARK,
    ]
    .concat();
    vec![
        (
            "ARP in a neighbour's name",
            "spoofed_address",
            asks(c.mac, c.near, c.far),
        ),
        (
            "ARP with another MAC inside",
            "spoofed_mac",
            asks(c.near_mac, c.own, c.far),
        ),
        (
            "gratuitous ARP for the gateway",
            "spoofed_address",
            asks(c.mac, GATEWAY4, GATEWAY4),
        ),
        (
            "gratuitous ARP for a neighbour",
            "spoofed_address",
            asks(c.mac, c.far, c.far),
        ),
        (
            "ARP answer for the gateway",
            "spoofed_address",
            tells(c.mac, GATEWAY4),
        ),
        (
            "ARP for another network",
            "no_route",
            asks(c.mac, c.own, c.vault),
        ),
        (
            "solicitation in a neighbour's name",
            "spoofed_address",
            nd(c.near6, c.far6, 135, c.far6),
        ),
        (
            "solicitation for another network",
            "no_route",
            nd(c.own6, c.vault6, 135, c.vault6),
        ),
        (
            "advertisement of a neighbour's address",
            "spoofed_address",
            nd(c.near6, c.far6, 136, c.near6),
        ),
        (
            "advertisement to all",
            "multicast",
            multicast(nd(c.own6, nodes, 136, c.near6)),
        ),
        (
            "router advertisement to all",
            "multicast",
            multicast(c.frame(IPV6, &ipv6(c.local6, nodes, ICMP6, &router))),
        ),
        (
            "router advertisement to one",
            "spoofed_address",
            c.frame(IPV6, &ipv6(c.local6, c.near6, ICMP6, &router)),
        ),
        (
            "redirect by the IPv6 gateway",
            "spoofed_address",
            nd(GATEWAY6, c.near6, 137, c.far6),
        ),
    ]
}

/// To places that no tenant may reach.
fn forbidden_places(c: &Cast) -> Vec<Way> {
    let far = IpAddr::V4(c.far);
    let datagram = ipv4(c.own, c.far, UDP, 0, &[], &udp(9000, MARK));
    let mapped = |to: Ipv4Addr| to.to_ipv6_mapped();
    let broadcast = Ipv4Addr::new(10, 10, 255, 255);
    vec![
        (
            "VXLAN to another node, another tenant's VNI",
            "node_address",
            c.to_node(3, UDP, &vxlan(3, far, MARK)),
        ),
        (
            "VXLAN to another node, IPv6 inside",
            "node_address",
            c.to_node(3, UDP, &vxlan(1, c.far6.into(), MARK)),
        ),
        (
            "VXLAN to the own node",
            "node_address",
            c.to_node(1, UDP, &vxlan(3, far, MARK)),
        ),
        (
            "IP in IP to a node",
            "node_address",
            c.to_node(3, IPIP, &datagram),
        ),
        (
            "the own node's store",
            "node_address",
            c.to_node(1, TCP, &syn(2379, MARK)),
        ),
        (
            "another node's agent",
            "node_address",
            c.to_node(3, TCP, &syn(7946, MARK)),
        ),
        (
            "a node, in fragments",
            "node_address",
            c.frame(
                IPV4,
                &ipv4(c.own, OTHER_NODE, UDP, 0x2000, &[], &udp(4789, MARK)),
            ),
        ),
        (
            "a node, later fragment",
            "node_address",
            c.frame(IPV4, &ipv4(c.own, OTHER_NODE, UDP, 2, &[], MARK)),
        ),
        (
            "another network of the tenant",
            "no_route",
            c.says(c.own, c.vault),
        ),
        (
            "another network of the tenant, IPv6",
            "no_route",
            c.says6(c.own6, c.vault6),
        ),
        (
            "link-local services",
            "no_route",
            c.says(c.own, Ipv4Addr::new(169, 254, 169, 254)),
        ),
        (
            "a link-local IPv6 address",
            "no_route",
            c.says6(c.own6, c.local6),
        ),
        ("loopback", "no_route", c.says(c.own, Ipv4Addr::LOCALHOST)),
        (
            "IPv6 loopback",
            "no_route",
            c.says6(c.own6, Ipv6Addr::LOCALHOST),
        ),
        (
            "the gateway itself",
            "gateway_service",
            c.to(GATEWAY4, TCP, &syn(22, MARK)),
        ),
        (
            "the IPv6 gateway itself",
            "gateway_service",
            c.to6(GATEWAY6, TCP, &syn(22, MARK)),
        ),
        (
            "the network's broadcast address",
            "no_endpoint",
            c.says(c.own, broadcast),
        ),
        (
            "limited broadcast to the gateway's MAC",
            "no_route",
            c.says(c.own, Ipv4Addr::BROADCAST),
        ),
        (
            "a node by IPv4-mapped IPv6",
            "malformed",
            c.says6(c.own6, mapped(OTHER_NODE)),
        ),
        (
            "from an IPv4-mapped IPv6 address",
            "malformed",
            c.says6(mapped(c.own), mapped(c.far)),
        ),
    ]
}

/// Frames that a parser might stumble over.
fn odd_shapes(c: &Cast) -> Vec<Way> {
    let route = |kind: u8| {
        // Through the neighbour to a node (RFC 791 section 3.1): type, length, pointer, addresses, end.
        let mut options = vec![kind, 11, 4];
        options.extend(c.near.octets());
        options.extend(OTHER_NODE.octets());
        options.push(0);
        c.frame(
            IPV4,
            &ipv4(c.own, c.far, UDP, 0, &options, &udp(9000, MARK)),
        )
    };
    // RFC 2460 section 4.4, forbidden by RFC 5095.
    let mut routing = vec![UDP, 2, 0, 1, 0, 0, 0, 0];
    routing.extend(c.near6.octets());
    routing.extend(udp(9000, MARK));
    let options = [[60u8, 0, 1, 4, 0, 0, 0, 0].repeat(7), udp(9000, MARK)].concat();
    let datagram = ipv4(c.own, c.far, UDP, 0, &[], &udp(9000, MARK));
    // Tag control information, then what is inside (IEEE 802.1Q section 9.5).
    let tag =
        |inner: u16, rest: &[u8]| [&7u16.to_be_bytes()[..], &inner.to_be_bytes(), rest].concat();
    let mut lying = datagram.clone();
    lying[0] = 0x44;
    let mut long = datagram.clone();
    long[0] = 0x4f;
    let mut version = datagram.clone();
    version[0] = 0x65;
    let at =
        |offset: u16, payload: &[u8]| c.frame(IPV4, &ipv4(c.own, c.far, TCP, offset, &[], payload));
    vec![
        ("loose source route", "source_route", route(131)),
        ("strict source route", "source_route", route(137)),
        (
            "IPv6 routing header of type 0",
            "source_route",
            c.to6(c.far6, 43, &routing),
        ),
        (
            "seven extension headers",
            "malformed",
            c.to6(c.far6, 60, &options),
        ),
        (
            "first fragment without its ports",
            "malformed",
            at(0x2000, &syn(80, MARK)[..8]),
        ),
        (
            "fragment over the ports of the first",
            "malformed",
            at(1, &syn(80, MARK)[8..]),
        ),
        ("Ethernet alone", "malformed", c.frame(IPV4, &[])),
        (
            "half an IP header",
            "malformed",
            c.frame(IPV4, &datagram[..12]),
        ),
        (
            "a header shorter than a header",
            "malformed",
            c.frame(IPV4, &lying),
        ),
        (
            "a header longer than the packet",
            "malformed",
            c.frame(IPV4, &long[..30]),
        ),
        (
            "another version than the frame says",
            "malformed",
            c.frame(IPV4, &version),
        ),
        (
            "a VLAN's tag",
            "unsupported_protocol",
            c.frame(TAG, &tag(IPV4, &datagram)),
        ),
        (
            "a service tag",
            "unsupported_protocol",
            c.frame(SERVICE_TAG, &tag(IPV4, &datagram)),
        ),
        (
            "two tags",
            "unsupported_protocol",
            c.frame(SERVICE_TAG, &tag(TAG, &tag(IPV4, &datagram))),
        ),
        ("LLDP", "unsupported_protocol", c.frame(LLDP, MARK)),
        (
            "a bridge's spanning tree",
            "unsupported_protocol",
            ethernet(
                [1, 0x80, 0xc2, 0, 0, 0],
                c.mac,
                38,
                &[&[0x42, 0x42, 3][..], MARK].concat(),
            ),
        ),
        (
            "past the gateway to a neighbour's MAC",
            "foreign_mac",
            ethernet(c.near_mac, c.mac, IPV4, &datagram),
        ),
        (
            "to a MAC of a chain",
            "foreign_mac",
            ethernet(POSITION, c.mac, IPV4, &datagram),
        ),
        (
            "Ethernet broadcast",
            "multicast",
            ethernet(ALL, c.mac, IPV4, &datagram),
        ),
        (
            "IPv4 multicast",
            "multicast",
            ethernet(
                [1, 0, 0x5e, 0, 0, 1],
                c.mac,
                IPV4,
                &ipv4(
                    c.own,
                    Ipv4Addr::new(224, 0, 0, 1),
                    UDP,
                    0,
                    &[],
                    &udp(9000, MARK),
                ),
            ),
        ),
    ]
}

/// All of them.
pub fn all(cast: &Cast) -> Vec<Way> {
    let groups = [
        forged_senders,
        forged_neighbours,
        forbidden_places,
        odd_shapes,
    ];
    let all = groups.iter().flat_map(|group| group(cast));
    // There is no address of IPv4 that is a node's on the other underlay.
    let of_ipv4 = ["a node, in fragments", "a node, later fragment"];
    all.filter(|(way, ..)| !six() || !of_ipv4.contains(way))
        .collect()
}
