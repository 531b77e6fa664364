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
mod tests;
