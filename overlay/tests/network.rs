//! What a network may be, and how each refusal is worded.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use weft_overlay::documents::{Copying, NetworkSpec};
use weft_overlay::network::{
    LONGEST_DEFAULT4, LONGEST_DEFAULT6, NetworkError, default_subnet_len, gateway4, is_reserved,
    network_spec,
};
use weft_overlay::{Vni, mtu, site};

fn wanted(keys: &[(&str, serde_json::Value)]) -> site::Network {
    let mut table = serde_json::json!({ "name": "red/front" });
    for (key, value) in keys {
        table[*key] = value.clone();
    }
    serde_json::from_value(table).expect("a network table")
}

fn refused(keys: &[(&str, serde_json::Value)]) -> NetworkError {
    let error = network_spec(&wanted(keys), None, &BTreeSet::new()).expect_err("refused");
    assert!(
        error.to_string().contains("red/front"),
        "the subject is named: {error}"
    );
    assert!(!error.help().is_empty());
    error
}

#[test]
fn a_range_gives_a_thousand_nodes_a_subnet() {
    let spec = network_spec(
        &wanted(&[("cidr", "10.10.0.0/16".into())]),
        None,
        &BTreeSet::new(),
    )
    .expect("made");
    assert_eq!(
        (spec.vni.get(), spec.subnet_len4, spec.subnet_len6),
        (1, Some(26), None)
    );
    let spec = network_spec(
        &wanted(&[("cidr6", "fd00:10::/48".into())]),
        None,
        &BTreeSet::new(),
    )
    .expect("made");
    assert_eq!(spec.subnet_len6, Some(64));
    for (cidr, len) in [
        ("10.0.0.0/8", 18),
        ("192.168.0.0/24", 29),
        ("192.168.0.0/28", 29),
        ("fd00::/64", 80),
        ("fd00::/112", 120),
    ] {
        assert_eq!(
            default_subnet_len(&cidr.parse().expect("a range")),
            len,
            "{cidr}"
        );
    }
}

#[test]
fn the_gateway_is_the_first_address() {
    assert_eq!(
        gateway4(&"10.10.0.0/16".parse().expect("a range")).to_string(),
        "10.10.0.1"
    );
    let spec = network_spec(
        &wanted(&[
            ("cidr", "10.10.0.0/16".into()),
            ("cidr6", "fd00:10::/48".into()),
        ]),
        None,
        &BTreeSet::new(),
    )
    .expect("made");
    for address in [
        "10.10.0.0",
        "10.10.0.1",
        "10.10.255.255",
        "fd00:10::",
        "fd00:10::1",
    ] {
        assert!(
            is_reserved(&spec, address.parse::<IpAddr>().expect("an address")),
            "{address}"
        );
    }
    for address in ["10.10.0.2", "10.10.3.0", "10.10.3.255", "fd00:10::2"] {
        assert!(
            !is_reserved(&spec, address.parse::<IpAddr>().expect("an address")),
            "{address}"
        );
    }
}

#[test]
fn refusals_say_what_to_write_instead() {
    assert!(matches!(refused(&[]), NetworkError::NoRange { .. }));
    let small = refused(&[("cidr", "10.10.0.0/30".into())]);
    assert!(matches!(
        small,
        NetworkError::TooSmall {
            addresses: 4,
            longest: 28,
            ..
        }
    ));
    assert!(small.help().contains("10.10.0.0/16"), "{}", small.help());
    assert!(matches!(
        refused(&[("cidr6", "fd00::/124".into())]),
        NetworkError::TooSmall { .. }
    ));
    let bits = refused(&[("cidr", "10.10.1.7/16".into())]);
    assert_eq!(bits.help(), "write 10.10.0.0/16");
    for cidr in ["127.0.0.0/16", "224.0.0.0/8", "0.0.0.0/0", "169.254.0.0/20"] {
        assert!(
            matches!(
                refused(&[("cidr", cidr.into())]),
                NetworkError::Reserved { .. }
            ),
            "{cidr}"
        );
    }
    assert!(matches!(
        refused(&[("cidr6", "fe80::/64".into())]),
        NetworkError::Reserved { .. }
    ));
    for len in [8, 15, 32] {
        let error = refused(&[("cidr", "10.10.0.0/16".into()), ("subnet_len", len.into())]);
        assert!(
            matches!(
                error,
                NetworkError::SubnetLen {
                    shortest: 16,
                    longest: 31,
                    ..
                }
            ),
            "{error}"
        );
    }
    let alone = refused(&[("cidr", "10.10.0.0/16".into()), ("subnet_len6", 64.into())]);
    assert!(matches!(
        alone,
        NetworkError::SubnetLenAlone {
            key: "subnet_len6",
            ..
        }
    ));
    let mtu = refused(&[("cidr6", "fd00::/48".into()), ("mtu", 1000.into())]);
    assert!(matches!(mtu, NetworkError::Mtu { least: 1280, .. }));
}

#[test]
fn priority_and_time_to_live_are_the_tunnel_s_own_unless_asked_for_and_may_change() {
    let made = |keys: &[(&str, serde_json::Value)], present: Option<&NetworkSpec>| {
        let mut keys = keys.to_vec();
        keys.push(("cidr", "10.10.0.0/16".into()));
        network_spec(&wanted(&keys), present, &BTreeSet::new()).expect("made")
    };
    let usual = made(&[], None);
    assert_eq!((usual.dscp, usual.ttl), (Copying::Pipe, Copying::Pipe));
    // Nodes of an older version read it.
    let written = serde_json::to_value(&usual).expect("JSON");
    assert!(written.get("dscp").is_none() && written.get("ttl").is_none());
    let both = [("dscp", "uniform".into()), ("ttl", "uniform".into())];
    let changed = made(&both, Some(&usual));
    assert_eq!(
        (changed.dscp, changed.ttl),
        (Copying::Uniform, Copying::Uniform)
    );
}

#[test]
fn vnis_are_unique_and_stay() {
    let used: BTreeSet<Vni> = [1, 2, 4].into_iter().filter_map(Vni::new).collect();
    let net = wanted(&[("cidr", "10.10.0.0/16".into())]);
    let spec = network_spec(&net, None, &used).expect("made");
    assert_eq!(spec.vni.get(), 3);
    let taken = network_spec(
        &wanted(&[("cidr", "10.10.0.0/16".into()), ("vni", 4.into())]),
        None,
        &used,
    );
    assert!(matches!(taken, Err(NetworkError::VniTaken { .. })));
    // Applied again with other numbers taken meanwhile, it stays as it is.
    let used_now: BTreeSet<Vni> = (1..=9).filter_map(Vni::new).collect();
    assert_eq!(
        network_spec(&net, Some(&spec), &used_now).expect("the same"),
        spec
    );
}

#[test]
fn what_endpoints_rely_on_cannot_change() {
    let present = network_spec(
        &wanted(&[("cidr", "10.10.0.0/16".into())]),
        None,
        &BTreeSet::new(),
    )
    .expect("made");
    for change in [
        vec![("cidr", "10.11.0.0/16".into())],
        vec![("cidr", "10.10.0.0/16".into()), ("subnet_len", 24.into())],
        vec![("cidr", "10.10.0.0/16".into()), ("vni", 77.into())],
        vec![("cidr", "10.10.0.0/16".into()), ("datapath", "ovs".into())],
        vec![
            ("cidr", "10.10.0.0/16".into()),
            ("cidr6", "fd00::/48".into()),
        ],
    ] {
        let error =
            network_spec(&wanted(&change), Some(&present), &BTreeSet::new()).expect_err("fixed");
        assert!(matches!(error, NetworkError::Fixed { .. }), "{error}");
    }
    let labelled = wanted(&[("cidr", "10.10.0.0/16".into()), ("mtu", 1400.into())]);
    assert_eq!(
        network_spec(&labelled, Some(&present), &BTreeSet::new())
            .expect("allowed")
            .mtu,
        Some(1400)
    );
}

#[test]
fn mtu_follows_the_underlay() {
    let (four, six): (IpAddr, IpAddr) = (
        "192.0.2.1".parse().expect("v4"),
        "2001:db8::1".parse().expect("v6"),
    );
    assert_eq!(mtu::overlay_mtu(1500, four), 1450);
    assert_eq!(mtu::overlay_mtu(1500, six), 1430);
    assert_eq!(mtu::overlay_mtu(20, four), 0);
    let mut spec = network_spec(
        &wanted(&[("cidr", "10.10.0.0/16".into())]),
        None,
        &BTreeSet::new(),
    )
    .expect("made");
    assert_eq!(mtu::network_mtu(&spec, 9000, four), 8950);
    spec.mtu = Some(1400);
    assert_eq!(mtu::network_mtu(&spec, 9000, four), 1400);
    assert_eq!(mtu::network_mtu(&spec, 1400, four), 1350);
}

proptest! {
    #[test]
    fn default_lengths_are_within_the_range(prefix4 in 0u8..=32, prefix6 in 0u8..=128) {
        let four = default_subnet_len(&format!("0.0.0.0/{prefix4}").parse().expect("a range"));
        prop_assert!(four >= prefix4 && four <= 32);
        prop_assert!(four - prefix4 >= 10 || four >= LONGEST_DEFAULT4);
        let six = default_subnet_len(&format!("::/{prefix6}").parse().expect("a range"));
        prop_assert!(six >= prefix6 && six <= 128);
        prop_assert!(six - prefix6 >= 10 || six >= LONGEST_DEFAULT6);
    }
}
