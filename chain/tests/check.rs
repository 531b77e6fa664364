//! What the verifier refuses, each with its place and a way out.

use std::collections::{BTreeMap, BTreeSet};

use weft_chain::{World, WorldContainer, check, parse};
use weft_overlay::documents::{DatapathKind, InterfaceSpec, NetworkSpec};

const GOOD: &str = r#"format = 1
[chain]
name = "web-guard"
tenant = "red"
symmetric = true
[[match]]
from = { network = "front", labels = { role = "client" } }
to = { network = "front", labels = { role = "web" } }
traffic = ["tcp/80", "tcp/23"]
[[hop]]
name = "firewall"
select = { role = "fw" }
interfaces = ["in0", "out0"]
"#;

fn network(cidr: &str) -> NetworkSpec {
    NetworkSpec {
        vni: weft_overlay::Vni::new(5).expect("a VNI"),
        cidr4: Some(cidr.parse().expect("a range")),
        cidr6: None,
        subnet_len4: None,
        subnet_len6: None,
        mtu: None,
        datapath: DatapathKind::Ebpf,
        egress: Default::default(),
        dscp: Default::default(),
        ttl: Default::default(),
        labels: BTreeMap::new(),
    }
}

fn container(role: &str, interfaces: &[(&str, &str, bool)]) -> WorldContainer {
    let of = |(network, name, hop): &(&str, &str, bool)| InterfaceSpec {
        kept: Vec::new(),
        network: network.parse().expect("a network"),
        name: (!name.is_empty()).then(|| name.parse().expect("a name")),
        address: None,
        hop: *hop,
    };
    let labels = BTreeMap::from([("role".to_owned(), role.to_owned())]);
    WorldContainer {
        labels,
        interfaces: interfaces.iter().map(of).collect(),
    }
}

fn world() -> World {
    let mut world = World {
        tenants: BTreeSet::from(["red".parse().expect("a tenant")]),
        ..World::default()
    };
    world.networks.insert(
        "red/front".parse().expect("a network"),
        network("10.10.0.0/16"),
    );
    world.networks.insert(
        "red/back".parse().expect("a network"),
        network("10.20.0.0/16"),
    );
    let mut add = |name: &str, one| {
        drop(
            world
                .containers
                .insert(name.parse().expect("a container"), one),
        )
    };
    add("red/a", container("client", &[("front", "", false)]));
    add("red/web1", container("web", &[("front", "", false)]));
    add(
        "red/fw",
        container("fw", &[("front", "in0", true), ("front", "out0", true)]),
    );
    world
}

/// `line:column message (help)` of what is refused.
fn refused(text: &str, world: &World) -> Vec<String> {
    let file = parse("web-guard.toml", text).expect("well formed");
    let found = check(&file, world).expect_err("is refused");
    let line = |d: &weft_chain::Diagnostic| {
        format!(
            "{}:{} {} ({})",
            d.line,
            d.column,
            d.message,
            d.help.as_deref().unwrap_or("-")
        )
    };
    found.iter().map(line).collect()
}

fn with(old: &str, new: &str) -> Vec<String> {
    assert!(GOOD.contains(old), "{old}");
    refused(&GOOD.replacen(old, new, 1), &world())
}

#[test]
fn a_good_chain_is_let_through() {
    let file = parse("web-guard.toml", GOOD).expect("well formed");
    assert_eq!(check(&file, &world()), Ok(()));
}

#[test]
fn what_is_not_there_is_named_with_the_nearest() {
    let cases = [
        (
            "tenant = \"red\"",
            "tenant = \"rad\"",
            "4:10 tenant rad does not exist (did you mean \"red\"?)",
        ),
        (
            "to = { network = \"front\"",
            "to = { network = \"frnt\"",
            "8:18 network red/frnt does not exist (did you mean \"front\"?)",
        ),
        (
            "role = \"web\"",
            "role = \"wbe\"",
            "8:36 no container in network red/front has role=wbe (did you mean role = \"web\"?)",
        ),
        (
            "labels = { role = \"web\" }",
            "endpoint = \"web2\"",
            "8:38 endpoint red/front/web2 does not exist (did you mean \"web1\"?)",
        ),
        (
            "labels = { role = \"web\" }",
            "cidr = \"10.11.0.0/24\"",
            "8:34 10.11.0.0/24 is not inside of network red/front (the network is 10.10.0.0/16)",
        ),
        (
            "select = { role = \"fw\" }",
            "select = { role = \"ids\" }",
            "12:10 hop \"firewall\" drops on failure and no container of tenant red has role=ids (start the container first, or write on_failure = \"bypass\")",
        ),
    ];
    for (old, new, expected) in cases {
        let found = with(old, new);
        assert!(
            found.contains(&expected.to_owned()),
            "{expected}\n{found:#?}"
        );
    }
}

#[test]
fn nothing_need_be_there_where_every_hop_bypasses() {
    let text = GOOD
        .replace("\"fw\" }", "\"none\" }\non_failure = \"bypass\"")
        .replace("\"web\"", "\"none\"");
    let file = parse("web-guard.toml", &text).expect("well formed");
    assert_eq!(check(&file, &world()), Ok(()));
}

#[test]
fn hop_interfaces_must_be_there_and_for_a_hop() {
    let help = |name: &str| {
        format!(
            "(give container red/fw in `networks`: {{ network = \"red/front\", interface = \"{name}\", hop = true }})"
        )
    };
    assert_eq!(
        with("\"in0\", \"out0\"", "\"in0\", \"out1\""),
        [format!(
            "13:22 container red/fw serves hop \"firewall\" and has no interface out1 {}",
            help("out1")
        )]
    );
    let mut world = world();
    let fw = "red/fw".parse().expect("a container");
    world.containers.insert(
        fw,
        container("fw", &[("back", "in0", true), ("front", "out0", false)]),
    );
    assert_eq!(
        refused(GOOD, &world),
        [
            format!(
                "13:15 interface in0 of container red/fw is in network red/back, the chain is in red/front {}",
                help("in0")
            ),
            format!(
                "13:22 interface out0 of container red/fw is an ordinary one, not a hop's {}",
                help("out0")
            ),
        ]
    );
}

#[test]
fn a_hop_is_no_end_of_its_chain() {
    let mut world = world();
    let both = container(
        "web",
        &[
            ("front", "eth0", false),
            ("front", "in0", true),
            ("front", "out0", true),
        ],
    );
    world
        .containers
        .insert("red/proxy".parse().expect("a container"), both);
    let found = refused(&GOOD.replace("role = \"fw\"", "role = \"web\""), &world);
    assert!(
        found.iter().any(|f| f.starts_with(
            "12:10 loop: container red/proxy serves hop \"firewall\" and is itself matched by `to`"
        )),
        "{found:#?}"
    );
}

#[test]
fn what_the_datapath_cannot_do_is_refused_with_its_place() {
    let cases = [
        (
            "interfaces = [\"in0\", \"out0\"]",
            "interfaces = [\"in0\", \"out0\"]\nmode = \"routed\"",
            "14:8 hop \"firewall\": mode \"routed\" is not supported by this version's ebpf datapath",
        ),
        (
            "interfaces = [\"in0\", \"out0\"]",
            "interfaces = [\"in0\"]\nmode = \"tap\"",
            "14:8 hop \"firewall\": mode \"tap\" is not supported by this version's ebpf datapath",
        ),
        (
            "interfaces = [\"in0\", \"out0\"]",
            "interfaces = [\"in0\", \"out0\"]\nhealth = { tcp = 80 }",
            "14:10 hop \"firewall\": health probes are not supported by this version's ebpf datapath",
        ),
        (
            "network = \"front\", labels = { role = \"web\" }",
            "external = true",
            "8:19 `external = true` is not supported by this version's ebpf datapath",
        ),
        (
            "to = { network = \"front\"",
            "to = { network = \"back\"",
            "8:18 a chain over two networks (front and back) is not supported by this version's ebpf datapath",
        ),
    ];
    for (old, new, expected) in cases {
        let found = with(old, new);
        assert!(
            found.iter().any(|f| f.starts_with(expected)),
            "{expected}\n{found:#?}"
        );
    }
}

#[test]
fn hidden_traffic_is_found() {
    let second = "[[match]]\nfrom = { network = \"front\", labels = { role = \"client\" } }\n\
                  to = { network = \"front\", labels = { role = \"web\" } }\ntraffic = [\"udp/1\", \"tcp/80\"]\n[[hop]]";
    assert_eq!(
        with("[[hop]]", second),
        [
            "13:21 tcp/80 is never reached here: match 1 has tcp/80 for the same ends (remove it, or put the narrower one first)"
        ]
    );
    let found = with("\"tcp/80\", \"tcp/23\"", "\"tcp/1-90\", \"tcp/23\"");
    assert!(
        found[0].starts_with("9:24 tcp/23 is never reached here: match 1 has tcp/1-90"),
        "{found:#?}"
    );
}

#[test]
fn more_rules_than_a_pair_holds_are_refused_also_over_chains() {
    let ports = |from: u32| {
        (from..from + 9)
            .map(|p| format!("\"tcp/{p}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let first = GOOD.replace("\"tcp/80\", \"tcp/23\"", &ports(100));
    let other = parse(
        "other.toml",
        &first
            .replace("web-guard", "other")
            .replace("tcp/10", "tcp/20"),
    );
    let mut world = world();
    assert_eq!(
        check(&parse("x", &first).expect("well formed"), &world),
        Ok(())
    );
    world
        .others
        .push(other.expect("well formed").policy.clone());
    let found = refused(&first, &world);
    assert!(
        found[0].starts_with("9:100 18 rules meet between the same two ends, 16 are possible"),
        "{found:#?}"
    );
}

#[test]
fn traffic_that_a_chain_of_an_earlier_name_takes_is_found() {
    let beside = |name: &str, traffic: &str, to: &str| {
        let text = GOOD
            .replace("web-guard", name)
            .replace("\"tcp/80\", \"tcp/23\"", traffic)
            .replace("role = \"web\"", to);
        let mut world = world();
        let other = parse("other.toml", &text).expect("well formed");
        world.others.push(other.policy);
        world
    };
    let web = "role = \"web\"";
    assert_eq!(
        refused(GOOD, &beside("audit", "\"tcp/70-90\"", web)),
        [
            "9:12 tcp/80 is never reached: chain red/audit comes before web-guard by its name and has tcp/70-90 for the same ends (take it out of red/audit, or give this chain a name before audit)"
        ]
    );
    // A later name, other traffic, fewer ends: some packet still comes here.
    for world in [
        beside("zoo", "\"tcp/70-90\"", web),
        beside("audit", "\"udp/80\", \"tcp/81-90\"", web),
        beside("audit", "\"tcp/80\"", "role = \"web\", tier = \"1\""),
    ] {
        let file = parse("web-guard.toml", GOOD).expect("well formed");
        assert_eq!(check(&file, &world), Ok(()));
    }
}
