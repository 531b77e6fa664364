//! The compiled tables against a naive reading of the policies, by doing the datapath's look-ups here;
//! and what must not move.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use proptest::prelude::*;
use weft_chain::policy::{Chain, Hop, Match, Mode, OnFailure, Policy, Select, Selector};
use weft_chain::{
    CarriedVersion, ChainTables, CompileInput, Instance, LocalPort, StageIds, Traffic, compile,
};
use weft_ebpf_abi as abi;
use weft_overlay::documents::{EndpointDoc, InstanceDoc};
use weft_overlay::{EndpointRef, Mac, NetworkRef, NodeId, NodeName, Vni};

const VNI: u32 = 7;

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn hop(name: &str) -> Hop {
    Hop {
        name: name.to_owned(),
        select: BTreeMap::from([("role".into(), "fw".into())]),
        mode: Mode::Inline,
        interfaces: vec![self::name("in0"), self::name("out0")],
        on_failure: OnFailure::Drop,
        health: None,
    }
}

fn policy(chain: &str, matches: Vec<Match>, hops: &[&str], symmetric: bool) -> Policy {
    let chain = Chain {
        name: name(chain),
        tenant: name("red"),
        symmetric,
    };
    Policy {
        chain,
        matches,
        hops: hops.iter().map(|h| hop(h)).collect(),
    }
}

fn every() -> Selector {
    Selector {
        network: Some(name("front")),
        select: Select::Labels(BTreeMap::new()),
    }
}

fn instance(hop: &str, container: &str, block: u32, node: &str) -> Instance {
    let doc = InstanceDoc {
        block,
        node: name(node),
        input: name(&format!("{container}-in0")),
        output: name(&format!("{container}-out0")),
    };
    Instance {
        hop: hop.into(),
        container: name(container),
        doc,
    }
}

fn endpoint(place: u8, labels: &[(&str, &str)]) -> (EndpointRef, EndpointDoc) {
    let doc = EndpointDoc {
        uid: "u".into(),
        addresses: vec![address(place)],
        mac: Mac([2, 0, 0, 0, 0, place]),
        node: name("n1"),
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        container: name("c"),
        interface: name("eth0"),
    };
    (name(&format!("red/front/e{place}")), doc)
}

fn address(place: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, place).into()
}

struct World {
    policies: Vec<(Policy, u64, bool)>,
    endpoints: Vec<(EndpointRef, EndpointDoc)>,
    instances: Vec<Instance>,
    ids: StageIds,
}

impl World {
    fn new(policies: Vec<Policy>) -> World {
        let policies = policies.into_iter().map(|p| (p, 1, true)).collect();
        World {
            policies,
            endpoints: Vec::new(),
            instances: Vec::new(),
            ids: StageIds::new(),
        }
    }

    fn compile(&self) -> ChainTables {
        let node: NodeName = name("n1");
        let network: NetworkRef = name("red/front");
        let mut ports = BTreeMap::new();
        for (place, one) in (0..).zip(self.instances.iter().filter(|i| i.doc.node == node)) {
            for (arm, endpoint) in [(0, &one.doc.input), (1, &one.doc.output)] {
                let at = EndpointRef {
                    tenant: network.tenant.clone(),
                    network: network.network.clone(),
                    endpoint: endpoint.clone(),
                };
                ports.insert(
                    at,
                    LocalPort {
                        ifindex: 10 + 2 * place + arm,
                        port: 100 + 2 * place + arm,
                    },
                );
            }
        }
        let chains = self
            .policies
            .iter()
            .map(|(policy, version, classifies)| CarriedVersion {
                tenant: &policy.chain.tenant,
                chain: &policy.chain.name,
                version: *version,
                policy,
                classifies: *classifies,
                instances: self.instances.clone(),
            });
        compile(&CompileInput {
            node: &node,
            nodes: BTreeMap::from([(node.clone(), NodeId(1)), (name("n2"), NodeId(2))]),
            networks: BTreeMap::from([(network.clone(), Vni::new(VNI).expect("a VNI"))]),
            endpoints: self.endpoints.iter().map(|(r, d)| (r, d)).collect(),
            ports,
            chains: chains.collect(),
            stage_ids: self.ids.clone(),
        })
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => abi::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The datapath's look-up of a class: the exact address, then the longest range.
fn class(tables: &ChainTables, address: IpAddr) -> u32 {
    let addr = mapped(address);
    if let Some(class) = tables.classes.get(&abi::ClassKey { vni: VNI, addr }) {
        return *class;
    }
    let flags = tables.network_flags.get(&VNI).copied().unwrap_or(0);
    if flags & abi::NETWORK_CIDR_CLASSES == 0 {
        return 0;
    }
    let within = |len: u32, key: &abi::ClassCidrKey| {
        let bits = |a: [u8; 16]| {
            u128::from_be_bytes(a)
                .checked_shr(128 - (len - 32))
                .unwrap_or(0)
        };
        key.vni_be == VNI.to_be_bytes() && bits(key.addr) == bits(addr)
    };
    let found = tables
        .class_cidrs
        .iter()
        .filter(|((len, key), _)| within(*len, key));
    found
        .max_by_key(|((len, _), _)| *len)
        .map_or(0, |(_, class)| *class)
}

/// The datapath's look-up of a stage.
fn stage(tables: &ChainTables, from: IpAddr, to: IpAddr, proto: u8, port: u16) -> Option<u32> {
    let key = abi::PairKey {
        vni: VNI,
        from: class(tables, from),
        to: class(tables, to),
    };
    let rules = tables.pairs.get(&key)?;
    let used = &rules.rules[..rules.count as usize];
    let fits = |r: &&abi::Rule| {
        (r.proto == 0 || r.proto == proto) && (r.port_lo..=r.port_hi).contains(&port)
    };
    used.iter().find(fits).map(|r| r.stage)
}

/// The same by reading the policies.
fn naive(
    world: &World,
    ids: &StageIds,
    from: IpAddr,
    to: IpAddr,
    proto: u8,
    port: u16,
) -> Option<u32> {
    let selects = |s: &Selector, address: IpAddr| match &s.select {
        Select::Cidr(net) => net.contains(&address),
        Select::Labels(labels) => world.endpoints.iter().any(|(_, doc)| {
            doc.addresses.contains(&address)
                && labels.iter().all(|(k, v)| doc.labels.get(k) == Some(v))
        }),
        Select::Endpoint(name) => world
            .endpoints
            .iter()
            .any(|(r, doc)| r.endpoint == *name && doc.addresses.contains(&address)),
        Select::External => false,
    };
    let mut policies: Vec<&Policy> = world.policies.iter().map(|(p, _, _)| p).collect();
    policies.sort_by_key(|p| &p.chain.name);
    let hit = policies.into_iter().find(|p| {
        p.matches.iter().any(|m| {
            selects(&m.from, from)
                && selects(&m.to, to)
                && m.traffic.iter().any(|t| t.matches(proto, port))
        })
    })?;
    ids.get(&format!(
        "red/{}/1/{}/forward",
        hit.chain.name, hit.hops[0].name
    ))
    .copied()
}

fn selector() -> impl Strategy<Value = Selector> {
    let labels = proptest::collection::btree_map("role|tier", "a|b", 0..3).prop_map(Select::Labels);
    let cidr = (24u8..=32, 0u8..16).prop_map(|(len, host)| {
        let net: IpNet = format!("10.0.0.{host}/{len}").parse().expect("a range");
        Select::Cidr(net.trunc())
    });
    let one = (0u8..16).prop_map(|place| Select::Endpoint(name(&format!("e{place}"))));
    prop_oneof![3 => labels, 3 => cidr, 1 => one].prop_map(|select| Selector {
        network: Some(name("front")),
        select,
    })
}

fn traffic() -> impl Strategy<Value = Traffic> {
    prop_oneof![
        Just("tcp/1"),
        Just("tcp/1-2"),
        Just("udp/1"),
        Just("icmp"),
        Just("any"),
        Just("tcp/3")
    ]
    .prop_map(name)
}

fn world() -> impl Strategy<Value = World> {
    let traffic = proptest::collection::vec(traffic(), 1..3);
    let matching = (selector(), selector(), traffic).prop_map(|(from, to, traffic)| Match {
        from,
        to,
        traffic,
    });
    let chains = proptest::collection::vec(proptest::collection::vec(matching, 1..3), 1..4);
    let labels = proptest::collection::btree_map("role|tier", "a|b", 0..3);
    let endpoints = proptest::collection::btree_map(0u8..16, labels, 0..8);
    (chains, endpoints).prop_map(|(chains, endpoints)| {
        let policies = (0..)
            .zip(chains)
            .map(|(i, m)| policy(&format!("c{i}"), m, &["h"], false));
        let mut world = World::new(policies.collect());
        for (place, labels) in endpoints {
            let (reference, mut doc) = endpoint(place, &[]);
            doc.labels = labels;
            world.endpoints.push((reference, doc));
        }
        world
    })
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#?}\n{:#?}", self.policies, self.endpoints)
    }
}

proptest! {
    #[test]
    fn tables_say_what_the_policies_say(world in world()) {
        let tables = world.compile();
        prop_assert!(tables.problems.is_empty(), "{:?}", tables.problems);
        for from in 0..16 {
            for to in 0..16 {
                for (proto, port) in [(6, 1), (6, 2), (6, 3), (17, 1), (1, 0), (58, 0), (47, 0)] {
                    let (a, b) = (address(from), address(to));
                    let wanted = naive(&world, &tables.stage_ids, a, b, proto, port);
                    prop_assert_eq!(stage(&tables, a, b, proto, port), wanted, "{} {} {}/{}", a, b, proto, port);
                }
            }
        }
    }

    #[test]
    fn order_of_input_does_not_matter(mut world in world()) {
        let before = world.compile();
        world.policies.reverse();
        world.endpoints.reverse();
        prop_assert_eq!(before, world.compile());
    }

    #[test]
    fn slots_are_balanced_and_move_as_little_as_can_be(
        names in proptest::collection::btree_set("[a-z]{3,8}", 2..7)
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let mut world = World::new(vec![policy("c", vec![all("tcp/80")], &["h"], true)]);
        world.instances = (1..).zip(&names).map(|(i, n)| instance("h", n, i * 4, "n2")).collect();
        let all = slots(&world);
        let mean = 128.0 / names.len() as f64;
        for one in &world.instances {
            let count = all.values().filter(|block| **block == one.doc.block).count() as f64;
            // Five standard deviations of a binomial.
            prop_assert!((count - mean).abs() < 5.0 * mean.sqrt(), "{} of {}", count, mean);
        }
        let gone = world.instances.pop().expect("one").doc.block;
        for (slot, block) in slots(&world) {
            prop_assert!(all[&slot] == block || all[&slot] == gone);
        }
    }
}

fn all(traffic: &str) -> Match {
    Match {
        from: every(),
        to: every(),
        traffic: vec![name(traffic)],
    }
}

/// Slot to block, the same in both directions.
fn slots(world: &World) -> BTreeMap<u32, u32> {
    let tables = world.compile();
    let of = |stage: u32| -> BTreeMap<u32, u32> {
        tables
            .slots
            .iter()
            .filter(|(k, _)| k.stage == stage)
            .map(|(k, b)| (k.slot, *b))
            .collect()
    };
    let forward = of(tables.stage_ids["red/c/1/h/forward"]);
    assert_eq!(forward, of(tables.stage_ids["red/c/1/h/reverse"]));
    assert_eq!(forward.len(), 128);
    forward
}

#[test]
fn hops_follow_each_other_in_both_directions() {
    let mut world = World::new(vec![policy("c", vec![all("tcp/80")], &["a", "b"], true)]);
    world.endpoints = vec![endpoint(1, &[]), endpoint(2, &[])];
    world.instances = vec![instance("a", "fa", 4, "n1"), instance("b", "fb", 8, "n2")];
    let tables = world.compile();
    let id = |hop: &str, way: &str| tables.stage_ids[&format!("red/c/1/{hop}/{way}")];
    let first = &tables.pairs.values().next().expect("a pair").rules[0];
    assert_eq!(
        (first.stage, first.reverse_stage),
        (id("a", "forward"), id("b", "reverse"))
    );
    let stage = |hop, way| tables.stages[&id(hop, way)];
    assert_eq!(
        stage("a", "forward"),
        abi::Stage {
            slots: 128,
            next: id("b", "forward"),
            flags: 0,
            pad: 0
        }
    );
    assert_eq!(stage("b", "forward").next, 0);
    let back = abi::Stage {
        slots: 128,
        next: id("a", "reverse"),
        flags: abi::STAGE_REVERSE,
        pad: 0,
    };
    assert_eq!(stage("b", "reverse"), back);
    let here = abi::Position {
        vni: VNI,
        node: 1,
        in_ifindex: 10,
        out_ifindex: 11,
        in_port: 100,
        out_port: 101,
        next_forward: id("b", "forward"),
        next_reverse: 0,
    };
    assert_eq!(tables.positions[&4], here);
    let there = abi::Position {
        vni: VNI,
        node: 2,
        next_reverse: id("a", "reverse"),
        ..abi::Position::default()
    };
    assert_eq!(tables.positions[&8], there);
    assert_eq!(tables.blocks[&8].container.as_str(), "fb");
}

#[test]
fn stages_of_a_version_stay_while_others_come_and_go() {
    let chain = policy("c", vec![all("tcp/80")], &["h"], true);
    let mut world = World::new(vec![chain.clone()]);
    let first = world.compile();
    world.ids = first.stage_ids.clone();
    world.policies = vec![(chain.clone(), 1, false), (chain.clone(), 2, true)];
    let both = world.compile();
    for (key, id) in &first.stage_ids {
        assert_eq!(both.stage_ids[key], *id);
    }
    let distinct: BTreeSet<u32> = both.stage_ids.values().copied().collect();
    assert_eq!((both.stage_ids.len(), distinct.len()), (4, 4));
    world.ids = both.stage_ids.clone();
    world.policies = vec![(chain, 2, true)];
    let second = world.compile();
    assert!(
        second
            .stage_ids
            .iter()
            .all(|(key, id)| both.stage_ids[key] == *id)
    );
    assert_eq!(second.stage_ids.len(), 2);
}

#[test]
fn a_version_that_only_drains_classifies_nothing() {
    let chain = policy("c", vec![all("tcp/80")], &["h"], true);
    let mut world = World::new(vec![chain]);
    world.policies[0].2 = false;
    world.endpoints = vec![endpoint(1, &[])];
    world.instances = vec![instance("h", "f", 4, "n1")];
    let tables = world.compile();
    assert!(tables.pairs.is_empty() && tables.classes.is_empty());
    assert!(tables.positions.contains_key(&4) && tables.network_flags.contains_key(&VNI));
}

#[test]
fn without_instances_a_stage_drops_or_bypasses() {
    let mut chain = policy("c", vec![all("tcp/80")], &["h"], false);
    let stage = |chain: &Policy| {
        *World::new(vec![chain.clone()])
            .compile()
            .stages
            .values()
            .next()
            .expect("one")
    };
    assert_eq!(stage(&chain), abi::Stage::default());
    chain.hops[0].on_failure = OnFailure::Bypass;
    assert_eq!(stage(&chain).flags, abi::STAGE_BYPASS);
}

#[test]
fn a_full_pair_fails_closed() {
    let many = (1..=20).map(|p| name(&format!("tcp/{p}"))).collect();
    let matching = Match {
        from: every(),
        to: every(),
        traffic: many,
    };
    let mut world = World::new(vec![policy("c", vec![matching], &["h"], false)]);
    world.endpoints = vec![endpoint(1, &[]), endpoint(2, &[])];
    let tables = world.compile();
    assert_eq!(tables.problems.len(), 1, "{:?}", tables.problems);
    let served = tables.stage_ids["red/c/1/h/forward"];
    assert_eq!(stage(&tables, address(1), address(2), 6, 15), Some(served));
    let closed = stage(&tables, address(1), address(2), 6, 20).expect("taken");
    assert_ne!(closed, served);
    assert_eq!(tables.stages[&closed], abi::Stage::default());
}
