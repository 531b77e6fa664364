//! Who carries what, when a version takes over, and blocks that are never shared.

use proptest::prelude::*;
use weft_overlay::{Mac, PortId, Vni};

use super::*;
use crate::local::{LocalContainer, LocalInterface};

const POLICY: &str = r#"{
    "chain": {"name": "guard", "tenant": "red", "symmetric": true},
    "matches": [{
        "from": {"network": "front", "select": {"labels": {"role": "client"}}},
        "to": {"network": "front", "select": {"labels": {"role": "web"}}},
        "traffic": ["tcp/80"]
    }],
    "hops": [{"name": "firewall", "select": {"role": "fw"}, "mode": "inline", "interfaces": ["in0", "out0"], "on_failure": "drop"}]
}"#;

fn put(s: &mut State, key: &str, value: &str) {
    s.put(&format!("/weft/v1/{key}"), value.as_bytes(), 7);
    assert!(s.problems.is_empty(), "{:?}", s.problems);
}

fn version(s: &mut State, number: u64) {
    let doc = format!(r#"{{"format":1,"policy":{POLICY},"file":"g.toml","text":"","created":1}}"#);
    put(
        s,
        &format!("tenants/red/chains/guard/versions/{number:010}"),
        &doc,
    );
}

fn ready(s: &mut State, number: u64, node: &str) {
    put(
        s,
        &format!("tenants/red/chains/guard/versions/{number:010}/ready/{node}"),
        "{}",
    );
}

/// Two nodes alive with an endpoint each, one dead with one, one alive without; a chain in version 1.
fn world() -> State {
    let mut s = State::default();
    put(
        &mut s,
        "tenants/red/networks/front/spec",
        r#"{"vni":1,"cidr4":"10.1.0.0/16"}"#,
    );
    for i in 1..=4 {
        put(
            &mut s,
            &format!("nodes/n{i}/spec"),
            &format!(r#"{{"id":{i},"vteps":[],"api":"x"}}"#),
        );
        if i != 3 {
            put(
                &mut s,
                &format!("nodes/n{i}/alive"),
                r#"{"uid":"u","version":"1","since":1}"#,
            );
        }
        if i != 4 {
            let doc = format!(
                r#"{{"uid":"u","addresses":[],"mac":"0a:00:00:00:00:01","node":"n{i}","container":"c{i}","interface":"eth0"}}"#
            );
            put(
                &mut s,
                &format!("tenants/red/networks/front/endpoints/c{i}"),
                &doc,
            );
        }
    }
    put(
        &mut s,
        "tenants/red/chains/guard/spec",
        r#"{"current":1,"file":"g.toml","text":""}"#,
    );
    version(&mut s, 1);
    s
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn chain() -> ChainKey {
    ("red".parse().unwrap(), "guard".parse().unwrap())
}

fn firewall(s: &mut State, names: &[&str]) -> LocalState {
    let mut local = LocalState::default();
    for (n, name) in names.iter().enumerate() {
        let doc =
            r#"{"uid":"u","image":"host","command":["x"],"node":"n1","labels":{"role":"fw"}}"#;
        put(s, &format!("tenants/red/containers/{name}/spec"), doc);
        let interface = |inside: &str, port: usize| LocalInterface {
            interface: inside.parse().unwrap(),
            endpoint: format!("{name}-{inside}").parse().unwrap(),
            network: "red/front".parse().unwrap(),
            vni: Vni::new(1).unwrap(),
            addresses: vec![],
            mac: Mac([2; 6]),
            tap: None,
            port: PortId(port as u32),
            hop: true,
        };
        let interfaces = vec![interface("in0", 2 * n + 1), interface("out0", 2 * n + 2)];
        let record = LocalContainer {
            uid: "u".into(),
            interfaces,
            ..Default::default()
        };
        local
            .containers
            .insert(format!("red/{name}").parse().unwrap(), record);
    }
    local
}

#[test]
fn a_version_takes_over_when_every_living_carrier_has_it() {
    let mut s = world();
    let local = LocalState::default();
    let of = |s: &State, me: &str| classified(s, &local, &node(me)).get(&chain()).copied();
    assert_eq!(carriers(&s, &(chain().0, chain().1, 1)).len(), 3);
    assert_eq!(of(&s, "n1"), None, "n2 is not ready");
    ready(&mut s, 1, "n2");
    assert_eq!(
        of(&s, "n1"),
        Some(1),
        "n3 is dead, n4 carries nothing, n1 counts itself"
    );
    assert_eq!(of(&s, "n2"), None, "n1 has not said so");
    ready(&mut s, 1, "n1");
    version(&mut s, 2);
    assert_eq!(of(&s, "n1"), Some(1), "version 2 is nowhere yet");
    ready(&mut s, 2, "n1");
    ready(&mut s, 2, "n2");
    assert_eq!(of(&s, "n1"), Some(2));
}

#[test]
fn a_node_that_joins_takes_nobody_back() {
    let mut s = world();
    ready(&mut s, 1, "n1");
    ready(&mut s, 1, "n2");
    let mut local = LocalState::default();
    local.classified.insert(memory_key(&chain()), 1);
    put(
        &mut s,
        "nodes/n3/alive",
        r#"{"uid":"u","version":"1","since":1}"#,
    );
    assert_eq!(classified(&s, &local, &node("n1")).get(&chain()), Some(&1));
    assert_eq!(
        classified(&s, &LocalState::default(), &node("n1")).get(&chain()),
        None
    );
}

#[test]
fn a_hops_container_gets_one_block_and_gives_it_back() {
    let mut s = world();
    let local = firewall(&mut s, &["fw"]);
    let missing = missing_instances(&s, &local, &node("n1"));
    assert_eq!(missing.len(), 1);
    assert_eq!(
        (
            missing[0].doc.input.as_str(),
            missing[0].doc.output.as_str()
        ),
        ("fw-in0", "fw-out0")
    );
    allocate(&s, &missing, 123)[0].preview(&mut s);
    assert_eq!(s.steer.len(), 1);
    assert!(missing_instances(&s, &local, &node("n1")).is_empty());
    assert!(stale_instances(&s, &local, &node("n1")).is_empty());
    let stale = stale_instances(&s, &LocalState::default(), &node("n1"));
    stale[0].preview(&mut s);
    assert!(s.steer.is_empty() && s.instances.is_empty());
}

#[test]
fn old_versions_go_after_their_time_with_their_blocks() {
    let mut s = world();
    let local = firewall(&mut s, &["fw"]);
    allocate(&s, &missing_instances(&s, &local, &node("n1")), 0)[0].preview(&mut s);
    version(&mut s, 2);
    let mut since = BTreeMap::new();
    assert!(
        expired_versions(&s, &node("n1"), &mut since, 0).is_empty(),
        "version 2 is not complete"
    );
    for n in ["n1", "n2"] {
        ready(&mut s, 2, n);
    }
    let late = RETAIN.as_millis() as u64;
    assert!(expired_versions(&s, &node("n1"), &mut since, 0).is_empty());
    assert!(expired_versions(&s, &node("n1"), &mut since, late - 1).is_empty());
    let writes = expired_versions(&s, &node("n1"), &mut since, late);
    assert_eq!(writes.len(), 1);
    assert_eq!(
        writes[0].ops.len(),
        3,
        "the version, what is below it, its block"
    );
}

proptest! {
    #[test]
    fn blocks_are_multiples_of_four_and_never_shared(
        start in any::<u32>(),
        taken in proptest::collection::btree_set(1..40u32, 0..30),
        count in 1..6usize,
    ) {
        let mut s = world();
        for block in &taken {
            put(&mut s, &format!("steer/{}", block * 4), "\"x\"");
        }
        let names: Vec<String> = (0..count).map(|i| format!("fw{i}")).collect();
        let local = firewall(&mut s, &names.iter().map(String::as_str).collect::<Vec<_>>());
        for write in allocate(&s.clone(), &missing_instances(&s, &local, &node("n1")), start) {
            write.preview(&mut s);
        }
        let blocks: BTreeSet<u32> = s.instances.values().map(|d| d.value.block).collect();
        prop_assert_eq!(blocks.len(), count);
        prop_assert!(blocks.iter().all(|b| b % 4 == 0 && *b > 0 && *b <= STEER_ID_MAX && !taken.contains(&(b / 4))));
    }
}
