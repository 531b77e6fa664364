//! Leases, addresses and ports of containers, and what becomes of them.

use proptest::prelude::*;

use super::*;

fn state() -> State {
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
fn settle(state: &mut State, local: &LocalState, name: &str, spec: &ContainerSpec) -> LocalState {
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
