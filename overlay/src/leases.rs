//! Who holds which subnet of a network, and what to change about it. Pure: the leases as the mirror
//! saw them, and the time, come in; each change carries the revision that it relies on, so that two
//! nodes that plan the same at once cannot both win.
//!
//! A subnet whose node is gone is *held*: its node takes it back; another may have it only after the
//! hold time. Containers are never renumbered.
//!
//! A node looks for a free subnet from a place that its name decides, not from the lowest: when a
//! thousand nodes start a network at once, the lowest would be tried by all of them, a transaction
//! that fails for all but one, again and again. It also gives a returning node its old subnet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::allocate::number;
use crate::documents::SubnetLease;
use crate::names::NodeName;

/// The leases of one network: subnet, document, the revision it was last changed at.
pub type Leases = BTreeMap<IpNet, (SubnetLease, i64)>;

/// What must still be true when a change is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key was last changed at this revision.
    ModRevision(i64),
}

/// A change of one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseChange {
    /// The subnet.
    pub net: IpNet,
    /// The compare of the transaction.
    pub expect: Expect,
    /// The new document; `None` deletes it.
    pub document: Option<SubnetLease>,
}

/// What a node looking for addresses knows.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest<'a> {
    /// One range of the network.
    pub cidr: IpNet,
    /// Its subnet length.
    pub subnet_len: u8,
    /// All leases of the network, of either family.
    pub leases: &'a Leases,
    /// Who asks.
    pub node: &'a NodeName,
    /// Own subnets that have no address left.
    pub full: &'a BTreeSet<IpNet>,
    /// Unix milliseconds.
    pub now: u64,
    /// How long a subnet is held for a node that is gone.
    pub hold: Duration,
}

/// Where a node's next address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeasePlan {
    /// From a subnet that it has.
    Have(IpNet),
    /// From one that it is to take, by this change.
    Take(LeaseChange),
    /// From nowhere.
    Exhausted(Exhausted),
}

/// Nobody can have another subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {total} subnets of /{subnet_len} in {cidr} are leased ({})", self.holders())]
pub struct Exhausted {
    /// The range.
    pub cidr: IpNet,
    /// Its subnet length.
    pub subnet_len: u8,
    /// How many subnets it has.
    pub total: u128,
    /// Who has how many, and how many of them are held for a node that is gone.
    pub by_node: BTreeMap<NodeName, (usize, usize)>,
    /// When the first held subnet becomes free; Unix milliseconds.
    pub next_free: Option<u64>,
}

impl Exhausted {
    fn holders(&self) -> String {
        let mut nodes: Vec<_> = self.by_node.iter().collect();
        nodes.sort_by_key(|(name, (all, _))| (std::cmp::Reverse(*all), (*name).clone()));
        let shown = nodes.iter().take(4).map(|(name, (all, held))| match held {
            0 => format!("{name}: {all}"),
            _ => format!("{name}: {all}, {held} of them held"),
        });
        let mut text = shown.collect::<Vec<_>>().join("; ");
        if nodes.len() > 4 {
            text += &format!("; and {} more nodes", nodes.len() - 4);
        }
        text
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        if self.by_node.values().any(|(_, held)| *held > 0) {
            "release the subnets of nodes that will not return (`weft node rm NODE`), or wait for the hold time".into()
        } else {
            "make a network with a larger range or longer subnets; ranges cannot change".into()
        }
    }
}

/// Where `request.node`'s next address comes from: a subnet it has; one held for it, taken back; a
/// subnet nobody had; the one that has been held longest, past the hold time.
pub fn plan_lease(request: &LeaseRequest<'_>) -> LeasePlan {
    let LeaseRequest {
        cidr, node, full, ..
    } = *request;
    let own = || {
        request.leases.iter().filter(move |(net, (lease, _))| {
            cidr.contains(*net) && lease.node == *node && !full.contains(*net)
        })
    };
    if let Some((net, _)) = own().find(|(_, (lease, _))| lease.held_since.is_none()) {
        return LeasePlan::Have(*net);
    }
    if let Some((net, (lease, revision))) = own().next() {
        return LeasePlan::Take(take_back(net, lease, *revision));
    }
    let document = Some(SubnetLease {
        node: node.clone(),
        since: request.now,
        held_since: None,
    });
    if let Some(net) = never_leased(request) {
        return LeasePlan::Take(LeaseChange {
            net,
            expect: Expect::Absent,
            document,
        });
    }
    match longest_held(request) {
        Some((net, revision)) => LeasePlan::Take(LeaseChange {
            net,
            expect: Expect::ModRevision(revision),
            document,
        }),
        None => LeasePlan::Exhausted(exhausted(request)),
    }
}

/// Takes back every subnet held for `node`, which is alive: its containers still have the addresses.
pub fn take_back_all(leases: &Leases, node: &NodeName) -> Vec<LeaseChange> {
    leases
        .iter()
        .filter(|(_, (lease, _))| lease.node == *node && lease.held_since.is_some())
        .map(|(net, (lease, revision))| take_back(net, lease, *revision))
        .collect()
}

fn take_back(net: &IpNet, lease: &SubnetLease, revision: i64) -> LeaseChange {
    LeaseChange {
        net: *net,
        expect: Expect::ModRevision(revision),
        document: Some(SubnetLease {
            held_since: None,
            ..lease.clone()
        }),
    }
}

/// Marks the subnets of nodes that are gone as held. `alive` are the nodes whose lease in the store
/// has not expired; the caller passes it only from a complete view.
pub fn mark_held(leases: &Leases, alive: &BTreeSet<NodeName>, now: u64) -> Vec<LeaseChange> {
    leases
        .iter()
        .filter(|(_, (lease, _))| lease.held_since.is_none() && !alive.contains(&lease.node))
        .map(|(net, (lease, revision))| LeaseChange {
            net: *net,
            expect: Expect::ModRevision(*revision),
            document: Some(SubnetLease {
                held_since: Some(now),
                ..lease.clone()
            }),
        })
        .collect()
}

/// Frees every subnet of a node that an operator removed.
pub fn release_all(leases: &Leases, node: &NodeName) -> Vec<LeaseChange> {
    leases
        .iter()
        .filter(|(_, (lease, _))| lease.node == *node)
        .map(|(net, (_, revision))| delete(net, *revision))
        .collect()
}

/// What `plan_returns` decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// Leases to give back.
    pub changes: Vec<LeaseChange>,
    /// Since when each own subnet has been empty; passed in again the next time.
    pub empty_since: BTreeMap<IpNet, u64>,
}

/// Gives back own subnets in which nothing has lived for `grace`. A subnet with an endpoint's or a
/// claimed address in it, of any node, stays.
pub fn plan_returns(
    leases: &Leases,
    node: &NodeName,
    in_use: &BTreeSet<IpAddr>,
    empty_since: &BTreeMap<IpNet, u64>,
    now: u64,
    grace: Duration,
) -> Returns {
    let mut returns = Returns::default();
    for (net, (lease, revision)) in leases {
        let used = in_use
            .range(net.network()..=net.broadcast())
            .next()
            .is_some();
        if lease.node != *node || lease.held_since.is_some() || used {
            continue;
        }
        let since = empty_since.get(net).copied().unwrap_or(now).min(now);
        if now - since >= millis(grace) {
            returns.changes.push(delete(net, *revision));
        } else {
            returns.empty_since.insert(*net, since);
        }
    }
    returns
}

fn delete(net: &IpNet, revision: i64) -> LeaseChange {
    LeaseChange {
        net: *net,
        expect: Expect::ModRevision(revision),
        document: None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The first subnet, from the node's own starting place on and around, that overlaps no lease.
fn never_leased(request: &LeaseRequest<'_>) -> Option<IpNet> {
    let total = subnet_count(request);
    let mut taken: Vec<Range<u128>> = request
        .leases
        .keys()
        .filter(|net| request.cidr.contains(*net))
        .map(|net| covered(request, net))
        .collect();
    taken.sort_by_key(|range| range.start);
    let start = u128::from(name_hash(request.node)) % total;
    let index = first_gap(&taken, start..total).or_else(|| first_gap(&taken, 0..start))?;
    nth_subnet(request, index)
}

/// The first number of `within` that no range of `taken` (sorted by start) covers.
fn first_gap(taken: &[Range<u128>], within: Range<u128>) -> Option<u128> {
    let mut next = within.start;
    for range in taken {
        if range.start > next {
            break;
        }
        next = next.max(range.end);
    }
    (next < within.end).then_some(next)
}

fn longest_held(request: &LeaseRequest<'_>) -> Option<(IpNet, i64)> {
    request
        .leases
        .iter()
        .filter(|(net, _)| request.cidr.contains(*net) && net.prefix_len() == request.subnet_len)
        .filter_map(|(net, (lease, revision))| Some((lease.held_since?, *net, *revision)))
        .filter(|(since, _, _)| request.now.saturating_sub(*since) >= millis(request.hold))
        // Own ones that are full come in here too, were they held: not to be taken twice.
        .filter(|(_, net, _)| !request.full.contains(net))
        .min_by_key(|(since, net, _)| (*since, *net))
        .map(|(_, net, revision)| (net, revision))
}

fn exhausted(request: &LeaseRequest<'_>) -> Exhausted {
    let mut by_node: BTreeMap<NodeName, (usize, usize)> = BTreeMap::new();
    let mut next_free = None;
    for (_, (lease, _)) in request
        .leases
        .iter()
        .filter(|(net, _)| request.cidr.contains(*net))
    {
        let entry = by_node.entry(lease.node.clone()).or_default();
        entry.0 += 1;
        if let Some(since) = lease.held_since {
            entry.1 += 1;
            let free = since.saturating_add(millis(request.hold));
            next_free = Some(next_free.map_or(free, |n: u64| n.min(free)));
        }
    }
    Exhausted {
        cidr: request.cidr,
        subnet_len: request.subnet_len,
        total: subnet_count(request),
        by_node,
        next_free,
    }
}

fn subnet_count(request: &LeaseRequest<'_>) -> u128 {
    let bits = request.subnet_len.saturating_sub(request.cidr.prefix_len());
    1u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX)
}

/// The numbers of the subnets that a lease of the range covers, also if it was made with another length.
fn covered(request: &LeaseRequest<'_>, lease: &IpNet) -> Range<u128> {
    let base = number(request.cidr.network());
    let shift = u32::from(request.cidr.max_prefix_len() - request.subnet_len);
    let nth = |address: IpAddr| (number(address) - base).checked_shr(shift).unwrap_or(0);
    nth(lease.network())..nth(lease.broadcast()) + 1
}

fn nth_subnet(request: &LeaseRequest<'_>, index: u128) -> Option<IpNet> {
    let shift = u32::from(request.cidr.max_prefix_len() - request.subnet_len);
    let first = number(request.cidr.network()) + index.checked_shl(shift).unwrap_or(0);
    match request.cidr {
        IpNet::V4(_) => Ipv4Net::new(u32::try_from(first).ok()?.into(), request.subnet_len)
            .ok()
            .map(IpNet::V4),
        IpNet::V6(_) => Ipv6Net::new(first.into(), request.subnet_len)
            .ok()
            .map(IpNet::V6),
    }
}

/// FNV-1a, 64 bits: the same on every node and in every version (the standard library's hasher promises neither).
fn name_hash(node: &NodeName) -> u64 {
    node.as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}
