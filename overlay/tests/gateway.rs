//! Gateways in namespaces of their own: made whole, seen when something is taken from them, gone without a trace.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_overlay::filter::{self, Chain, Hook, Table};
use weft_overlay::gateway::{
    Gateway, TABLE, configure, ensure, inner_name, lacks, passes_on, remove, transit4, up_name,
};
use weft_overlay::link::{Netlink, sysctl};
use weft_overlay::netns;

fn gateway(index: u16) -> Gateway {
    let published = BTreeSet::from([
        ("8080:tcp/80".parse().unwrap(), "10.10.0.9".parse().unwrap()),
        ("8080:tcp/80".parse().unwrap(), "fd10::9".parse().unwrap()),
        ("53:udp/53".parse().unwrap(), "10.10.0.9".parse().unwrap()),
    ]);
    Gateway {
        index,
        cidr4: Some("10.10.0.0/16".parse().unwrap()),
        cidr6: Some("fd10::/64".parse().unwrap()),
        mtu: 1450,
        underlay_mtu: 1500,
        egress: true,
        published,
    }
}

#[tokio::test]
async fn a_gateway_is_made_whole_repaired_and_gone_without_a_trace() {
    let node = netns::create().unwrap();
    let netlink = Netlink::in_netns(&node).unwrap();
    let before = netlink.links().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pin = dir.path().join("gateways/7");
    let wanted = gateway(7);
    let hold = ensure(&netlink, &pin, &wanted).await.unwrap();
    assert_eq!(lacks(&hold, &wanted).await.unwrap(), Vec::<String>::new());
    let inner = netlink.link(&inner_name(7)).await.unwrap().unwrap();
    assert!(!inner.up, "its program is not on it yet");
    assert_eq!(inner.index, hold.ifindex);

    // Whoever comes later finds the same.
    let again = ensure(&netlink, &pin, &wanted).await.unwrap();
    assert_eq!(again.ifindex, hold.ifindex);
    assert_eq!(lacks(&hold, &wanted).await.unwrap(), ["its rules"]);

    let inside = Netlink::in_netns(&again.netns).unwrap();
    for route in inside.routes().await.unwrap() {
        if route.destination == "0.0.0.0/0".parse().unwrap() {
            inside.delete_route(&route).await.unwrap();
        }
    }
    assert_eq!(lacks(&again, &wanted).await.unwrap(), ["route 0.0.0.0/0"]);
    let again = ensure(&netlink, &pin, &wanted).await.unwrap();
    assert_eq!(lacks(&again, &wanted).await.unwrap(), Vec::<String>::new());

    remove(&netlink, &pin, 7).await.unwrap();
    remove(&netlink, &pin, 7).await.unwrap();
    assert_eq!(netlink.links().await.unwrap(), before);
    assert!(!pin.exists());
}

#[tokio::test]
async fn the_nodes_rules_are_one_transaction_and_can_be_taken_away() {
    let node = netns::create().unwrap();
    let nodes: BTreeSet<IpAddr> = (0..2000u32)
        .map(|n| IpAddr::from((0xc000_0200 + n).to_be_bytes()))
        .chain(["fd00::1".parse().unwrap()])
        .collect();
    let first = filter::generation(&node).unwrap();
    let made = configure(
        &node,
        &[gateway(0), gateway(1)],
        &nodes,
        [false, false],
        4789,
    )
    .unwrap();
    assert_eq!(made, first + 1, "one transaction");
    assert_eq!(sysctl::read(&node, "net/ipv4/ip_forward").unwrap(), "1");
    assert_eq!(
        sysctl::read(&node, "net/ipv6/conf/all/forwarding").unwrap(),
        "1"
    );
    let gone = configure(&node, &[], &nodes, [false, false], 4789).unwrap();
    assert_eq!(gone, made + 1);
    assert_eq!(passes_on(&node), [false, false], "as before");
    filter::remove(&node, TABLE).unwrap();
    // Names and addresses follow from the number.
    assert_eq!(up_name(3), "weftu3");
    assert_eq!(transit4(3).1.to_string(), "169.254.64.7");
}

#[tokio::test]
async fn a_firewall_that_lets_nothing_pass_is_seen() {
    let node = netns::create().unwrap();
    configure(&node, &[gateway(0)], &BTreeSet::new(), [false, false], 4789).unwrap();
    let seen = || filter::closed_by_others(&node).unwrap();
    assert_eq!(seen(), Vec::<String>::new(), "its own are its own affair");
    let chain = |name, hook, drops| Chain {
        name,
        hook,
        drops,
        rules: Vec::new(),
    };
    let theirs = Table {
        name: "firewall",
        sets: Vec::new(),
        chains: vec![
            chain("in", Hook::Own, true),
            chain("watched", Hook::Passing, false),
            chain("FORWARD", Hook::Passing, true),
        ],
    };
    filter::replace(&node, &theirs).unwrap();
    assert_eq!(seen(), ["chain FORWARD of table inet firewall"]);
}

#[tokio::test]
async fn what_the_kernel_refuses_is_told_and_changes_nothing() {
    let node = netns::create().unwrap();
    let before = filter::generation(&node).unwrap();
    let mut table =
        weft_overlay::gateway::node_rules(&[gateway(0)], &BTreeSet::new(), [true, true], 4789);
    // A chain looks into a set that is not there.
    table.sets.clear();
    let error = filter::replace(&node, &table).unwrap_err();
    assert!(error.to_string().contains("write table weft"), "{error}");
    assert_eq!(filter::generation(&node).unwrap(), before);
}
