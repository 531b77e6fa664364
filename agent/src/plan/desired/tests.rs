//! What may be wanted and what is refused, on small worlds.

use proptest::prelude::*;
use weft_overlay::site;

use super::*;

fn world() -> State {
    let mut s = State {
        revision: 10,
        ..State::default()
    };
    let mut put = |key: &str, value: &str| s.put(&format!("/weft/v1/{key}"), value.as_bytes(), 3);
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
    s
}

fn wanted_network(name: &str) -> site::Network {
    serde_json::from_str(&format!(r#"{{"name":"{name}","cidr":"10.10.0.0/16"}}"#)).unwrap()
}

fn wanted_container(json: &str) -> site::Container {
    serde_json::from_str(json).unwrap()
}

fn red_front() -> State {
    let mut s = world();
    network(&s, &wanted_network("red/front"))
        .unwrap()
        .write
        .preview(&mut s);
    s
}

const STOP: How = How {
    stop_only: true,
    force: false,
};

#[test]
fn a_network_comes_with_its_tenant_and_vni_in_one_write() {
    let planned = network(&world(), &wanted_network("red/front")).unwrap();
    assert_eq!(
        (planned.action, planned.detail.as_str()),
        (Action::Create, "VNI 1")
    );
    assert_eq!(planned.write.ops.len(), 3);
    assert!(
        planned
            .write
            .expect
            .iter()
            .all(|e| matches!(e, Expect::Absent(_)))
    );
}

#[test]
fn applying_again_changes_nothing_and_a_difference_is_named() {
    let s = red_front();
    assert_eq!(
        network(&s, &wanted_network("red/front")).unwrap().action,
        Action::Unchanged
    );
    let mut other = wanted_network("red/front");
    other.cidr = Some("10.20.0.0/16".parse().unwrap());
    let refusal = network(&s, &other).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::State);
    let text = refusal.to_string();
    assert!(text.starts_with("network red/front: "), "{text}");
    assert!(
        text.contains("10.10.0.0/16") && text.contains("10.20.0.0/16"),
        "{text}"
    );
}

#[test]
fn equal_ranges_in_two_tenants_get_two_vnis_and_a_taken_vni_is_refused() {
    let s = red_front();
    assert_eq!(
        network(&s, &wanted_network("blue/front")).unwrap().detail,
        "VNI 2"
    );
    let mut greedy = wanted_network("blue/front");
    greedy.vni = weft_overlay::Vni::new(1);
    assert!(
        network(&s, &greedy)
            .unwrap_err()
            .cause
            .contains("red/front")
    );
}

#[test]
fn a_range_too_small_is_refused_with_what_would_do() {
    let mut small = wanted_network("red/front");
    small.cidr = Some("10.10.0.0/30".parse().unwrap());
    let refusal = network(&world(), &small).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Invalid);
    assert!(refusal.cause.contains("too small"), "{refusal}");
}

#[test]
fn a_container_is_placed_where_there_are_fewest() {
    let mut s = red_front();
    for (name, node) in [("a", "n1"), ("b", "n2"), ("c", "n1")] {
        let json = format!(r#"{{"name":"red/{name}","networks":["red/front"],"command":["x"]}}"#);
        let planned = container(&s, &wanted_container(&json), "u".into()).unwrap();
        assert_eq!(planned.detail, format!("on {node}"));
        planned.write.preview(&mut s);
    }
    s.delete("/weft/v1/nodes/n1/alive");
    let json = r#"{"name":"red/d","networks":["red/front"],"command":["x"]}"#;
    assert_eq!(
        container(&s, &wanted_container(json), "u".into())
            .unwrap()
            .detail,
        "on n2"
    );
}

#[test]
fn what_a_container_names_must_exist() {
    let s = red_front();
    for (json, kind, part) in [
        (
            r#"{"name":"red/a","networks":["red/back"],"command":["x"]}"#,
            RefusalKind::NotFound,
            "red/back",
        ),
        (
            r#"{"name":"green/a","command":["x"]}"#,
            RefusalKind::NotFound,
            "green",
        ),
        (
            r#"{"name":"red/a","command":["x"],"node":"n9"}"#,
            RefusalKind::NotFound,
            "n9",
        ),
        (
            r#"{"name":"red/a","networks":["blue/front"],"command":["x"]}"#,
            RefusalKind::Invalid,
            "another tenant",
        ),
        (
            r#"{"name":"red/a","command":["x"],"image":"oci:/srv/web"}"#,
            RefusalKind::NotFound,
            "oci:/srv/web",
        ),
        (
            r#"{"name":"red/a","command":[]}"#,
            RefusalKind::Invalid,
            "no command",
        ),
        (
            r#"{"name":"red/a","networks":[{"network":"red/front","address":"10.99.0.1"}],"command":["x"]}"#,
            RefusalKind::Invalid,
            "10.99.0.1",
        ),
    ] {
        let refusal = container(&s, &wanted_container(json), "u".into()).unwrap_err();
        assert_eq!(refusal.kind, kind, "{refusal}");
        assert!(
            refusal.cause.contains(part) && !refusal.help.is_empty(),
            "{refusal}"
        );
    }
}

#[test]
fn a_container_keeps_its_life_over_equal_specs_and_labels() {
    let mut s = red_front();
    let json = r#"{"name":"red/a","networks":["red/front"],"command":["x"]}"#;
    container(&s, &wanted_container(json), "u1".into())
        .unwrap()
        .write
        .preview(&mut s);
    assert_eq!(
        container(&s, &wanted_container(json), "u2".into())
            .unwrap()
            .action,
        Action::Unchanged
    );
    let uid = |planned: Planned, mut s: State| {
        planned.write.preview(&mut s);
        s.containers.values().next().unwrap().value.uid.clone()
    };
    let labelled =
        r#"{"name":"red/a","networks":["red/front"],"command":["x"],"labels":{"role":"web"}}"#;
    assert_eq!(
        uid(
            container(&s, &wanted_container(labelled), "u2".into()).unwrap(),
            s.clone()
        ),
        "u1"
    );
    let other = r#"{"name":"red/a","networks":["red/front"],"command":["y"]}"#;
    assert_eq!(
        uid(
            container(&s, &wanted_container(other), "u2".into()).unwrap(),
            s.clone()
        ),
        "u2"
    );
}

#[test]
fn a_network_in_use_is_not_removed() {
    let mut s = red_front();
    let json = r#"{"name":"red/a","networks":["red/front"],"command":["x"]}"#;
    container(&s, &wanted_container(json), "u1".into())
        .unwrap()
        .write
        .preview(&mut s);
    let refusal = remove(&s, "network", "red/front", How::default()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::State);
    assert!(refusal.cause.contains("container red/a"), "{refusal}");
    assert!(remove(&s, "tenant", "red", How::default()).is_err());
    // A container whose document cannot be read may use it too.
    let mut unclear = red_front();
    unclear.put("/weft/v1/tenants/red/containers/a/spec", b"{", 9);
    for (kind, name) in [("network", "red/front"), ("tenant", "red")] {
        let refusal = remove(&unclear, kind, name, How::default()).unwrap_err();
        assert!(refusal.cause.contains("cannot be read"), "{refusal}");
    }
    let stopped = remove(&s, "container", "red/a", STOP).unwrap();
    assert!(matches!(&stopped.write.ops[..], [WriteOp::Put(..)]));
    assert_eq!(
        remove(&s, "container", "red/z", How::default())
            .unwrap_err()
            .kind,
        RefusalKind::NotFound
    );
    assert_eq!(
        remove(&s, "node", "n1", How::default()).unwrap_err().kind,
        RefusalKind::Invalid
    );
}

#[test]
fn a_removal_loses_to_a_container_that_comes_meanwhile() {
    let mut s = red_front();
    s.revision = 40;
    let removal = remove(&s, "network", "red/front", How::default()).unwrap();
    for prefix in ["containers/", "networks/front/"] {
        let fence = Expect::NoneSince(format!("/weft/v1/tenants/red/{prefix}"), 40);
        assert!(removal.write.expect.contains(&fence), "{removal:?}");
    }
}

proptest! {
    #[test]
    fn vnis_are_never_shared(names in proptest::collection::btree_set("[a-f]{1,3}", 1..12)) {
        let mut s = world();
        for name in &names {
            network(&s, &wanted_network(&format!("{name}/n"))).unwrap().write.preview(&mut s);
        }
        prop_assert_eq!(s.vnis.len(), names.len());
        prop_assert!(s.networks.iter().all(|(n, d)| s.vnis[&d.value.vni].value == *n));
    }
}

const GUARD: &str = r#"
format = 1
[chain]
name = "web-guard"
tenant = "red"
symmetric = true
[[match]]
from = { network = "front", labels = { role = "client" } }
to = { network = "front", labels = { role = "web" } }
traffic = ["tcp/80"]
[[hop]]
name = "firewall"
select = { role = "fw" }
mode = "inline"
interfaces = ["in0", "out0"]
on_failure = "drop"
"#;

fn guarded() -> State {
    let mut s = red_front();
    for (name, role) in [("a", "client"), ("b", "web")] {
        let json = format!(
            r#"{{"name":"red/{name}","networks":["red/front"],"command":["x"],"labels":{{"role":"{role}"}}}}"#
        );
        container(&s, &wanted_container(&json), "u".into())
            .unwrap()
            .write
            .preview(&mut s);
    }
    let fw = r#"{"name":"red/fw","networks":[{"network":"red/front","interface":"in0","hop":true},{"network":"red/front","interface":"out0","hop":true}],"command":["x"],"labels":{"role":"fw"}}"#;
    container(&s, &wanted_container(fw), "u".into())
        .unwrap()
        .write
        .preview(&mut s);
    s
}

fn wanted_chain(text: &str) -> WantedChain {
    WantedChain {
        file: "web-guard.toml".into(),
        text: text.into(),
    }
}

#[test]
fn a_chain_gets_a_new_version_only_for_a_new_policy() {
    let mut s = guarded();
    let first = chain(&s, "red/web-guard", &wanted_chain(GUARD), 5).unwrap();
    assert_eq!(
        (first.action, first.detail.as_str()),
        (Action::Create, "version 1")
    );
    first.write.preview(&mut s);
    assert!(s.problems.is_empty(), "{:?}", s.problems);
    assert_eq!(
        chain(&s, "", &wanted_chain(GUARD), 6).unwrap().action,
        Action::Unchanged
    );
    let comment = chain(&s, "", &wanted_chain(&format!("# hi\n{GUARD}")), 6).unwrap();
    assert_eq!(
        (comment.action, comment.write.ops.len()),
        (Action::Update, 1)
    );
    let other = chain(&s, "", &wanted_chain(&GUARD.replace("tcp/80", "tcp/81")), 6).unwrap();
    assert_eq!(
        (other.detail.as_str(), other.write.ops.len()),
        ("version 2", 2)
    );
}

#[test]
fn mistakes_in_a_chain_come_with_their_place() {
    let s = guarded();
    for (from, to) in [
        ("traffic", "trafic"),
        ("\"front\"", "\"frnt\""),
        ("tenant = \"red\"", "tenant = \"rad\""),
        ("tcp/80", "tcp/0x"),
    ] {
        let refusal = chain(&s, "", &wanted_chain(&GUARD.replacen(from, to, 1)), 5).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Invalid);
        assert!(refusal.cause.contains("web-guard.toml:"), "{refusal}");
        let found: Vec<weft_chain::Diagnostic> = serde_json::from_slice(&refusal.details).unwrap();
        assert!(found[0].line > 1, "{found:?}");
    }
    let misnamed = chain(&s, "red/other", &wanted_chain(GUARD), 5).unwrap_err();
    assert!(misnamed.cause.contains("red/web-guard"), "{misnamed}");
}

#[test]
fn a_network_goes_with_its_containers_where_that_is_wanted() {
    let mut s = State::default();
    let front = br#"{"vni":1,"cidr4":"10.1.0.0/16","subnet_len4":26}"#;
    s.put("/weft/v1/tenants/red/networks/front/spec", front, 4);
    for (name, network) in [("a", "front"), ("b", "back")] {
        let spec = format!(
            r#"{{"uid":"u","image":"host","command":["x"],"node":"n1","interfaces":[{{"network":"{network}"}}]}}"#
        );
        s.put(
            &format!("/weft/v1/tenants/red/containers/{name}/spec"),
            spec.as_bytes(),
            5,
        );
    }
    let force = How {
        force: true,
        ..How::default()
    };
    let removal = remove(&s, "network", "red/front", force).unwrap();
    assert_eq!(removal.removed, ["network red/front", "container red/a"]);
    let deleted = |path: &str| {
        removal
            .write
            .ops
            .contains(&WriteOp::Delete(path.to_owned()))
    };
    assert!(deleted("/weft/v1/tenants/red/containers/a/spec"));
    assert!(!deleted("/weft/v1/tenants/red/containers/b/spec"));
}
