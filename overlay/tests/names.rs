//! Names, keys and documents: what is written is read back, and nothing else is.

use proptest::prelude::*;
use weft_overlay::documents::{InterfaceSpec, NetworkSpec};
use weft_overlay::keys::{Key, ROOT, network_prefix, tenant_prefix};
use weft_overlay::naming::{NamingError, name_interfaces};
use weft_overlay::{ContainerRef, EndpointRef, InterfaceName, Mac, NetworkRef, NodeName, Vni};

#[test]
fn names_are_labels() {
    for good in ["a", "0", "web-1", "a--b", &"x".repeat(63)] {
        assert!(good.parse::<NodeName>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "a_b",
        "a/b",
        "é",
        &"x".repeat(64),
    ] {
        let error = bad.parse::<NodeName>().expect_err(bad);
        assert!(error.to_string().starts_with("node name"), "{error}");
    }
    for bad in ["", "eth0/1", "a b", ".", "..", &"x".repeat(16)] {
        assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
    }
    for bad in ["red", "red/", "red/a/b/c", "/a/b", "red//b"] {
        assert!(bad.parse::<EndpointRef>().is_err(), "{bad:?}");
    }
}

#[test]
fn keys_stand_where_the_layout_says() {
    let network: NetworkRef = "red/front".parse().expect("a network");
    let key = Key::Subnet(network.clone(), "10.10.3.0/26".parse().expect("a subnet"));
    assert_eq!(
        key.path(),
        "/weft/v1/tenants/red/networks/front/subnets/10.10.3.0-26"
    );
    assert!(key.path().starts_with(&network_prefix(&network)));
    assert!(key.path().starts_with(&tenant_prefix(&network.tenant)));
    for strange in [
        "",
        "/weft/v1/",
        "/weft/v2/cluster",
        "/weft/v1/cluster/",
        "/weft/v1/vnis/0",
        "/weft/v1/vnis/x",
        "/weft/v1/nodes/N/spec",
        "/weft/v1/tenants/red/networks/front/subnets/10.10.3.0",
        "/registry/pods",
    ] {
        assert_eq!(Key::parse(strange), None, "{strange:?}");
    }
}

#[test]
fn unknown_fields_are_refused() {
    let text = r#"{"vni": 1, "cidr4": "10.10.0.0/16", "mtuu": 1400}"#;
    let error = serde_json::from_str::<NetworkSpec>(text).expect_err("a typo");
    assert!(error.to_string().contains("mtuu"), "{error}");
    assert!(serde_json::from_str::<NetworkSpec>(r#"{"vni": 0}"#).is_err());
}

fn interfaces(list: &[(&str, Option<&str>)]) -> Vec<InterfaceSpec> {
    list.iter()
        .map(|(network, name)| InterfaceSpec {
            kept: Vec::new(),
            network: network.parse().expect("a network"),
            name: name.map(|n| n.parse().expect("an interface")),
            address: None,
            hop: false,
        })
        .collect()
}

fn endpoints(container: &str, list: &[(&str, Option<&str>)]) -> Result<Vec<String>, NamingError> {
    let container: ContainerRef = container.parse().expect("a container");
    let named = name_interfaces(&container, &interfaces(list))?;
    Ok(named
        .iter()
        .map(|n| format!("{} {}", n.name, n.endpoint))
        .collect())
}

#[test]
fn endpoints_are_named_after_containers() {
    assert_eq!(
        endpoints("red/web", &[("front", None)]),
        Ok(vec!["eth0 red/front/web".into()])
    );
    assert_eq!(
        endpoints("red/web", &[("front", None), ("back", None)]),
        Ok(vec![
            "eth0 red/front/web".into(),
            "eth1 red/back/web".into()
        ])
    );
    assert_eq!(
        endpoints("red/web", &[("front", None), ("front", None)]),
        Ok(vec![
            "eth0 red/front/web".into(),
            "eth1 red/front/web-eth1".into()
        ])
    );
    assert_eq!(
        endpoints("red/fw", &[("front", Some("in0")), ("front", Some("out0"))]),
        Ok(vec![
            "in0 red/front/fw-in0".into(),
            "out0 red/front/fw-out0".into()
        ])
    );
    assert_eq!(
        endpoints("red/ids", &[("front", Some("mon0"))]),
        Ok(vec!["mon0 red/front/ids".into()])
    );
    assert_eq!(
        endpoints("red/a", &[("front", Some("Wan_0.1")), ("front", None)]),
        Ok(vec![
            "Wan_0.1 red/front/a-wan-0-1".into(),
            "eth1 red/front/a-eth1".into()
        ])
    );
    let twice = endpoints("red/a", &[("front", Some("eth1")), ("back", None)]);
    assert!(matches!(twice, Err(NamingError::Twice { .. })), "{twice:?}");
    let long = endpoints(
        &format!("red/{}", "x".repeat(60)),
        &[("a", Some("in0")), ("a", Some("out0"))],
    );
    assert!(
        matches!(long, Err(NamingError::NoEndpoint { .. })),
        "{long:?}"
    );
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?"
}

fn key() -> impl Strategy<Value = Key> {
    let name = label;
    let network = || {
        (label(), label())
            .prop_map(|(t, n)| format!("{t}/{n}").parse::<NetworkRef>().expect("a network"))
    };
    let subnet = prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(a, l)| format!("{}/{l}", std::net::Ipv4Addr::from(a))),
        (any::<u128>(), 0u8..=128)
            .prop_map(|(a, l)| format!("{}/{l}", std::net::Ipv6Addr::from(a))),
    ]
    .prop_map(|text| text.parse::<ipnet::IpNet>().expect("a subnet").trunc());
    prop_oneof![
        Just(Key::Cluster),
        name().prop_map(|n| Key::NodeSpec(n.parse().expect("a node"))),
        name().prop_map(|n| Key::NodeAlive(n.parse().expect("a node"))),
        name().prop_map(|t| Key::Tenant(t.parse().expect("a tenant"))),
        network().prop_map(Key::Network),
        (network(), subnet).prop_map(|(n, s)| Key::Subnet(n, s)),
        (network(), name()).prop_map(|(n, e)| Key::Endpoint(EndpointRef {
            tenant: n.tenant,
            network: n.network,
            endpoint: e.parse().expect("an endpoint")
        })),
        (network(), any::<std::net::IpAddr>()).prop_map(|(n, a)| Key::Address(n, a)),
        (name(), name())
            .prop_map(|(t, c)| Key::Container(format!("{t}/{c}").parse().expect("a container"))),
        (name(), name()).prop_map(|(t, c)| Key::ContainerStatus(
            format!("{t}/{c}").parse().expect("a container")
        )),
        (name(), name()).prop_map(|(t, c)| Key::Chain(
            t.parse().expect("a tenant"),
            c.parse().expect("a chain")
        )),
        (name(), name(), any::<u64>()).prop_map(|(t, c, v)| Key::ChainVersion(
            t.parse().expect("a tenant"),
            c.parse().expect("a chain"),
            v
        )),
        (name(), name(), any::<u64>(), name()).prop_map(|(t, c, v, n)| Key::ChainReady(
            t.parse().expect("a tenant"),
            c.parse().expect("a chain"),
            v,
            n.parse().expect("a node")
        )),
        (name(), name(), any::<u64>(), name(), name()).prop_map(|(t, c, v, h, i)| {
            Key::ChainInstance(
                t.parse().expect("a tenant"),
                c.parse().expect("a chain"),
                v,
                h,
                i.parse().expect("a container"),
            )
        }),
        (1u32..0xff_ffff).prop_filter_map("a VNI", |v| Vni::new(v).map(Key::Vni)),
        any::<u32>().prop_map(Key::Steer),
        (name(), name(), name()).prop_map(|(n, t, c)| {
            let container = weft_overlay::ContainerRef {
                tenant: t.parse().expect("a tenant"),
                container: c.parse().expect("a container"),
            };
            Key::Placed(n.parse().expect("a node"), container)
        }),
    ]
}

proptest! {
    #[test]
    fn every_key_is_read_back(key in key()) {
        let path = key.path();
        prop_assert!(path.starts_with(ROOT));
        prop_assert_eq!(Key::parse(&path), Some(key));
    }

    #[test]
    fn no_path_makes_it_panic(path in "(/weft/v1/)?[a-z0-9/.:-]{0,40}") {
        if let Some(key) = Key::parse(&path) {
            prop_assert!(key.path().starts_with(ROOT));
        }
    }

    #[test]
    fn macs_are_read_back(bytes in any::<[u8; 6]>()) {
        prop_assert_eq!(Mac(bytes).to_string().parse::<Mac>(), Ok(Mac(bytes)));
    }
}
