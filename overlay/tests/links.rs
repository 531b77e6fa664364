//! Every netlink verb in network namespaces of its own, twice: the second time must change nothing.
//!
//! The namespaces are held by descriptors only, so they vanish with the test, however it ends.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weft_overlay::documents::NetworkSpec;
use weft_overlay::link::{
    ContainerNet, DesiredLink, LinkError, LinkKind, LinkOp, Netlink, Route, VethSpec, VxlanInfo,
    VxlanSpec, apply, configure_container, plan, sysctl,
};
use weft_overlay::{Mac, netns};

fn namespace() -> OwnedFd {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces: run it as root (sudo -E cargo test, or cargo xtask test)"
    );
    netns::create().expect("a network namespace")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a range")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn vxlan(name: &str, port: u16) -> VxlanSpec {
    VxlanSpec {
        mac: Some(Mac([0x0a, 0x77, 0, 0, 0, 9])),
        ..VxlanSpec::over(name, port, 1500, ip("192.0.2.1"))
    }
}

fn veth(name: &str, peer: &str) -> VethSpec {
    VethSpec {
        name: name.into(),
        mac: Some(Mac([0x0a, 0x77, 0, 0, 0, 1])),
        peer_name: peer.into(),
        peer_mac: Some(Mac([0x0a, 0x58, 10, 10, 0, 2])),
        mtu: 1450,
    }
}

#[tokio::test]
async fn vxlan_is_external_and_does_not_learn() {
    let netlink = Netlink::in_netns(namespace()).expect("netlink");
    let spec = vxlan("weft-vx", 4789);
    let index = netlink.ensure_vxlan(&spec).await.expect("made");
    let made = netlink
        .link("weft-vx")
        .await
        .expect("read")
        .expect("exists");
    let flags = VxlanInfo {
        port: 4789,
        external: true,
        learning: false,
        udp_csum: true,
        udp6_zero_csum_tx: false,
    };
    assert_eq!(
        (made.index, made.kind.clone(), made.vxlan),
        (index, LinkKind::Vxlan, Some(flags))
    );
    assert_eq!((made.mtu, made.up, made.mac), (1450, true, spec.mac));
    let off = sysctl::read(netlink.netns(), "net/ipv6/conf/weft-vx/disable_ipv6").expect("read");
    assert_eq!(off, "1");

    assert_eq!(
        netlink.ensure_vxlan(&spec).await.expect("again"),
        index,
        "the same device"
    );
    let smaller = VxlanSpec {
        mtu: 1400,
        ..spec.clone()
    };
    assert_eq!(
        netlink.ensure_vxlan(&smaller).await.expect("smaller"),
        index,
        "MTU changes in place"
    );
    assert_eq!(netlink.mtu_of("weft-vx").await.expect("read"), 1400);
    // The port cannot be changed: a new device.
    let moved = netlink
        .ensure_vxlan(&vxlan("weft-vx", 4790))
        .await
        .expect("made anew");
    assert_ne!(moved, index);
    let port = netlink
        .link("weft-vx")
        .await
        .expect("read")
        .and_then(|l| l.vxlan)
        .map(|v| v.port);
    assert_eq!(port, Some(4790));
}

#[tokio::test]
async fn one_external_device_a_port_is_explained() {
    let netlink = Netlink::in_netns(namespace()).expect("netlink");
    netlink
        .ensure_vxlan(&vxlan("weft-vx", 4789))
        .await
        .expect("made");
    let error = netlink
        .ensure_vxlan(&vxlan("other", 4789))
        .await
        .expect_err("the port is taken");
    assert!(error.to_string().contains("VXLAN device other"), "{error}");
    assert!(!error.help().is_empty());
}

#[tokio::test]
async fn a_foreign_link_of_the_name_is_not_touched() {
    let netlink = Netlink::in_netns(namespace()).expect("netlink");
    netlink.ensure_bridge("weft-vx").await.expect("made");
    let error = netlink
        .ensure_vxlan(&vxlan("weft-vx", 4789))
        .await
        .expect_err("a bridge");
    assert!(
        matches!(
            error,
            LinkError::Kind {
                found: LinkKind::Bridge,
                wanted: LinkKind::Vxlan,
                ..
            }
        ),
        "{error}"
    );
    let still = netlink
        .link("weft-vx")
        .await
        .expect("read")
        .expect("still there");
    assert_eq!(still.kind, LinkKind::Bridge);
}

#[tokio::test]
async fn veth_pairs_join_namespaces() {
    let (here, there) = (namespace(), namespace());
    let netlink = Netlink::in_netns(&here).expect("netlink");
    let inside = Netlink::in_netns(&there).expect("netlink");
    let spec = veth("wf1", "eth0");
    let index = netlink
        .ensure_veth(&spec, Some(there.as_fd()))
        .await
        .expect("made");
    let (a, b) = (
        netlink.link("wf1").await.expect("read").expect("this end"),
        inside
            .link("eth0")
            .await
            .expect("read")
            .expect("the other end"),
    );
    assert_eq!((a.peer, b.peer), (Some(b.index), Some(a.index)));
    assert_eq!(
        (a.mac, b.mac, a.mtu, b.mtu),
        (spec.mac, spec.peer_mac, 1450, 1450)
    );
    assert!(
        netlink.link("eth0").await.expect("read").is_none(),
        "the other end is not here"
    );
    assert_eq!(
        netlink
            .ensure_veth(&spec, Some(there.as_fd()))
            .await
            .expect("again"),
        index
    );

    // Changed behind our back: set right in place.
    inside.set_mtu("eth0", 1300).await.expect("set");
    netlink
        .ensure_veth(&spec, Some(there.as_fd()))
        .await
        .expect("mended");
    assert_eq!(inside.mtu_of("eth0").await.expect("read"), 1450);
    // The container has a new namespace: a new pair, the old end gone.
    let elsewhere = namespace();
    let anew = netlink
        .ensure_veth(&spec, Some(elsewhere.as_fd()))
        .await
        .expect("made anew");
    assert_ne!(anew, index);
    assert!(inside.link("eth0").await.expect("read").is_none());
    assert!(
        Netlink::in_netns(&elsewhere)
            .expect("netlink")
            .link("eth0")
            .await
            .expect("read")
            .is_some()
    );

    netlink.quiet("wf1").await.expect("quiet");
    assert_eq!(
        sysctl::read(&here, "net/ipv6/conf/wf1/disable_ipv6").expect("read"),
        "1"
    );
    for _ in 0..2 {
        netlink.delete_link("wf1").await.expect("deleted");
    }
    assert!(netlink.link("wf1").await.expect("read").is_none());
}

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

#[tokio::test]
async fn links_move_and_change_names() {
    let (here, there) = (namespace(), namespace());
    let netlink = Netlink::in_netns(&here).expect("netlink");
    netlink
        .ensure_veth(&veth("a", "b"), None)
        .await
        .expect("made");
    for _ in 0..2 {
        netlink.rename("a", "c").await.expect("renamed");
        netlink.move_link("b", &there, "eth0").await.expect("moved");
    }
    let inside = Netlink::in_netns(&there).expect("netlink");
    assert_eq!(
        inside.link("eth0").await.expect("read").map(|l| l.kind),
        Some(LinkKind::Veth)
    );
    assert!(netlink.link("c").await.expect("read").is_some());
}

#[tokio::test]
async fn errors_name_the_verb_and_the_link() {
    let netlink = Netlink::in_netns(namespace()).expect("netlink");
    netlink
        .ensure_veth(&veth("a", "b"), None)
        .await
        .expect("made");
    let address = net("192.0.2.1/24");
    let unknown = Route::direct(address, "nope");
    let unreachable = Route {
        onlink: false,
        ..Route::via(net("0.0.0.0/0"), ip("203.0.113.1"), "a")
    };
    for (result, text) in [
        (
            netlink.set_up("nope").await,
            "set up nope: there is no such link",
        ),
        (
            netlink.set_mtu("nope", 1400).await,
            "set the MTU of nope: there",
        ),
        (
            netlink.add_address("nope", address).await,
            "add an address to nope: there",
        ),
        (
            netlink.set_master("a", Some("nope")).await,
            "set the bridge of nope: there",
        ),
        (
            netlink.replace_route(&unknown).await,
            "set a route on nope: there",
        ),
        // Refused by the kernel: smaller than any IPv4 packet; not a bridge; link down.
        (netlink.set_mtu("a", 10).await, "set the MTU of a: "),
        (
            netlink.set_master("a", Some("b")).await,
            "set the bridge of a: ",
        ),
        (
            netlink.replace_route(&unreachable).await,
            "set a route on a (0.0.0.0/0 via 203.0.113.1): ",
        ),
    ] {
        let error = result.expect_err(text);
        assert!(error.to_string().starts_with(text), "{error}");
        assert!(!error.help().is_empty());
    }
}

#[tokio::test]
async fn plans_bring_links_to_what_is_desired() {
    let (here, inside) = (namespace(), Arc::new(namespace()));
    let netlink = Netlink::in_netns(&here).expect("netlink");
    let owned = |name: &str| name.starts_with("wf");
    let desired = vec![
        DesiredLink::Vxlan(vxlan("wfvx", 4789)),
        DesiredLink::Veth(veth("wf1", "eth0")),
        DesiredLink::Bridge("wfbr".into()),
    ];
    // Left over from an earlier life, and somebody else's.
    netlink.ensure_bridge("wf9").await.expect("made");
    netlink.ensure_bridge("docker0").await.expect("made");
    netlink.ensure_bridge("wf1").await.expect("made");
    let first = plan(&desired, &netlink.links().await.expect("listed"), owned);
    let deleted: Vec<_> = first
        .ops()
        .iter()
        .filter(|op| matches!(op, LinkOp::Delete { .. }))
        .collect();
    assert_eq!(deleted.len(), 2, "{first:?}");
    let errors = apply(&netlink, first, |_| Some(Arc::clone(&inside))).await;
    assert!(errors.is_empty(), "{errors:?}");
    let seen = netlink.links().await.expect("listed");
    assert!(
        plan(&desired, &seen, owned).is_empty(),
        "{:?}",
        plan(&desired, &seen, owned)
    );
    assert!(seen.iter().any(|l| l.name == "docker0"), "not ours");
    assert!(!seen.iter().any(|l| l.name == "wf9"), "ours, not wanted");
    assert_eq!(
        sysctl::read(&here, "net/ipv6/conf/wf1/disable_ipv6").expect("read"),
        "1"
    );

    netlink.set_down("wfbr").await.expect("down");
    netlink.delete_link("wfvx").await.expect("deleted");
    let mend = plan(&desired, &netlink.links().await.expect("listed"), owned);
    assert_eq!(mend.ops().len(), 3, "{mend:?}");
    // Goes on after an error: the pair's namespace is gone, the rest is made.
    netlink.delete_link("wf1").await.expect("deleted");
    let mend = plan(&desired, &netlink.links().await.expect("listed"), owned);
    let errors = apply(&netlink, mend, |_| None).await;
    assert!(
        errors.iter().any(|e| matches!(e, LinkError::NoPeer { .. })),
        "{errors:?}"
    );
    let vx = netlink.link("wfvx").await.expect("read").expect("made");
    assert!(vx.up && netlink.link("wfbr").await.expect("read").expect("there").up);
}

fn network() -> NetworkSpec {
    let text = r#"{"vni": 1, "cidr4": "10.10.0.0/16", "cidr6": "fd00:10::/48"}"#;
    serde_json::from_str(text).expect("a network")
}

fn socket(netns: &OwnedFd, address: IpAddr, port: u16) -> UdpSocket {
    let socket = netns::run_in_netns(netns, || UdpSocket::bind(SocketAddr::new(address, port)));
    let socket = socket.expect("entered").expect("bound");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("timeout");
    socket
}

/// A router in place of the datapath: a bridge with the gateway's addresses.
async fn gateway(ns: &OwnedFd) -> Netlink {
    let netlink = Netlink::in_netns(ns).expect("netlink");
    netlink.ensure_bridge("br0").await.expect("bridge");
    for address in ["10.10.0.1/16", "fe80::1/64", "fd00:10::1/48"] {
        netlink
            .add_address("br0", net(address))
            .await
            .expect("gateway address");
    }
    let on =
        ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(|key| (key.to_owned(), "1"));
    sysctl::write(ns, &on).expect("forwarding");
    netlink
}

#[tokio::test]
async fn containers_talk_by_way_of_the_gateway() {
    let (middle, a, b) = (namespace(), namespace(), namespace());
    let netlink = gateway(&middle).await;
    for (n, ns) in [(2u8, &a), (3, &b)] {
        let name = format!("wf{n}");
        let mac = Mac([0x0a, 0x58, 10, 10, 0, n]);
        let pair = VethSpec {
            mac: None,
            peer_mac: Some(mac),
            ..veth(&name, "eth0")
        };
        netlink
            .ensure_veth(&pair, Some(ns.as_fd()))
            .await
            .expect("pair");
        netlink.set_master(&name, Some("br0")).await.expect("port");
        netlink.set_up(&name).await.expect("up");
        let addresses = vec![ip(&format!("10.10.0.{n}")), ip(&format!("fd00:10::{n}"))];
        let inside = ContainerNet::ordinary("eth0", mac, 1450, addresses, &network(), true);
        configure_container(ns, &inside).await.expect("configured");
        configure_container(ns, &inside).await.expect("again");
    }
    let inside = Netlink::in_netns(&a).expect("netlink");
    let mut seen: Vec<String> = inside
        .addresses()
        .await
        .expect("listed")
        .iter()
        .filter(|x| x.link == "eth0")
        .map(|x| format!("{} {}", x.address, x.tentative))
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        ["10.10.0.2/32 false", "fd00:10::2/128 false"],
        "no link-local, none tentative"
    );
    for (from, to) in [("10.10.0.2", "10.10.0.3"), ("fd00:10::2", "fd00:10::3")] {
        let (from, to) = (ip(from), ip(to));
        let (client, server) = (socket(&a, from, 0), socket(&b, to, 7));
        client
            .send_to(b"warp", SocketAddr::new(to, 7))
            .expect("sent");
        let mut buffer = [0u8; 16];
        let (n, peer) = server.recv_from(&mut buffer).expect("arrived");
        assert_eq!((&buffer[..n], peer.ip()), (&b"warp"[..], from));
        server.send_to(b"weft", peer).expect("answered");
        let (n, _) = client.recv_from(&mut buffer).expect("came back");
        assert_eq!(&buffer[..n], b"weft");
    }
}

#[tokio::test]
async fn a_hops_interface_says_nothing() {
    let (here, there) = (namespace(), namespace());
    let netlink = Netlink::in_netns(&here).expect("netlink");
    let spec = veth("wf1", "in0");
    netlink
        .ensure_veth(&spec, Some(there.as_fd()))
        .await
        .expect("pair");
    // An address of an earlier life.
    let inside = Netlink::in_netns(&there).expect("netlink");
    inside
        .add_address("in0", net("10.10.0.9/32"))
        .await
        .expect("added");
    let hop = ContainerNet::hop("in0", Mac([0x0a, 0x58, 1, 2, 3, 4]), 1450);
    for _ in 0..2 {
        configure_container(&there, &hop).await.expect("configured");
    }
    netlink.set_up("wf1").await.expect("up");
    let link = inside.link("in0").await.expect("read").expect("there");
    assert_eq!((link.up, link.mac), (true, Some(hop.mac)));
    assert!(
        !inside
            .addresses()
            .await
            .expect("listed")
            .iter()
            .any(|a| a.link == "in0")
    );
    assert!(inside.routes().await.expect("listed").is_empty());
    assert!(inside.link("lo").await.expect("read").expect("there").up);
    for (key, value) in [
        ("ipv6/conf/in0/disable_ipv6", "1"),
        ("ipv4/conf/in0/forwarding", "0"),
    ] {
        assert_eq!(
            sysctl::read(&there, &format!("net/{key}")).expect("read"),
            value
        );
    }
}

/// A container's namespace belongs to its user namespace: the node's root must still be able to set it up.
#[tokio::test]
async fn namespaces_of_user_namespaces_are_set_up() {
    let here = namespace();
    let mut child = std::process::Command::new("unshare")
        .args(["--user", "--net", "--", "sh", "-c", "echo ready; read end"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("unshare (util-linux) starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("ready");
    let there = netns::of_pid(child.id()).expect("its namespace");
    let netlink = Netlink::in_netns(&here).expect("netlink");
    netlink
        .ensure_veth(&veth("wf1", "eth0"), Some(there.as_fd()))
        .await
        .expect("pair");
    let addresses = vec![ip("10.10.0.2"), ip("fd00:10::2")];
    let inside = ContainerNet::ordinary(
        "eth0",
        Mac([0x0a, 0x58, 10, 10, 0, 2]),
        1450,
        addresses,
        &network(),
        true,
    );
    let result = configure_container(&there, &inside).await;
    drop(child.stdin.take());
    child.wait().expect("ended");
    result.expect("configured");
}

#[test]
fn namespaces_are_left_as_they_were() {
    let before = std::fs::read_link("/proc/thread-self/ns/net").expect("read");
    let ns = namespace();
    let inside = netns::run_in_netns(&ns, || std::fs::read_link("/proc/thread-self/ns/net"))
        .expect("entered");
    assert_ne!(inside.expect("read"), before);
    assert_eq!(
        std::fs::read_link("/proc/thread-self/ns/net").expect("read"),
        before
    );
    assert!(
        matches!(Netlink::current(), Err(LinkError::NoRuntime)),
        "no runtime, no socket"
    );
    let missing = netns::of_pid(u32::MAX).expect_err("no such process");
    assert!(missing.to_string().contains("4294967295"), "{missing}");
    assert!(!missing.help().is_empty());
}

/// Each call opens a socket; a socket that stayed would end an agent after some thousand containers.
#[tokio::test]
async fn sockets_are_closed_with_their_handles() {
    let ns = namespace();
    let open = || std::fs::read_dir("/proc/self/fd").expect("listed").count();
    let before = open();
    for _ in 0..500 {
        let netlink = Netlink::in_netns(&ns).expect("netlink");
        netlink.set_up("lo").await.expect("up");
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    // Other tests run beside this one and hold some.
    while open() > before + 200 {
        assert!(
            std::time::Instant::now() < deadline,
            "{before} before, {} after",
            open()
        );
        tokio::task::yield_now().await;
    }
}
