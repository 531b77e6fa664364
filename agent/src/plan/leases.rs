//! Ports, subnets and addresses for a container that is to start here, and the care of this node's
//! leases: taken when first needed, marked held when their node is gone, taken back, returned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use weft_overlay::allocate::{AddressPool, FixedAddress, endpoint_mac};
use weft_overlay::documents::{ContainerSpec, NetworkSpec};
use weft_overlay::foreign::Foreign;
use weft_overlay::keys::Key;
use weft_overlay::leases::{
    LeaseChange, LeasePlan, LeaseRequest, mark_held, plan_lease, plan_returns, take_back_all,
};
use weft_overlay::naming::{NamedInterface, name_interfaces};
use weft_overlay::network::ranges;
use weft_overlay::{ContainerRef, EndpointRef, NetworkRef, NodeName};

use crate::local::{LocalContainer, LocalInterface, LocalState};
use crate::mirror::State;

/// How long an empty subnet is kept: a container that is replaced finds the same one.
pub const RETURN_AFTER: Duration = Duration::from_secs(600);

/// What preparing a container comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// Everything is at hand; the memory with the container in it.
    Ready(Box<LocalState>),
    /// These subnets are to be leased first.
    Lease(Vec<(NetworkRef, LeaseChange)>),
    /// These addresses are to be claimed first.
    Claim(Vec<(NetworkRef, IpAddr, EndpointRef)>),
    /// It cannot be now; why, and what to do.
    Blocked(String),
}

/// What a node is and knows when it prepares.
#[derive(Clone, Copy, Debug)]
pub struct Preparing<'a> {
    /// The documents.
    pub state: &'a State,
    /// The memory.
    pub local: &'a LocalState,
    /// This node.
    pub me: &'a NodeName,
    /// Unix ms.
    pub now: u64,
    /// How long subnets of others are held.
    pub hold: Duration,
    /// Drawn anew for each preparation.
    pub random: u32,
}

/// Plans ports, addresses and MACs of a container, or what must be had first.
pub fn prepare(p: &Preparing<'_>, container: &ContainerRef, spec: &ContainerSpec) -> Prepared {
    let named = match name_interfaces(container, &spec.interfaces) {
        Ok(named) => named,
        Err(e) => return Prepared::Blocked(format!("{e}; {}", e.help())),
    };
    let mut next = p.local.clone();
    let mut record = LocalContainer {
        uid: spec.uid.clone(),
        ..LocalContainer::default()
    };
    // The API lets nothing else in.
    let foreign = Foreign::of(&spec.image).unwrap_or_default();
    record.foreign = foreign.as_ref().map(ToString::to_string);
    let tap = match foreign {
        Some(Foreign::Tap(name)) => Some(name),
        _ => None,
    };
    let taken =
        (p.local.interfaces()).find(|(c, i)| *c != container && tap.is_some() && i.tap == tap);
    if let Some((other, _)) = taken {
        return Prepared::Blocked(format!(
            "{} has that tap device; detach it there, or name another",
            other
        ));
    }
    let (mut leases, mut claims) = (Vec::new(), Vec::new());
    for (index, interface) in named.iter().enumerate() {
        let network = NetworkRef {
            tenant: container.tenant.clone(),
            network: interface.spec.network.clone(),
        };
        let Some(doc) = p.state.networks.get(&network) else {
            return Prepared::Blocked(format!(
                "network {network} does not exist; make it, or remove the container"
            ));
        };
        let addresses = if interface.spec.hop {
            Vec::new()
        } else {
            match addresses(p, &record, &network, &doc.value, interface) {
                Addresses::Have(list) => list,
                Addresses::Lease(change) => {
                    let known =
                        |(n, c): &(NetworkRef, LeaseChange)| *n == network && c.net == change.net;
                    if !leases.iter().any(known) {
                        leases.push((network, change));
                    }
                    continue;
                }
                Addresses::Claim(address) => {
                    claims.push((network, address, interface.endpoint.clone()));
                    continue;
                }
                Addresses::Blocked(why) => return Prepared::Blocked(why),
            }
        };
        let Some(port) = next.take_port() else {
            return Prepared::Blocked(
                "this node has used all 16,777,215 port ids; use another node".to_owned(),
            );
        };
        let random = p.random.wrapping_add(index as u32).to_be_bytes();
        record.interfaces.push(LocalInterface {
            interface: interface.name.clone(),
            endpoint: interface.endpoint.endpoint.clone(),
            network,
            vni: doc.value.vni,
            mac: endpoint_mac(&addresses, random),
            addresses,
            port,
            hop: interface.spec.hop,
            tap: tap.clone(),
        });
    }
    if !leases.is_empty() {
        return Prepared::Lease(leases);
    }
    if !claims.is_empty() {
        return Prepared::Claim(claims);
    }
    next.containers.insert(container.clone(), record);
    Prepared::Ready(Box::new(next))
}

enum Addresses {
    Have(Vec<IpAddr>),
    Lease(LeaseChange),
    Claim(IpAddr),
    Blocked(String),
}

/// One address a family, the fixed one where one was asked for.
fn addresses(
    p: &Preparing<'_>,
    record: &LocalContainer,
    network: &NetworkRef,
    spec: &NetworkSpec,
    interface: &NamedInterface,
) -> Addresses {
    let leases = p.state.leases(network);
    let own: BTreeSet<IpNet> = leases
        .iter()
        .filter(|(_, (l, _))| l.node == *p.me && l.held_since.is_none())
        .map(|(net, _)| *net)
        .collect();
    let mut used = used(p.state, p.local, network, Some(&interface.endpoint));
    let here = record.interfaces.iter().filter(|i| i.network == *network);
    used.extend(here.flat_map(|i| i.addresses.iter().copied()));
    let (mine, claimed): (Vec<_>, Vec<_>) = p
        .state
        .addresses
        .iter()
        .filter(|((n, _), _)| n == network)
        .partition(|(_, holder)| holder.value == interface.endpoint.to_string());
    let claimed: BTreeSet<IpAddr> = claimed.into_iter().map(|((_, a), _)| *a).collect();
    let pool = AddressPool {
        spec,
        own: &own,
        used: &used,
        claimed: &claimed,
    };
    let mut list = Vec::new();
    let mut to_claim = None;
    let asked = interface.spec.address.iter();
    let moved = interface.spec.kept.iter();
    // One a family: what was asked for goes before what it had.
    let is_new = |a: &&IpAddr| (interface.spec.address).is_none_or(|f| f.is_ipv6() != a.is_ipv6());
    for &address in asked.chain(moved.filter(is_new)) {
        match pool.fixed(address) {
            Ok(FixedAddress::Own(_)) => {}
            Ok(FixedAddress::Claim) if mine.iter().any(|((_, a), _)| *a == address) => {}
            Ok(FixedAddress::Claim) => to_claim = Some(address),
            Err(e) => return Addresses::Blocked(format!("{e}; {}", e.help())),
        }
        list.push(address);
    }
    let full: BTreeSet<IpNet> = own
        .iter()
        .filter(|net| pool.is_full(net))
        .copied()
        .collect();
    for (cidr, subnet_len) in ranges(spec) {
        let ipv6 = matches!(cidr, IpNet::V6(_));
        let has_subnet = own.iter().any(|net| cidr.contains(net));
        let is_fixed = list.iter().any(|a| a.is_ipv6() == ipv6);
        if is_fixed && has_subnet {
            continue;
        }
        if let Some(address) = pool.pick(ipv6, None).filter(|_| !is_fixed) {
            list.push(address);
            continue;
        }
        let request = LeaseRequest {
            cidr,
            subnet_len,
            leases: &leases,
            node: p.me,
            full: &full,
            now: p.now,
            hold: p.hold,
        };
        match plan_lease(&request) {
            LeasePlan::Take(change) => return Addresses::Lease(change),
            // A fixed address needs no subnet; having one keeps the rule that a node with endpoints has one.
            _ if is_fixed => {}
            LeasePlan::Exhausted(e) => {
                return Addresses::Blocked(format!("network {network}: {e}; {}", e.help()));
            }
            // The pool found nothing in it: its addresses are claimed by others.
            LeasePlan::Have(net) => {
                let why =
                    format!("subnet {net} of network {network} is full; remove a container here");
                return Addresses::Blocked(why);
            }
        }
    }
    if let Some(address) = to_claim {
        return Addresses::Claim(address);
    }
    Addresses::Have(list)
}

/// Addresses of a network that someone has, apart from one endpoint.
fn used(
    state: &State,
    local: &LocalState,
    network: &NetworkRef,
    except: Option<&EndpointRef>,
) -> BTreeSet<IpAddr> {
    let documents = state
        .endpoints_of(network)
        .filter(|(e, _)| Some(*e) != except)
        .flat_map(|(_, d)| d.addresses.iter().copied());
    let records = local.interfaces().filter(|(_, i)| i.network == *network);
    documents
        .chain(records.flat_map(|(_, i)| i.addresses.iter().copied()))
        .collect()
}

/// Since when each own subnet has been empty.
pub type Empty = BTreeMap<(NetworkRef, IpNet), u64>;

/// What is to be changed about leases of dead nodes, in all networks: they are marked as held.
pub fn marks(all: &State, me: &NodeName, now: u64) -> Vec<(NetworkRef, LeaseChange)> {
    let alive: BTreeSet<NodeName> = all.alive.keys().cloned().collect();
    let of = |network: &NetworkRef| {
        let held = mark_held(&all.leases(network), &alive, now).into_iter();
        let others = held.filter(|change| !is_own(change, me));
        others.map(|change| (network.clone(), change)).collect()
    };
    let lists = all.subnets.keys().map(of);
    lists.flat_map(|list: Vec<_>| list).collect()
}

/// What is to be changed about own leases now, beside what containers need: they are taken back and returned.
pub fn care(p: &Preparing<'_>, empty: &mut Empty) -> Vec<(NetworkRef, LeaseChange)> {
    let mut changes = Vec::new();
    let mut still_empty = Empty::new();
    for network in p.state.subnets.keys() {
        let leases = p.state.leases(network);
        let mut push =
            |list: Vec<LeaseChange>| changes.extend(list.into_iter().map(|c| (network.clone(), c)));
        push(take_back_all(&leases, p.me));
        // While anything of the network is here, its subnets stay, even if fixed addresses left them empty.
        let in_network = p
            .local
            .interfaces()
            .any(|(_, i)| i.network == *network && !i.hop);
        if in_network || !p.state.networks.contains_key(network) {
            continue;
        }
        let mut in_use = used(p.state, p.local, network, None);
        let claims = p.state.addresses.keys().filter(|(n, _)| n == network);
        in_use.extend(claims.map(|(_, a)| *a));
        let since: BTreeMap<IpNet, u64> = empty
            .iter()
            .filter(|((n, _), _)| n == network)
            .map(|((_, net), since)| (*net, *since))
            .collect();
        let returns = plan_returns(&leases, p.me, &in_use, &since, p.now, RETURN_AFTER);
        push(returns.changes);
        still_empty.extend(
            returns
                .empty_since
                .into_iter()
                .map(|(net, t)| ((network.clone(), net), t)),
        );
    }
    *empty = still_empty;
    changes
}

fn is_own(change: &LeaseChange, me: &NodeName) -> bool {
    change.document.as_ref().is_some_and(|d| d.node == *me)
}

/// Whether it is `node`'s turn to write what concerns nobody alone, a dead node's subnets: the alive node with the
/// lowest id, so that one node writes it once.
pub fn is_marker(state: &State, node: &NodeName) -> bool {
    let alive = state.nodes.iter().filter(|(n, _)| state.is_alive(n));
    alive
        .min_by_key(|(_, d)| d.value.id)
        .is_some_and(|(n, _)| n == node)
}

/// The key of a lease.
pub fn lease_key(network: &NetworkRef, change: &LeaseChange) -> Key {
    Key::Subnet(network.clone(), change.net)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> State {
        let mut s = State {
            revision: 10,
            ..State::default()
        };
        let mut put =
            |key: &str, value: &str| s.put(&format!("/weft/v1/{key}"), value.as_bytes(), 3);
        for i in 1..=2 {
            put(
                &format!("nodes/n{i}/spec"),
                &format!(r#"{{"id":{i},"vteps":["192.0.2.{i}"],"api":"x"}}"#),
            );
            put(
                &format!("nodes/n{i}/alive"),
                r#"{"uid":"u","version":"1","since":1}"#,
            );
        }
        put(
            "tenants/red/networks/front/spec",
            r#"{"vni":1,"cidr4":"10.10.0.0/16","subnet_len4":26}"#,
        );
        s
    }

    fn spec(interfaces: &str) -> ContainerSpec {
        let json = format!(
            r#"{{"uid":"u","image":"host","command":["x"],"node":"n1","interfaces":[{interfaces}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn preparing<'a>(state: &'a State, local: &'a LocalState, me: &'a NodeName) -> Preparing<'a> {
        Preparing {
            state,
            local,
            me,
            now: 100,
            hold: Duration::from_secs(60),
            random: 7,
        }
    }

    /// Does what is asked until the container is ready, as the reconciler would.
    fn settle(
        state: &mut State,
        local: &LocalState,
        name: &str,
        spec: &ContainerSpec,
    ) -> LocalState {
        let me: NodeName = "n1".parse().unwrap();
        for _ in 0..4 {
            match prepare(&preparing(state, local, &me), &name.parse().unwrap(), spec) {
                Prepared::Ready(next) => return *next,
                Prepared::Lease(changes) => {
                    for (network, change) in changes {
                        let json = serde_json::to_vec(&change.document.clone().unwrap()).unwrap();
                        state.put(&lease_key(&network, &change).path(), &json, 11);
                    }
                }
                Prepared::Claim(claims) => {
                    for (network, address, endpoint) in claims {
                        let json = serde_json::to_vec(&endpoint.to_string()).unwrap();
                        state.put(&Key::Address(network, address).path(), &json, 12);
                    }
                }
                Prepared::Blocked(why) => panic!("{why}"),
            }
        }
        panic!("not ready after four steps");
    }

    #[test]
    fn the_first_container_leases_a_subnet_and_the_second_uses_it() {
        let mut s = state();
        let one = settle(
            &mut s,
            &LocalState::default(),
            "red/a",
            &spec(r#"{"network":"front"}"#),
        );
        let two = settle(&mut s, &one, "red/b", &spec(r#"{"network":"front"}"#));
        assert_eq!(s.subnets.values().next().unwrap().len(), 1);
        let list: Vec<_> = two
            .interfaces()
            .map(|(_, i)| (i.addresses[0], i.port.0))
            .collect();
        assert_ne!(list[0].0, list[1].0);
        assert_eq!((list[0].1, list[1].1), (1, 2));
        let (_, a) = two.by_port(1).unwrap();
        assert_eq!(a.mac.0[..2], [0x0a, 0x58]);
    }

    #[test]
    fn hop_interfaces_have_ports_but_no_addresses_and_no_lease() {
        let mut s = state();
        let hops = r#"{"network":"front","name":"in0","hop":true},{"network":"front","name":"out0","hop":true}"#;
        let local = settle(&mut s, &LocalState::default(), "red/fw", &spec(hops));
        let names: Vec<_> = local
            .interfaces()
            .map(|(_, i)| i.endpoint.to_string())
            .collect();
        assert_eq!(names, ["fw-in0", "fw-out0"]);
        assert!(
            local
                .interfaces()
                .all(|(_, i)| i.hop && i.addresses.is_empty())
        );
        assert!(s.subnets.is_empty());
    }

    #[test]
    fn a_fixed_address_elsewhere_is_claimed_once() {
        let mut s = state();
        let fixed = spec(r#"{"network":"front","address":"10.10.200.7"}"#);
        let local = settle(&mut s, &LocalState::default(), "red/a", &fixed);
        assert_eq!(
            local.by_port(1).unwrap().1.addresses,
            ["10.10.200.7".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(s.addresses.len(), 1);
        assert_eq!(s.subnets.len(), 1, "a node with an endpoint has a subnet");
        let me: NodeName = "n1".parse().unwrap();
        let other = prepare(
            &preparing(&s, &local, &me),
            &"red/b".parse().unwrap(),
            &fixed,
        );
        assert!(matches!(other, Prepared::Blocked(_)), "{other:?}");
    }

    #[test]
    fn one_node_marks_the_subnets_of_a_dead_one_and_it_takes_them_back() {
        let mut s = state();
        s.put(
            "/weft/v1/tenants/red/networks/front/subnets/10.10.0.0-26",
            br#"{"node":"n2","since":1}"#,
            4,
        );
        let local = LocalState::default();
        let (n1, n2): (NodeName, NodeName) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        assert!(marks(&s, &n1, 100).is_empty());
        s.delete("/weft/v1/nodes/n2/alive");
        assert!(is_marker(&s, &n1) && !is_marker(&s, &n2), "not n2's turn");
        assert!(marks(&s, &n2, 100).is_empty(), "its own it takes back");
        let changes = marks(&s, &n1, 100);
        let held = changes[0].1.document.clone().unwrap();
        assert_eq!((held.node.as_str(), held.held_since), ("n2", Some(100)));
        s.put(
            &lease_key(&changes[0].0, &changes[0].1).path(),
            &serde_json::to_vec(&held).unwrap(),
            5,
        );
        let back = care(&preparing(&s, &local, &n2), &mut Empty::new());
        assert_eq!(back[0].1.document.as_ref().unwrap().held_since, None);
    }

    #[test]
    fn an_empty_subnet_is_returned_after_its_time() {
        let mut s = state();
        s.put(
            "/weft/v1/tenants/red/networks/front/subnets/10.10.0.0-26",
            br#"{"node":"n1","since":1}"#,
            4,
        );
        let (local, me) = (LocalState::default(), "n1".parse().unwrap());
        let mut empty = Empty::new();
        let mut p = preparing(&s, &local, &me);
        assert!(care(&p, &mut empty).is_empty());
        p.now += RETURN_AFTER.as_millis() as u64;
        assert_eq!(care(&p, &mut empty)[0].1.document, None);
    }

    proptest! {
        #[test]
        fn no_address_and_no_port_is_given_twice(count in 1..90usize) {
            let mut s = state();
            let mut local = LocalState::default();
            for i in 0..count {
                local = settle(&mut s, &local, &format!("red/c{i}"), &spec(r#"{"network":"front"}"#));
            }
            let addresses: BTreeSet<_> = local.interfaces().flat_map(|(_, i)| i.addresses.clone()).collect();
            let ports: BTreeSet<_> = local.interfaces().map(|(_, i)| i.port).collect();
            prop_assert_eq!((addresses.len(), ports.len()), (count, count));
            prop_assert!(!addresses.contains(&"10.10.0.1".parse::<IpAddr>().unwrap()));
        }
    }
}
