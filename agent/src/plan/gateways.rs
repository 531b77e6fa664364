//! Which networks have a gateway on this node, and what it is to be: those whose endpoints here may reach outside, and
//! those in which a container of this node publishes a port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_overlay::documents::{Egress, NetworkSpec};
use weft_overlay::gateway::{GATEWAYS_MAX, Gateway};
use weft_overlay::mtu::network_mtu;
use weft_overlay::publish::Publish;
use weft_overlay::{ContainerRef, NetworkRef, NodeName, Vni};

use crate::local::{LocalGateway, LocalInterface, LocalState};
use crate::mirror::State;

/// What a gateway is wanted for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Flows to the outside may begin.
    pub egress: bool,
    /// Published ports and who answers there.
    pub published: BTreeSet<(Publish, IpAddr)>,
}

/// The gateways that node `me` is to have. `held` says whether a port of the node is held for a container: what is not,
/// is somebody else's.
pub fn wanted(
    state: &State,
    local: &LocalState,
    me: &NodeName,
    held: impl Fn(&ContainerRef, &Publish) -> bool,
) -> BTreeMap<NetworkRef, Wanted> {
    let mut all: BTreeMap<NetworkRef, Wanted> = BTreeMap::new();
    for (container, record) in &local.containers {
        let published = published(state, container, &record.uid, me);
        let mut offers = true;
        for interface in record.interfaces.iter().filter(|i| !i.hop) {
            let Some(network) = network_of(state, interface) else {
                continue;
            };
            let egress = network.egress == Egress::Nat;
            let ports: Vec<&Publish> = match offers {
                true => published.iter().filter(|p| held(container, p)).collect(),
                false => Vec::new(),
            };
            offers = false;
            if !egress && ports.is_empty() {
                continue;
            }
            let one = all.entry(interface.network.clone()).or_default();
            one.egress |= egress;
            for publish in ports {
                let addresses = interface.addresses.iter();
                one.published.extend(addresses.map(|a| (*publish, *a)));
            }
        }
    }
    all
}

/// The ports that a container offers while it is to run as it was made here.
pub fn published<'a>(
    state: &'a State,
    container: &ContainerRef,
    uid: &str,
    me: &NodeName,
) -> &'a [Publish] {
    let doc = state.containers.get(container).map(|doc| &doc.value);
    let doc = doc.filter(|spec| spec.node == *me && spec.running && spec.uid == uid);
    doc.map_or(&[], |spec| &spec.publish)
}

/// Its network, unless that is gone or was made anew.
fn network_of<'a>(state: &'a State, interface: &LocalInterface) -> Option<&'a NetworkSpec> {
    let doc = state.networks.get(&interface.network)?;
    (doc.value.vni == interface.vni).then_some(&doc.value)
}

/// The gateway of a network as it is to be made.
pub fn gateway(
    spec: &NetworkSpec,
    wanted: &Wanted,
    index: u16,
    (underlay_mtu, vtep): (u32, IpAddr),
) -> Gateway {
    Gateway {
        index,
        cidr4: spec.cidr4,
        cidr6: spec.cidr6,
        mtu: u32::from(network_mtu(spec, underlay_mtu, vtep)),
        underlay_mtu,
        egress: wanted.egress,
        published: wanted.published.clone(),
    }
}

/// Gives a network's gateway its number and port; `None` when all are taken.
pub fn number(local: &mut LocalState, network: &NetworkRef, vni: Vni) -> Option<LocalGateway> {
    if let Some(has) = local.gateways.get(network) {
        return Some(*has);
    }
    let taken: BTreeSet<u16> = local.gateways.values().map(|g| g.index).collect();
    let index = (0..GATEWAYS_MAX).find(|index| !taken.contains(index))?;
    let port = local.take_port()?;
    let one = LocalGateway { index, vni, port };
    local.gateways.insert(network.clone(), one);
    Some(one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalContainer;
    use weft_overlay::{Mac, PortId};

    fn state(egress: &str, running: bool) -> State {
        let mut s = State::default();
        let mut put =
            |key: &str, value: &str| s.put(&format!("/weft/v1/{key}"), value.as_bytes(), 1);
        let spec =
            format!(r#"{{"vni":1,"cidr4":"10.10.0.0/16","subnet_len4":26,"egress":"{egress}"}}"#);
        put("tenants/red/networks/front/spec", &spec);
        put(
            "tenants/red/networks/back/spec",
            &spec.replace(":1,", ":2,"),
        );
        let container = format!(
            r#"{{"uid":"u","image":"host","command":["x"],"node":"n1","running":{running},"publish":["8080:tcp/80"]}}"#
        );
        put("tenants/red/containers/a/spec", &container);
        s
    }

    fn local() -> LocalState {
        let interface = |network: &str, vni, address: &str, hop| LocalInterface {
            interface: "eth0".parse().unwrap(),
            endpoint: "a".parse().unwrap(),
            network: network.parse().unwrap(),
            vni: Vni::new(vni).unwrap(),
            addresses: vec![address.parse().unwrap()],
            mac: Mac([2; 6]),
            port: PortId(7),
            hop,
            tap: None,
        };
        let record = LocalContainer {
            uid: "u".into(),
            interfaces: vec![
                interface("red/gone", 1, "10.1.0.2", true),
                interface("red/front", 1, "10.10.0.2", false),
                interface("red/back", 2, "10.10.0.3", false),
            ],
            ..Default::default()
        };
        let mut local = LocalState::default();
        local.containers.insert("red/a".parse().unwrap(), record);
        local
    }

    fn all(_: &ContainerRef, _: &Publish) -> bool {
        true
    }

    #[test]
    fn a_port_that_is_not_held_for_it_is_not_offered() {
        let me = "n1".parse().unwrap();
        assert!(wanted(&state("none", true), &local(), &me, |_, _| false).is_empty());
    }

    #[test]
    fn a_published_port_leads_to_the_first_interface_that_has_an_address() {
        let me = "n1".parse().unwrap();
        let found = wanted(&state("none", true), &local(), &me, all);
        assert_eq!(found.len(), 1);
        let front = &found[&"red/front".parse().unwrap()];
        let port = ("8080:tcp/80".parse().unwrap(), "10.10.0.2".parse().unwrap());
        assert_eq!(front.published, BTreeSet::from([port]));
        assert!(!front.egress);
        // Stopped, elsewhere, or made anew: nobody answers there.
        assert!(wanted(&state("none", false), &local(), &me, all).is_empty());
        assert!(wanted(&state("none", true), &local(), &"n2".parse().unwrap(), all).is_empty());
    }

    #[test]
    fn a_network_that_may_reach_outside_has_a_gateway_where_it_has_endpoints() {
        let me = "n1".parse().unwrap();
        let found = wanted(&state("nat", false), &local(), &me, all);
        assert_eq!(found.len(), 2);
        assert!(found.values().all(|w| w.egress && w.published.is_empty()));
        assert!(wanted(&state("nat", true), &LocalState::default(), &me, all).is_empty());
    }

    #[test]
    fn numbers_are_given_once_and_again_when_they_are_free() {
        let mut local = LocalState::default();
        let [a, b]: [NetworkRef; 2] = ["red/a", "red/b"].map(|n| n.parse().unwrap());
        let vni = Vni::new(1).unwrap();
        let first = number(&mut local, &a, vni).unwrap();
        assert_eq!(number(&mut local, &a, vni).unwrap(), first);
        assert_eq!(number(&mut local, &b, vni).unwrap().index, 1);
        local.gateways.remove(&a);
        let again = number(&mut local, &"red/c".parse().unwrap(), vni).unwrap();
        assert_eq!(again.index, 0);
        assert_ne!(again.port, first.port, "ports are never given twice");
    }
}
