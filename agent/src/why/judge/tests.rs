//! What is judged of paths that part from the model's.

use super::*;
use weft_overlay::Vni;

fn state(alive: &[&str]) -> State {
    let mut s = State::default();
    let mut put =
        |key: String, value: String| s.put(&format!("/weft/v1/{key}"), value.as_bytes(), 1);
    for i in 1..=2 {
        let spec = format!(r#"{{"id":{i},"vteps":["192.0.2.{i}"],"api":"192.0.2.{i}:7946"}}"#);
        put(format!("nodes/n{i}/spec"), spec);
    }
    for node in alive {
        put(
            format!("nodes/{node}/alive"),
            r#"{"uid":"u","version":"1","since":1}"#.into(),
        );
    }
    put(
        "tenants/red/networks/front/spec".into(),
        r#"{"vni":1,"cidr4":"10.10.0.0/16"}"#.into(),
    );
    put(
        "tenants/red/networks/back/spec".into(),
        r#"{"vni":2,"cidr4":"10.20.0.0/16"}"#.into(),
    );
    put(
        "tenants/blue/networks/own/spec".into(),
        r#"{"vni":3,"cidr4":"10.30.0.0/16"}"#.into(),
    );
    s
}

fn flow() -> Flow {
    Flow {
        from: "red/front/a".parse().unwrap(),
        source: "10.10.0.2".parse().unwrap(),
        to: "10.10.1.2".parse().unwrap(),
        target: Some("red/front/b".parse().unwrap()),
        protocol: 6,
        port: 80,
    }
}

fn well(node: &str) -> Look {
    let (name, way, vtep) = match node {
        "n1" => ("red/front/a", Way::Node("n2".parse().unwrap()), "192.0.2.1"),
        _ => ("red/front/b", Way::Here, "192.0.2.2"),
    };
    let port = PortLook {
        endpoint: name.parse().unwrap(),
        running: true,
        up: true,
        program: true,
        entered: true,
        lacks: Vec::new(),
        listens: Some(true),
    };
    Look {
        node: node.parse().unwrap(),
        vtep: vtep.parse().unwrap(),
        ports: vec![port],
        way,
        tunnel: Ok(()),
        strangers: Vec::new(),
        filtered: false,
    }
}

fn seen(node: &str, point: &str, there: bool) -> Observation {
    Observation {
        node: node.into(),
        point: point.into(),
        dst: if there { "10.10.1.2" } else { "10.10.0.2" }.into(),
        ..Observation::default()
    }
}

/// A flow of which nothing is wrong but that it is not answered, changed by each case.
fn cause(change: impl FnOnce(&mut Evidence<'_>)) -> Cause {
    let (state, flow) = (state(&["n1", "n2"]), flow());
    let n = |name: &str| -> NodeName { name.parse().unwrap() };
    let mut evidence = Evidence {
        state: &state,
        flow: &flow,
        nodes: (n("n1"), Some(n("n2"))),
        intended: Fate::Tunnel {
            node: n("n2"),
            vtep: "192.0.2.2".parse().unwrap(),
            vni: Vni::new(1).unwrap(),
        },
        looks: ["n1", "n2"].map(|name| (n(name), Ok(well(name)))).into(),
        seen: [
            ("n1", "from_container"),
            ("n1", "encap"),
            ("n2", "decap"),
            ("n2", "to_container"),
        ]
        .map(|(node, point)| seen(node, point, true))
        .into(),
        probed: Probed::default(),
    };
    change(&mut evidence);
    let verdict = judge(&evidence);
    let arrives = verdict.cause == Cause::Arrives;
    assert!(arrives || !verdict.help.is_empty(), "{verdict:?}");
    verdict.cause
}

fn look_of<'a>(e: &'a mut Evidence<'_>, node: &str) -> &'a mut Look {
    let name: NodeName = node.parse().unwrap();
    e.looks.get_mut(&name).unwrap().as_mut().unwrap()
}

#[test]
fn each_fact_alone_is_the_cause() {
    assert_eq!(cause(|_| ()), Cause::NoAnswer);
    assert_eq!(cause(|e| e.probed.answered = true), Cause::Arrives);
    let large = |e: &mut Evidence<'_>| (e.probed.answered, e.probed.only_small) = (true, true);
    assert_eq!(cause(large), Cause::Mtu);
    assert_eq!(
        cause(|e| look_of(e, "n1").ports[0].running = false),
        Cause::SenderStopped
    );
    assert_eq!(
        cause(|e| look_of(e, "n2").ports[0].running = false),
        Cause::ReceiverStopped
    );
    assert_eq!(
        cause(|e| look_of(e, "n1").ports[0].up = false),
        Cause::DeviceDown
    );
    assert_eq!(
        cause(|e| look_of(e, "n2").ports[0].program = false),
        Cause::ProgramMissing
    );
    assert_eq!(
        cause(|e| look_of(e, "n1").way = Way::Nobody),
        Cause::MapEntry
    );
    assert_eq!(
        cause(|e| look_of(e, "n1").strangers.push("n2".into())),
        Cause::MapEntry
    );
    assert_eq!(
        cause(|e| look_of(e, "n2").ports[0].listens = Some(false)),
        Cause::ClosedPort
    );
    assert_eq!(
        cause(|e| e.intended = Fate::Drop(DropReason::NoEndpoint)),
        Cause::NoEndpoint
    );
    assert_eq!(
        cause(|e| e.intended = Fate::Drop(DropReason::NodeAddress)),
        Cause::NodeAddress
    );
}

#[test]
fn what_is_not_seen_of_a_packet_tells_where_it_ended() {
    assert_eq!(cause(|e| e.seen.clear()), Cause::NotSent);
    let forged = |e: &mut Evidence<'_>| {
        e.seen.clear();
        look_of(e, "n1").ports[0]
            .lacks
            .push("device eth0 with its MAC address 0a".into());
    };
    assert_eq!(cause(forged), Cause::Spoofed);
    assert_eq!(cause(|e| e.seen.truncate(2)), Cause::Underlay);
    let filtered = |e: &mut Evidence<'_>| {
        e.seen.truncate(2);
        look_of(e, "n2").filtered = true;
    };
    assert_eq!(cause(filtered), Cause::UnderlayFiltered);
    let moved = |e: &mut Evidence<'_>| {
        e.seen.truncate(2);
        look_of(e, "n2").vtep = "192.0.2.99".parse().unwrap();
    };
    assert_eq!(cause(moved), Cause::WrongVtep);
    // The answer is lost on its way back.
    let back = |e: &mut Evidence<'_>| {
        e.seen
            .extend(["from_container", "encap"].map(|point| seen("n2", point, false)));
    };
    assert_eq!(cause(back), Cause::Underlay);
    for (reason, found) in [
        ("spoofed_address", Cause::Spoofed),
        ("too_big", Cause::Mtu),
        ("no_instance", Cause::NoInstance),
        ("no_vtep", Cause::MapEntry),
        ("frag", Cause::Dropped),
    ] {
        let drop = |e: &mut Evidence<'_>| {
            let reason = reason.into();
            e.seen.push(Observation {
                reason,
                ..seen("n1", "drop", true)
            });
        };
        assert_eq!(cause(drop), found, "{reason}");
    }
}

#[test]
fn a_silent_node_is_gone_only_when_its_lease_is() {
    let silent = |e: &mut Evidence<'_>| {
        e.seen.truncate(2);
        e.looks
            .insert("n2".parse().unwrap(), Err("no answer".into()));
    };
    assert_eq!(cause(silent), Cause::AgentSilent);
    let gone = state(&["n1"]);
    let (flow, n1): (Flow, NodeName) = (flow(), "n1".parse().unwrap());
    let evidence = Evidence {
        state: &gone,
        flow: &flow,
        nodes: (n1.clone(), Some("n2".parse().unwrap())),
        intended: Fate::Undecided,
        looks: [
            (n1, Ok(well("n1"))),
            ("n2".parse().unwrap(), Err("no answer".into())),
        ]
        .into(),
        seen: ["from_container", "encap"]
            .map(|point| seen("n1", point, true))
            .into(),
        probed: Probed::default(),
    };
    assert_eq!(judge(&evidence).cause, Cause::NodeGone);
}

#[test]
fn another_network_is_named_to_its_own_tenant_only() {
    let told = |to: &str| {
        let state = state(&["n1"]);
        let flow = Flow {
            to: to.parse().unwrap(),
            target: None,
            ..flow()
        };
        let n1: NodeName = "n1".parse().unwrap();
        judge(&Evidence {
            state: &state,
            flow: &flow,
            nodes: (n1.clone(), None),
            intended: Fate::Drop(DropReason::NoRoute),
            looks: [(n1, Ok(well("n1")))].into(),
            seen: Vec::new(),
            probed: Probed::default(),
        })
    };
    assert_eq!(told("10.20.0.2").cause, Cause::Isolated);
    let foreign = told("10.30.0.2");
    assert_eq!(foreign.cause, Cause::NoRoute);
    assert!(!foreign.says.contains("blue"), "{}", foreign.says);
}
