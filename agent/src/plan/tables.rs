//! What the datapath's maps are to hold, from documents and local records. The chains' part comes
//! compiled and is merged in.
//!
//! A network is there when it has a port here; with it its leases and every endpoint that is not where
//! its address's subnet is. Peers come from the nodes' permanent specs, never from who is alive now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_ebpf::Tables;
use weft_ebpf_abi as abi;
use weft_overlay::documents::{Copying, NetworkSpec};
use weft_overlay::mtu::{network_mtu, overlay_mtu};
use weft_overlay::network::gateway4;
use weft_overlay::{NetworkRef, NodeId, NodeName, PortId};

use crate::local::{LocalInterface, LocalState};
use crate::mirror::State;

/// What the tables are made from beside the documents.
#[derive(Clone, Debug)]
pub struct Here<'a> {
    /// This node's name.
    pub name: &'a NodeName,
    /// This node's id.
    pub id: NodeId,
    /// The host end of each port that exists.
    pub ifindexes: &'a BTreeMap<PortId, u32>,
    /// The gateways that exist: port and host end.
    pub gateways: &'a BTreeMap<NetworkRef, (PortId, u32)>,
    /// MTU of the underlay, bytes.
    pub underlay_mtu: u32,
}

/// An address as the maps have it.
pub fn map_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => abi::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// An address of the maps as people write it; `None` for all zeros.
pub fn plain_address(address: [u8; 16]) -> Option<IpAddr> {
    let v6 = std::net::Ipv6Addr::from(address);
    if v6.is_unspecified() {
        return None;
    }
    Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4))
}

/// The tables without the chains' part.
pub fn tables(state: &State, local: &LocalState, here: &Here<'_>) -> Tables {
    let mut tables = Tables::default();
    peers(state, here, &mut tables);
    let mut present: BTreeSet<&NetworkRef> = BTreeSet::new();
    for (_, interface) in local.interfaces() {
        let Some(&ifindex) = here.ifindexes.get(&interface.port) else {
            continue;
        };
        // The network is gone, or one of its name was made anew: the number may be another tenant's now.
        let network = state.networks.get(&interface.network);
        if network.is_none_or(|doc| doc.value.vni != interface.vni) {
            continue;
        }
        present.insert(&interface.network);
        let port = abi::Port {
            port: interface.port.0,
            vni: interface.vni.get(),
            flags: flags(interface),
            mac: interface.mac.0,
            pad: [0; 2],
            own: [
                own(interface, IpAddr::is_ipv4),
                own(interface, IpAddr::is_ipv6),
            ],
        };
        tables.ports.insert(ifindex, port);
        for address in &interface.addresses {
            let key = abi::EndpointKey {
                vni: interface.vni.get(),
                addr: map_address(*address),
            };
            let endpoint = abi::Endpoint {
                node: here.id.0,
                ifindex,
                port: interface.port.0,
                mac: interface.mac.0,
                flags: (flags(interface) & abi::PORT_NO_PEER) as u16,
            };
            tables.endpoints.insert(key, endpoint);
        }
    }
    for network in present {
        let Some(doc) = state.networks.get(network) else {
            continue;
        };
        carry(state, network, &doc.value, here, &mut tables);
        if let Some((port, ifindex)) = here.gateways.get(network) {
            let gateway = abi::Port {
                port: port.0,
                vni: doc.value.vni.get(),
                flags: abi::PORT_GATEWAY,
                mac: abi::GATEWAY_MAC,
                pad: [0; 2],
                own: [[0; 16]; 2],
            };
            tables.ports.insert(*ifindex, gateway);
        }
    }
    tables.complete_subnets();
    tables
}

/// The first address of a family.
fn own(interface: &LocalInterface, of: fn(&IpAddr) -> bool) -> [u8; 16] {
    let first = interface.addresses.iter().find(|address| of(address));
    first.map_or([0; 16], |address| map_address(*address))
}

/// What the tunnel of a network says as its packets say it.
fn uniform(spec: &NetworkSpec) -> u32 {
    let flag = |copying, flag| match copying {
        Copying::Uniform => flag,
        Copying::Pipe => 0,
    };
    flag(spec.dscp, abi::NETWORK_DSCP_UNIFORM) | flag(spec.ttl, abi::NETWORK_TTL_UNIFORM)
}

fn flags(interface: &LocalInterface) -> u32 {
    let hop = if interface.hop { abi::PORT_HOP } else { 0 };
    // A tap has no other end in this kernel.
    let tap = interface.tap.as_ref().map_or(0, |_| abi::PORT_NO_PEER);
    hop | tap
}

fn peers(state: &State, here: &Here<'_>, tables: &mut Tables) {
    for doc in state.nodes.values() {
        let node = doc.value.id.0;
        if let Some(vtep) = doc.value.vteps.first() {
            let both = here
                .underlay_mtu
                .min(doc.value.mtu.unwrap_or(here.underlay_mtu));
            let value = abi::Node {
                vtep: map_address(*vtep),
                mtu: u32::from(overlay_mtu(both, *vtep)),
                flags: 0,
            };
            tables.nodes.insert(node, value);
        }
        for vtep in &doc.value.vteps {
            tables.vteps.insert(
                abi::VtepKey {
                    addr: map_address(*vtep),
                },
                node,
            );
        }
    }
}

fn carry(
    state: &State,
    network: &NetworkRef,
    spec: &NetworkSpec,
    here: &Here<'_>,
    tables: &mut Tables,
) {
    let vni = spec.vni.get();
    let vtep = state
        .nodes
        .get(here.name)
        .and_then(|d| d.value.vteps.first().copied())
        .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    let (net4, len4) = match spec.cidr4 {
        Some(net) => (abi::mapped(net.network().octets()), net.prefix_len()),
        None => ([0; 16], 0),
    };
    let (net6, len6) = match spec.cidr6 {
        Some(net) => (net.network().octets(), net.prefix_len()),
        None => ([0; 16], 0),
    };
    let value = abi::Network {
        net4,
        net6,
        gateway4: spec
            .cidr4
            .map_or([0; 16], |c| abi::mapped(gateway4(&c).octets())),
        flags: uniform(spec),
        len4,
        len6,
        subnet_len4: spec.subnet_len4.unwrap_or(len4),
        subnet_len6: spec.subnet_len6.unwrap_or(len6),
        mtu: u32::from(network_mtu(spec, here.underlay_mtu, vtep)),
        gateway: here
            .gateways
            .get(network)
            .map_or(0, |(_, ifindex)| *ifindex),
    };
    tables.networks.insert(vni, value);
    let mut owners: BTreeMap<IpNet, NodeId> = BTreeMap::new();
    for (net, lease) in state.subnets.get(network).into_iter().flatten() {
        let Some(owner) = state.nodes.get(&lease.value.node) else {
            continue;
        };
        owners.insert(*net, owner.value.id);
        let key = abi::SubnetKey {
            vni,
            addr: map_address(net.network()),
        };
        tables.subnets.insert(
            key,
            abi::Subnet {
                node: owner.value.id.0,
                ..abi::Subnet::default()
            },
        );
    }
    for (_, endpoint) in state.endpoints_of(network) {
        let Some(owner) = state.nodes.get(&endpoint.node) else {
            continue;
        };
        if endpoint.node == *here.name {
            continue;
        }
        for address in &endpoint.addresses {
            let home = owners
                .iter()
                .find(|(net, _)| net.contains(address))
                .map(|(_, node)| *node);
            if home == Some(owner.value.id) {
                continue;
            }
            let key = abi::EndpointKey {
                vni,
                addr: map_address(*address),
            };
            let value = abi::Endpoint {
                node: owner.value.id.0,
                mac: endpoint.mac.0,
                ..Default::default()
            };
            tables.endpoints.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalContainer;
    use weft_overlay::{Mac, Vni};

    fn state() -> State {
        let mut s = State::default();
        let mut put =
            |key: &str, value: &str| s.put(&format!("/weft/v1/{key}"), value.as_bytes(), 1);
        for i in 1..=3 {
            let spec = format!(r#"{{"id":{i},"vteps":["192.0.2.{i}"],"api":"192.0.2.{i}:7946"}}"#);
            put(&format!("nodes/n{i}/spec"), &spec);
        }
        let spec = r#"{"vni":1,"cidr4":"10.10.0.0/16","subnet_len4":26}"#;
        put("tenants/red/networks/front/spec", spec);
        put(
            "tenants/blue/networks/front/spec",
            &spec.replace(":1", ":2"),
        );
        put(
            "tenants/red/networks/front/subnets/10.10.0.0-26",
            r#"{"node":"n1","since":1}"#,
        );
        put(
            "tenants/red/networks/front/subnets/10.10.0.64-26",
            r#"{"node":"n2","since":1}"#,
        );
        put(
            "tenants/blue/networks/front/subnets/10.10.0.0-26",
            r#"{"node":"n3","since":1}"#,
        );
        s
    }

    fn local() -> LocalState {
        let mut local = LocalState::default();
        let interface = LocalInterface {
            interface: "eth0".parse().unwrap(),
            endpoint: "a".parse().unwrap(),
            network: "red/front".parse().unwrap(),
            vni: Vni::new(1).unwrap(),
            addresses: vec!["10.10.0.2".parse().unwrap()],
            mac: Mac([2; 6]),
            port: PortId(7),
            hop: false,
            tap: None,
        };
        let record = LocalContainer {
            interfaces: vec![interface],
            ..Default::default()
        };
        local.containers.insert("red/a".parse().unwrap(), record);
        local
    }

    fn here<'a>(name: &'a NodeName, ifindexes: &'a BTreeMap<PortId, u32>) -> Here<'a> {
        static NONE: BTreeMap<NetworkRef, (PortId, u32)> = BTreeMap::new();
        Here {
            gateways: &NONE,
            name,
            id: NodeId(1),
            ifindexes,
            underlay_mtu: 1500,
        }
    }

    #[test]
    fn only_networks_with_a_port_here_are_carried() {
        let (name, ifindexes) = ("n1".parse().unwrap(), BTreeMap::from([(PortId(7), 40)]));
        let t = tables(&state(), &local(), &here(&name, &ifindexes));
        assert_eq!(t.ports[&40].port, 7);
        assert_eq!(t.networks.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(t.networks[&1].mtu, 1450);
        assert_eq!(t.networks[&1].gateway4, abi::mapped([10, 10, 0, 1]));
        assert_eq!(t.subnets.len(), 2);
        assert_eq!(t.vteps.len(), 3);
        assert!(t.subnets.keys().all(|k| k.vni == 1));
    }

    #[test]
    fn a_port_of_a_network_that_is_gone_or_made_anew_carries_nothing() {
        let (name, ifindexes) = ("n1".parse().unwrap(), BTreeMap::from([(PortId(7), 40)]));
        let path = "/weft/v1/tenants/red/networks/front/spec";
        let mut anew = state();
        anew.put(
            path,
            br#"{"vni":9,"cidr4":"10.10.0.0/16","subnet_len4":26}"#,
            2,
        );
        let mut gone = state();
        gone.delete(path);
        for s in [anew, gone] {
            let t = tables(&s, &local(), &here(&name, &ifindexes));
            assert!(t.ports.is_empty() && t.endpoints.is_empty() && t.networks.is_empty());
        }
    }

    #[test]
    fn a_port_without_a_device_is_left_out() {
        let (name, ifindexes) = ("n1".parse().unwrap(), BTreeMap::new());
        let t = tables(&state(), &local(), &here(&name, &ifindexes));
        assert!(t.ports.is_empty() && t.endpoints.is_empty() && t.networks.is_empty());
        assert_eq!(t.nodes.len(), 3);
    }

    #[test]
    fn an_endpoint_away_from_its_subnet_has_its_own_entry() {
        let mut s = state();
        let doc = |a: &str| {
            format!(
                r#"{{"uid":"u","addresses":["{a}"],"mac":"0a:00:00:00:00:01","node":"n2","container":"b","interface":"eth0"}}"#
            )
        };
        s.put(
            "/weft/v1/tenants/red/networks/front/endpoints/b",
            doc("10.10.0.70").as_bytes(),
            2,
        );
        s.put(
            "/weft/v1/tenants/red/networks/front/endpoints/c",
            doc("10.10.9.9").as_bytes(),
            2,
        );
        let (name, ifindexes) = ("n1".parse().unwrap(), BTreeMap::from([(PortId(7), 40)]));
        let t = tables(&s, &local(), &here(&name, &ifindexes));
        let moved = abi::EndpointKey {
            vni: 1,
            addr: abi::mapped([10, 10, 9, 9]),
        };
        assert_eq!(t.endpoints[&moved].node, 2);
        assert_eq!(
            t.endpoints.len(),
            2,
            "the one inside its node's subnet needs none"
        );
    }

    #[test]
    fn a_subnet_says_where_its_node_is_and_which_of_its_addresses_are_elsewhere() {
        let mut s = state();
        let doc = r#"{"uid":"u","addresses":["10.10.0.70"],"mac":"0a:00:00:00:00:01","node":"n3","container":"b","interface":"eth0"}"#;
        let key = "/weft/v1/tenants/red/networks/front/endpoints/b";
        s.put(key, doc.as_bytes(), 2);
        let (name, ifindexes) = ("n1".parse().unwrap(), BTreeMap::from([(PortId(7), 40)]));
        let t = tables(&s, &local(), &here(&name, &ifindexes));
        let of = |last| {
            let addr = abi::mapped([10, 10, 0, last]);
            t.subnets[&abi::SubnetKey { vni: 1, addr }]
        };
        assert_eq!(of(64).moved, 1 << (70 - 64));
        assert_eq!(of(64).vtep, abi::mapped([192, 0, 2, 2]));
        // Its own endpoint, which the port names too.
        assert_eq!(of(0).moved, 1 << 2);
        assert_eq!(t.ports[&40].own, [abi::mapped([10, 10, 0, 2]), [0; 16]]);
    }
}
