//! What should happen to a packet, decided from the documents in the store alone: the second of two independent
//! answers. The first is the maps that `plan::tables` makes and the programs that read them; both share types
//! with this and no decision.
//!
//! - `packet`: what a frame says, or that it cannot be read. `tunnel`: what packet and outer header say of each other.
//!
//! Owns: the fate of a packet in networks that no chain concerns. Never: maps, ports or interface indexes; a
//! chain's hops, so a tenant with a chain is [`Fate::Undecided`].

use std::net::{IpAddr, Ipv6Addr};

use weft_ebpf_abi::{DropReason, GATEWAY_MAC};
use weft_overlay::documents::{ContainerSpec, Egress, EndpointDoc, NetworkSpec};
use weft_overlay::gateway::TRANSIT6;
use weft_overlay::{EndpointRef, NetworkRef, NodeName, Vni};

use crate::mirror::State;

mod packet;
#[cfg(test)]
mod tests;
mod tunnel;

use packet::{Arp, Frame, Internet, Solicitation};
pub use tunnel::Marks;

/// The IPv6 gateway of every network.
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Where a packet enters a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// An endpoint of this node sent it.
    Endpoint(EndpointRef),
    /// It came through the tunnel.
    Overlay {
        /// The outer source.
        vtep: IpAddr,
        /// The network it says it is of.
        vni: u32,
    },
    /// The network's gateway passed it on; it comes from outside.
    Gateway(NetworkRef),
}

/// What should become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Given to an endpoint of this node, with its MAC and the gateway's.
    Deliver(EndpointRef),
    /// Sent, as it is, through the tunnel.
    Tunnel {
        /// Whose VTEP it is.
        node: NodeName,
        /// The outer destination.
        vtep: IpAddr,
        /// The network.
        vni: Vni,
    },
    /// Given, as it is, to the network's gateway on this node.
    Gateway(NetworkRef),
    /// The sender gets an answer from the gateway.
    Answer(Answer),
    /// Neither delivered nor a fault: a probe or an announcement of an address.
    Ignore,
    /// Dropped.
    Drop(DropReason),
    /// A chain may have a say, which this model does not follow.
    Undecided,
}

/// What the gateway says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// ARP: the address has the gateway's MAC.
    Arp,
    /// Neighbour advertisement: the same.
    Advertisement,
    /// ICMP: so many bytes of IP packet fit, no more.
    TooBig(u32),
}

/// A node and what it knows of itself.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    /// The documents.
    pub state: &'a State,
    /// The node that decides.
    pub node: &'a NodeName,
    /// MTU of its underlay, bytes.
    pub underlay_mtu: u32,
}

impl Model<'_> {
    /// The fate of the frame (from Ethernet on) that enters here.
    pub fn fate(&self, ingress: &Ingress, frame: &[u8]) -> Fate {
        let decided = match ingress {
            Ingress::Endpoint(endpoint) => self.sent(endpoint, frame),
            Ingress::Overlay { vtep, vni } => self.arrived(*vtep, *vni, frame),
            Ingress::Gateway(network) => self.came_in(network, frame),
        };
        decided.unwrap_or_else(Fate::Drop)
    }

    fn sent(&self, from: &EndpointRef, bytes: &[u8]) -> Result<Fate, DropReason> {
        let endpoint = self.state.endpoints.get(from);
        let endpoint = endpoint.map(|doc| &doc.value);
        let Some(endpoint) = endpoint.filter(|e| e.node == *self.node) else {
            return Err(DropReason::UnknownPort);
        };
        let network = network_of(from);
        let spec = self.state.networks.get(&network).map(|doc| &doc.value);
        let spec = spec.ok_or(DropReason::UnknownPort)?;
        if self.chained(&network) {
            return Ok(Fate::Undecided);
        }
        let frame = Frame::read(bytes).ok_or(DropReason::Malformed)?;
        if frame.source != endpoint.mac.0 {
            return Err(DropReason::SpoofedMac);
        }
        if let Some(arp) = frame.arp() {
            return resolve4(&arp?, endpoint, spec);
        }
        let packet = frame.internet()?;
        if let Some(solicitation) = packet.solicitation() {
            return resolve6(&solicitation?, endpoint, spec);
        }
        if frame.destination[0] & 1 == 1 {
            return Err(DropReason::Multicast);
        }
        if frame.destination != GATEWAY_MAC {
            return Err(DropReason::ForeignMac);
        }
        if !endpoint.addresses.contains(&packet.source) {
            return Err(DropReason::SpoofedAddress);
        }
        self.forward(&network, spec, &packet)
    }

    /// By owner of the address, then by whoever leases its subnet.
    fn forward(
        &self,
        network: &NetworkRef,
        spec: &NetworkSpec,
        packet: &Internet<'_>,
    ) -> Result<Fate, DropReason> {
        let owner = self.owner(network, packet.destination);
        if let Some((name, endpoint)) = owner {
            if endpoint.node == *self.node {
                return Ok(Fate::Deliver(name.clone()));
            }
            return self.tunnel(&endpoint.node, spec, packet);
        }
        if is_gateway(spec, packet.destination) {
            return if self.has_gateway(network, spec) {
                Ok(Fate::Gateway(network.clone()))
            } else {
                Err(DropReason::GatewayService)
            };
        }
        if !in_network(spec, packet.destination) {
            return self.outside(network, spec, packet.destination);
        }
        let leases = self.state.subnets.get(network).into_iter().flatten();
        let holder = leases
            .filter(|(net, _)| net.contains(&packet.destination))
            .map(|(_, lease)| &lease.value.node)
            .find(|node| self.state.nodes.contains_key(node));
        match holder {
            Some(node) if node != self.node => self.tunnel(node, spec, packet),
            _ => Err(DropReason::NoEndpoint),
        }
    }

    fn outside(
        &self,
        network: &NetworkRef,
        spec: &NetworkSpec,
        address: IpAddr,
    ) -> Result<Fate, DropReason> {
        let mut nodes = self.state.nodes.values();
        if nodes.any(|doc| doc.value.vteps.contains(&address)) {
            Err(DropReason::NodeAddress)
        } else if !self.has_gateway(network, spec) {
            Err(DropReason::NoRoute)
        } else if is_of_a_node(address) {
            Err(DropReason::NodeAddress)
        } else {
            Ok(Fate::Gateway(network.clone()))
        }
    }

    /// Whether the network has a gateway on this node, which has an endpoint there.
    fn has_gateway(&self, network: &NetworkRef, spec: &NetworkSpec) -> bool {
        let offers = |container: &ContainerSpec| {
            let mut interfaces = container.interfaces.iter().filter(|i| !i.hop);
            let first = interfaces.next().map(|i| &i.network);
            let here = container.running && container.node == *self.node;
            here && !container.publish.is_empty() && first == Some(&network.network)
        };
        let tenant = &network.tenant;
        let mut containers = self.state.containers.iter();
        spec.egress == Egress::Nat
            || containers.any(|(name, doc)| name.tenant == *tenant && offers(&doc.value))
    }

    /// From outside, to an endpoint of this node or nobody.
    fn came_in(&self, network: &NetworkRef, bytes: &[u8]) -> Result<Fate, DropReason> {
        let frame = Frame::read(bytes).ok_or(DropReason::Malformed)?;
        let spec = self.state.networks.get(network).map(|doc| &doc.value);
        let spec = spec.ok_or(DropReason::UnknownVni)?;
        if frame.destination[0] & 1 == 1 {
            return Ok(Fate::Ignore);
        }
        let packet = frame.internet()?;
        if in_network(spec, packet.source) && !is_gateway(spec, packet.source) {
            return Err(DropReason::SpoofedAddress);
        }
        match self.owner(network, packet.destination) {
            Some((name, endpoint)) if endpoint.node == *self.node => {
                Ok(Fate::Deliver(name.clone()))
            }
            _ => Err(DropReason::NoEndpoint),
        }
    }

    fn tunnel(
        &self,
        to: &NodeName,
        spec: &NetworkSpec,
        packet: &Internet<'_>,
    ) -> Result<Fate, DropReason> {
        let node = self.state.nodes.get(to).ok_or(DropReason::NoVtep)?;
        let vtep = *node.value.vteps.first().ok_or(DropReason::NoVtep)?;
        // RFC 7348 section 5: outer IP, UDP 8, VXLAN 8 and the inner Ethernet 14.
        let outer = if vtep.is_ipv4() { 20 } else { 40 };
        let theirs = node.value.mtu.unwrap_or(u32::MAX);
        let fits = self
            .underlay_mtu
            .min(theirs)
            .saturating_sub(outer + 8 + 8 + 14);
        if packet.bytes > fits {
            return if packet.may_be_answered() {
                Ok(Fate::Answer(Answer::TooBig(fits)))
            } else {
                Err(DropReason::TooBig)
            };
        }
        Ok(Fate::Tunnel {
            node: to.clone(),
            vtep,
            vni: spec.vni,
        })
    }

    fn arrived(&self, vtep: IpAddr, vni: u32, bytes: &[u8]) -> Result<Fate, DropReason> {
        let frame = Frame::read(bytes).ok_or(DropReason::Malformed)?;
        let mut nodes = self.state.nodes.values();
        if !nodes.any(|doc| doc.value.vteps.contains(&vtep)) {
            return Err(DropReason::UnknownVtep);
        }
        let packet = frame.internet()?;
        let mut networks = self.state.networks.iter();
        let network = networks.find(|(name, doc)| {
            doc.value.vni.get() == vni
                && (self.state.endpoints_of(name)).any(|(_, e)| e.node == *self.node)
        });
        let (network, _) = network.ok_or(DropReason::UnknownVni)?;
        if self.chained(network) {
            return Ok(Fate::Undecided);
        }
        match self.owner(network, packet.destination) {
            Some((name, endpoint)) if endpoint.node == *self.node => {
                Ok(Fate::Deliver(name.clone()))
            }
            _ => Err(DropReason::NoEndpoint),
        }
    }

    /// Who has the address; what a node without a document has is nobody's.
    fn owner(&self, network: &NetworkRef, address: IpAddr) -> Option<(&EndpointRef, &EndpointDoc)> {
        let mut endpoints = self.state.endpoints.iter();
        let found = endpoints.find(|(name, doc)| {
            network_of(name) == *network
                && doc.value.addresses.contains(&address)
                && self.state.nodes.contains_key(&doc.value.node)
        });
        found.map(|(name, doc)| (name, &doc.value))
    }

    fn chained(&self, network: &NetworkRef) -> bool {
        let mut versions = self.state.versions.keys();
        versions.any(|(tenant, _, _)| *tenant == network.tenant)
    }
}

fn network_of(endpoint: &EndpointRef) -> NetworkRef {
    NetworkRef {
        tenant: endpoint.tenant.clone(),
        network: endpoint.network.clone(),
    }
}

fn in_network(spec: &NetworkSpec, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => spec.cidr4.is_some_and(|net| net.contains(&v4)),
        IpAddr::V6(v6) => spec.cidr6.is_some_and(|net| net.contains(&v6)),
    }
}

/// The IPv4 range's first address; IPv6 has fe80::1 in every network, which is in none.
fn is_gateway(spec: &NetworkSpec, address: IpAddr) -> bool {
    let first = spec.cidr4.and_then(|net| net.hosts().next());
    address == IpAddr::V6(GATEWAY6) || first.is_some_and(|gateway| address == IpAddr::V4(gateway))
}

/// Addresses that mean a node itself, its link, or nobody (RFC 6890), and those between nodes and gateways.
fn is_of_a_node(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let first = a.octets()[0];
            first == 0 || a.is_loopback() || a.is_link_local() || first >= 224
        }
        IpAddr::V6(a) => {
            let low = a.segments()[..4] == [0; 4];
            low || a.is_multicast() || a.is_unicast_link_local() || TRANSIT6.contains(&a)
        }
    }
}

/// Every address of the network but the asker's own has the gateway's MAC (RFC 826).
fn resolve4(arp: &Arp, from: &EndpointDoc, spec: &NetworkSpec) -> Result<Fate, DropReason> {
    if arp.sender_mac != from.mac.0 {
        return Err(DropReason::SpoofedMac);
    }
    // A probe (RFC 5227 section 2.1.1).
    if arp.sender.is_unspecified() {
        return Ok(Fate::Ignore);
    }
    if !from.addresses.contains(&IpAddr::V4(arp.sender)) {
        return Err(DropReason::SpoofedAddress);
    }
    if !arp.request || arp.sender == arp.target {
        return Ok(Fate::Ignore);
    }
    if !in_network(spec, IpAddr::V4(arp.target)) {
        return Err(DropReason::NoRoute);
    }
    Ok(Fate::Answer(Answer::Arp))
}

/// The same by neighbour discovery (RFC 4861 section 7.2).
fn resolve6(
    asked: &Solicitation,
    from: &EndpointDoc,
    spec: &NetworkSpec,
) -> Result<Fate, DropReason> {
    // Duplicate address detection (RFC 4862 section 5.4.2).
    if asked.sender.is_unspecified() {
        return Ok(Fate::Ignore);
    }
    let own = from.addresses.contains(&IpAddr::V6(asked.sender));
    if !own && !asked.sender.is_unicast_link_local() {
        return Err(DropReason::SpoofedAddress);
    }
    if asked.sender == asked.target {
        return Ok(Fate::Ignore);
    }
    if asked.target != GATEWAY6 && !in_network(spec, IpAddr::V6(asked.target)) {
        return Err(DropReason::NoRoute);
    }
    Ok(Fate::Answer(Answer::Advertisement))
}
