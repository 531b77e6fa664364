//! A container's side of the network: set up, reached by way of the gateway, silent where it serves a hop.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::support::{ip, namespace, net, veth};
use weft_overlay::documents::NetworkSpec;
use weft_overlay::link::{ContainerNet, Netlink, VethSpec, configure_container, sysctl};
use weft_overlay::{Mac, netns};

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
