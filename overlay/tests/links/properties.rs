//! What a link has: state, MTU, addresses, routes, neighbours.

use crate::support::{ip, namespace, net, veth};
use weft_overlay::Mac;
use weft_overlay::link::{LinkKind, Netlink, Route};

#[tokio::test]
async fn properties_addresses_and_routes_hold() {
    let ns = namespace();
    let netlink = Netlink::in_netns(&ns).expect("netlink");
    netlink
        .ensure_veth(&veth("a", "b"), None)
        .await
        .expect("made");
    let bridge = netlink.ensure_bridge("br0").await.expect("made");
    assert_eq!(netlink.ensure_bridge("br0").await.expect("again"), bridge);
    for _ in 0..2 {
        netlink.set_up("a").await.expect("up");
        netlink.set_up("b").await.expect("up");
        netlink.set_master("b", Some("br0")).await.expect("a port");
        netlink
            .set_mac("a", Mac([0x0a, 0x77, 0, 0, 0, 7]))
            .await
            .expect("address");
        netlink
            .add_address("a", net("192.0.2.1/24"))
            .await
            .expect("IPv4");
        netlink
            .add_address("a", net("2001:db8::1/64"))
            .await
            .expect("IPv6");
        netlink
            .replace_route(&Route::direct(net("198.51.100.0/24"), "a"))
            .await
            .expect("direct");
        netlink
            .replace_route(&Route::via(net("0.0.0.0/0"), ip("203.0.113.1"), "a"))
            .await
            .expect("onlink");
        netlink
            .replace_route(&Route::via(net("::/0"), ip("fe80::1"), "a"))
            .await
            .expect("IPv6");
    }
    let links = netlink.links().await.expect("listed");
    let of = |name: &str| {
        links
            .iter()
            .find(|l| l.name == name)
            .expect("listed")
            .clone()
    };
    assert_eq!(
        (of("b").master, of("a").up, of("a").mac),
        (Some(bridge), true, Some(Mac([0x0a, 0x77, 0, 0, 0, 7])))
    );
    assert_eq!(of("lo").kind, LinkKind::Device);
    let addresses = netlink.addresses().await.expect("listed");
    for address in ["192.0.2.1/24", "2001:db8::1/64"] {
        let seen: Vec<_> = addresses
            .iter()
            .filter(|a| a.address == net(address))
            .collect();
        assert_eq!(seen.len(), 1, "{address} once in {addresses:?}");
        assert!(seen[0].link == "a" && !seen[0].tentative);
    }
    let routes = netlink.routes().await.expect("listed");
    for (to, gateway) in [
        ("198.51.100.0/24", None),
        ("0.0.0.0/0", Some("203.0.113.1")),
        ("::/0", Some("fe80::1")),
    ] {
        let seen: Vec<_> = routes.iter().filter(|r| r.destination == net(to)).collect();
        assert_eq!(seen.len(), 1, "{to} once in {routes:?}");
        assert_eq!(
            (seen[0].gateway, seen[0].link.as_str()),
            (gateway.map(ip), "a")
        );
    }
    // A route is replaced, not added to.
    netlink
        .replace_route(&Route::via(net("0.0.0.0/0"), ip("192.0.2.254"), "a"))
        .await
        .expect("replaced");
    let defaults = netlink.routes().await.expect("listed");
    let defaults: Vec<_> = defaults
        .iter()
        .filter(|r| r.destination == net("0.0.0.0/0"))
        .collect();
    assert_eq!(
        (defaults.len(), defaults[0].gateway),
        (1, Some(ip("192.0.2.254")))
    );
    for _ in 0..2 {
        netlink
            .delete_route(&Route::direct(net("198.51.100.0/24"), "a"))
            .await
            .expect("deleted");
        netlink
            .delete_address("a", net("192.0.2.1/24"))
            .await
            .expect("deleted");
        netlink.set_master("b", None).await.expect("no port");
        netlink.set_down("a").await.expect("down");
    }
    assert!(
        !netlink
            .addresses()
            .await
            .expect("listed")
            .iter()
            .any(|a| a.address == net("192.0.2.1/24"))
    );
    assert!(!netlink.link("a").await.expect("read").expect("exists").up);
}
