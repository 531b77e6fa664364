//! Leases: many nodes that come, go, return and expire, against one store that checks revisions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;
use weft_overlay::NodeName;
use weft_overlay::documents::SubnetLease;
use weft_overlay::leases::{
    Expect, LeaseChange, LeasePlan, LeaseRequest, Leases, mark_held, plan_lease, plan_returns,
    release_all, take_back_all,
};

const HOLD: Duration = Duration::from_secs(60);

/// The store's part: a change is made only if its compare holds.
#[derive(Default)]
struct Store {
    leases: Leases,
    revision: i64,
}

impl Store {
    fn write(&mut self, change: &LeaseChange) -> bool {
        let holds = match (self.leases.get(&change.net), change.expect) {
            (None, Expect::Absent) => true,
            (Some((_, at)), Expect::ModRevision(revision)) => *at == revision,
            _ => false,
        };
        if holds {
            self.revision += 1;
            match &change.document {
                Some(lease) => self
                    .leases
                    .insert(change.net, (lease.clone(), self.revision)),
                None => self.leases.remove(&change.net),
            };
        }
        holds
    }
}

fn node(n: usize) -> NodeName {
    format!("n{n}").parse().expect("a name")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a subnet")
}

fn ask(
    leases: &Leases,
    cidr: &str,
    len: u8,
    name: &NodeName,
    full: &BTreeSet<IpNet>,
    now: u64,
) -> LeasePlan {
    plan_lease(&LeaseRequest {
        cidr: net(cidr),
        subnet_len: len,
        leases,
        node: name,
        full,
        now,
        hold: HOLD,
    })
}

#[test]
fn a_node_takes_one_and_then_has_it() {
    let mut store = Store::default();
    let LeasePlan::Take(change) = ask(
        &store.leases,
        "10.10.0.0/16",
        26,
        &node(1),
        &BTreeSet::new(),
        5,
    ) else {
        panic!("an empty network has subnets");
    };
    assert_eq!(change.expect, Expect::Absent);
    assert!(store.write(&change));
    assert_eq!(
        ask(
            &store.leases,
            "10.10.0.0/16",
            26,
            &node(1),
            &BTreeSet::new(),
            6
        ),
        LeasePlan::Have(change.net)
    );
    // Full: one more.
    let full = BTreeSet::from([change.net]);
    let LeasePlan::Take(more) = ask(&store.leases, "10.10.0.0/16", 26, &node(1), &full, 6) else {
        panic!("another one is free");
    };
    assert_ne!(more.net, change.net);
}

#[test]
fn two_nodes_that_see_the_same_cannot_both_win() {
    let mut store = Store::default();
    // One subnet: both plan the same.
    let plans: Vec<LeaseChange> = [1, 2]
        .into_iter()
        .map(|n| {
            match ask(
                &store.leases,
                "10.10.0.0/26",
                26,
                &node(n),
                &BTreeSet::new(),
                0,
            ) {
                LeasePlan::Take(change) => change,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(
        plans.iter().map(|p| store.write(p)).collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn held_subnets_wait_for_their_node() {
    let mut store = Store::default();
    let cidr = "10.10.0.0/26";
    let LeasePlan::Take(change) = ask(&store.leases, cidr, 26, &node(1), &BTreeSet::new(), 0)
    else {
        panic!("free")
    };
    store.write(&change);
    for change in mark_held(&store.leases, &BTreeSet::from([node(2)]), 1_000) {
        assert!(store.write(&change));
    }
    assert!(
        mark_held(&store.leases, &BTreeSet::new(), 2_000).is_empty(),
        "held once"
    );
    // Another node gets nothing before the hold time, and is told who has what and until when.
    let before = ask(
        &store.leases,
        cidr,
        26,
        &node(2),
        &BTreeSet::new(),
        1_000 + 59_999,
    );
    let LeasePlan::Exhausted(why) = before else {
        panic!("{before:?}")
    };
    assert_eq!(why.next_free, Some(61_000));
    assert_eq!(why.by_node, BTreeMap::from([(node(1), (1, 1))]));
    assert!(why.to_string().contains("n1: 1, 1 of them held"), "{why}");
    assert!(why.help().contains("weft node rm"));
    // Its own node takes it back, also long after the hold time.
    let mut returned = Store {
        leases: store.leases.clone(),
        revision: store.revision,
    };
    let LeasePlan::Take(back) = ask(
        &returned.leases,
        cidr,
        26,
        &node(1),
        &BTreeSet::new(),
        999_999,
    ) else {
        panic!("taken back")
    };
    assert_eq!(
        take_back_all(&returned.leases, &node(1)),
        vec![back.clone()]
    );
    assert!(returned.write(&back));
    assert_eq!(
        ask(&returned.leases, cidr, 26, &node(1), &BTreeSet::new(), 0),
        LeasePlan::Have(back.net)
    );
    // Or another has it after the hold time; then the old node's change is refused by its revision.
    let LeasePlan::Take(taken) = ask(&store.leases, cidr, 26, &node(2), &BTreeSet::new(), 61_000)
    else {
        panic!("the hold time is over")
    };
    assert!(store.write(&taken));
    assert!(!store.write(&back));
    assert_eq!(store.leases[&net(cidr)].0.node, node(2));
}

#[test]
fn an_operators_word_frees_at_once() {
    let mut store = Store::default();
    let LeasePlan::Take(change) = ask(
        &store.leases,
        "10.10.0.0/26",
        26,
        &node(1),
        &BTreeSet::new(),
        0,
    ) else {
        panic!("free")
    };
    store.write(&change);
    for change in release_all(&store.leases, &node(1)) {
        assert!(store.write(&change));
    }
    assert!(store.leases.is_empty());
}

#[test]
fn empty_subnets_go_back_after_a_grace() {
    let lease = SubnetLease {
        node: node(1),
        since: 0,
        held_since: None,
    };
    let leases: Leases = [
        ("10.10.0.64/26", 1),
        ("10.10.0.128/26", 2),
        ("10.10.0.192/26", 3),
    ]
    .map(|(n, at)| (net(n), (lease.clone(), at)))
    .into();
    // An endpoint lives in one, a claim lies in another.
    let in_use: BTreeSet<IpAddr> = ["10.10.0.70", "10.10.0.255"]
        .map(|a| a.parse().expect("an address"))
        .into();
    let grace = Duration::from_secs(10);
    let first = plan_returns(&leases, &node(1), &in_use, &BTreeMap::new(), 1_000, grace);
    assert!(first.changes.is_empty());
    assert_eq!(
        first.empty_since,
        BTreeMap::from([(net("10.10.0.128/26"), 1_000)])
    );
    let later = plan_returns(
        &leases,
        &node(1),
        &in_use,
        &first.empty_since,
        11_000,
        grace,
    );
    assert_eq!(
        later.changes,
        [LeaseChange {
            net: net("10.10.0.128/26"),
            expect: Expect::ModRevision(2),
            document: None
        }]
    );
    // Used in between: the clock begins anew. A clock that went back gives nothing early.
    let used: BTreeSet<IpAddr> = in_use
        .iter()
        .copied()
        .chain(["10.10.0.130".parse().expect("an address")])
        .collect();
    assert!(
        plan_returns(&leases, &node(1), &used, &first.empty_since, 20_000, grace)
            .empty_since
            .is_empty()
    );
    assert!(
        plan_returns(&leases, &node(1), &in_use, &first.empty_since, 10, grace)
            .changes
            .is_empty()
    );
    assert_eq!(
        plan_returns(&leases, &node(2), &in_use, &BTreeMap::new(), 0, grace),
        Default::default()
    );
}

#[test]
fn leases_of_another_length_are_not_overlapped() {
    let lease = SubnetLease {
        node: node(9),
        since: 0,
        held_since: None,
    };
    let leases: Leases = [
        (net("10.10.0.0/25"), (lease.clone(), 1)),
        (net("10.10.0.192/27"), (lease, 2)),
    ]
    .into();
    let LeasePlan::Take(change) = ask(&leases, "10.10.0.0/24", 26, &node(1), &BTreeSet::new(), 0)
    else {
        panic!("10.10.0.128/26 is free")
    };
    assert_eq!(change.net, net("10.10.0.128/26"));
}

#[test]
fn nodes_do_not_all_begin_at_the_same_subnet() {
    let empty = Leases::new();
    let first: BTreeSet<IpNet> = (0..100)
        .filter_map(
            |n| match ask(&empty, "10.10.0.0/16", 26, &node(n), &BTreeSet::new(), 0) {
                LeasePlan::Take(change) => Some(change.net),
                _ => None,
            },
        )
        .collect();
    assert!(
        first.len() > 80,
        "100 nodes began at {} subnets",
        first.len()
    );
}

#[derive(Clone, Debug)]
enum Step {
    Lease { node: usize, more: bool },
    Vanish(usize),
    Return(usize),
    Remove(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..6, any::<bool>()).prop_map(|(node, more)| Step::Lease { node, more }),
        1 => (0usize..6).prop_map(Step::Vanish),
        1 => (0usize..6).prop_map(Step::Return),
        1 => (0usize..6).prop_map(Step::Remove),
        2 => (1u64..90_000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: no two leases overlap, a living node's lease is never another's, and a held
    /// one changes hands only after the hold time.
    #[test]
    fn a_subnet_never_has_two_owners(steps in proptest::collection::vec(step(), 1..120), ipv6 in any::<bool>()) {
        let (cidr, len) = if ipv6 { ("fd00::/61", 64) } else { ("10.10.0.0/23", 26) };
        let mut store = Store::default();
        let mut alive: BTreeSet<NodeName> = (0..6).map(node).collect();
        let mut now = 0u64;
        for step in steps {
            let before = store.leases.clone();
            match step {
                Step::Wait(millis) => now += millis,
                Step::Vanish(n) => { alive.remove(&node(n)); }
                Step::Return(n) => {
                    alive.insert(node(n));
                    for change in take_back_all(&store.leases, &node(n)) { prop_assert!(store.write(&change)); }
                }
                Step::Remove(n) => {
                    for change in release_all(&store.leases, &node(n)) { prop_assert!(store.write(&change)); }
                    continue;
                }
                Step::Lease { node: n, more } if alive.contains(&node(n)) => {
                    let name = node(n);
                    let full: BTreeSet<IpNet> = if more {
                        store.leases.iter().filter(|(_, (l, _))| l.node == name).map(|(net, _)| *net).collect()
                    } else {
                        BTreeSet::new()
                    };
                    let plan = ask(&store.leases, cidr, len, &name, &full, now);
                    prop_assert_eq!(&plan, &ask(&store.leases, cidr, len, &name, &full, now), "deterministic");
                    match plan {
                        LeasePlan::Have(net) => prop_assert_eq!(&store.leases[&net].0.node, &name),
                        LeasePlan::Take(change) => {
                            prop_assert!(net(cidr).contains(&change.net) && change.net.prefix_len() == len);
                            prop_assert!(store.write(&change), "a fresh plan is accepted");
                        }
                        LeasePlan::Exhausted(why) => {
                            prop_assert_eq!(why.total, 8);
                            prop_assert_eq!(store.leases.len(), 8, "exhausted only when all are leased");
                        }
                    }
                }
                Step::Lease { .. } => {}
            }
            for change in mark_held(&store.leases, &alive, now) { prop_assert!(store.write(&change)); }
            let nets: Vec<IpNet> = store.leases.keys().copied().collect();
            for (i, a) in nets.iter().enumerate() {
                for b in &nets[i + 1..] {
                    prop_assert!(!a.contains(b) && !b.contains(a), "{} and {} overlap", a, b);
                }
            }
            for (net, (was, _)) in &before {
                let Some((is, _)) = store.leases.get(net) else { continue };
                if is.node != was.node {
                    let since = was.held_since;
                    prop_assert!(since.is_some_and(|s| now - s >= 60_000), "{} changed hands early", net);
                }
            }
        }
    }
}
