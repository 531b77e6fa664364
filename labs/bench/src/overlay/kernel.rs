//! The kernel's own way between containers, as flannel's `vxlan` backend and the `bridge` plugin set it up: a bridge and
//! a VXLAN device a node, a route to the other node's subnet with a neighbour and a forwarding entry that never change.
//!
//! Owns: devices in two nodes that somebody else made, on an underlay that is there, and container namespaces of its own.
//! Everything goes with the nodes.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Context;
use weft_overlay::netns;

use super::tool::{ip, sysctl};

/// flannel's device, port and number (flannel-io/flannel, pkg/backend/vxlan/vxlan.go).
const DEVICE: &str = "flannel.1";
/// The bridge's name in flannel's own documents.
const BRIDGE: &str = "cni0";

/// A node that is given to this.
pub struct Node {
    pub netns: OwnedFd,
    /// Of the underlay.
    pub address: IpAddr,
    /// The device that has it.
    pub device: &'static str,
    /// Which one of the two, from 1: it is part of its subnets.
    pub number: u8,
}

/// What a container of number `last` on node `number` is called.
pub fn addresses(number: u8, last: u8) -> [IpAddr; 2] {
    let v6 = [0xfd00, 0x20, number.into(), 0, 0, 0, 0, last.into()];
    [[10, 20, number, last].into(), v6.into()]
}

/// Makes the way between two nodes.
pub fn join(nodes: &[Node; 2], mtu: u32) -> anyhow::Result<()> {
    for (own, other) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
        node(own, other, mtu).context("the kernel's way")?;
    }
    Ok(())
}

fn node(own: &Node, other: &Node, mtu: u32) -> anyhow::Result<()> {
    let run = |line: String| ip(&own.netns, &line);
    for forward in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        sysctl(&own.netns, forward, "1")?;
    }
    // A bridge whose own address is not yet known to be unique asks nobody for a neighbour.
    sysctl(&own.netns, "ipv6/conf/default/accept_dad", "0")?;
    let (number, local) = (own.number, own.address);
    let mac = |node: &Node| format!("0a:77:00:00:00:{:02x}", node.number);
    run(format!(
        "link add {DEVICE} address {} mtu {mtu} type vxlan id 1 local {local} dev {} dstport 8472 nolearning",
        mac(own),
        own.device
    ))?;
    run(format!("addr add 10.20.{number}.0/32 dev {DEVICE}"))?;
    run(format!(
        "addr add fd00:20:{number}::/128 dev {DEVICE} nodad"
    ))?;
    run(format!("link set {DEVICE} up"))?;
    run(format!("link add {BRIDGE} mtu {mtu} type bridge"))?;
    run(format!("addr add 10.20.{number}.1/24 dev {BRIDGE}"))?;
    run(format!(
        "addr add fd00:20:{number}::1/64 dev {BRIDGE} nodad"
    ))?;
    run(format!("link set {BRIDGE} up"))?;
    let (there, mac) = (other.number, mac(other));
    for (far, length) in [
        (format!("10.20.{there}.0"), 24),
        (format!("fd00:20:{there}::"), 64),
    ] {
        run(format!(
            "neigh add {far} lladdr {mac} dev {DEVICE} nud permanent"
        ))?;
        run(format!(
            "route add {far}/{length} via {far} dev {DEVICE} onlink"
        ))?;
    }
    let fdb = format!("fdb append {mac} dev {DEVICE} dst {}", other.address);
    super::tool::run(&own.netns, "bridge", &fdb)
}

/// A container's namespace on a node, connected to its bridge.
pub fn container(node: &Node, last: u8, mtu: u32) -> anyhow::Result<OwnedFd> {
    let inside = netns::create()?;
    let number = node.number;
    let host = format!("kernel{last}");
    let there = format!("/proc/{}/fd/{}", std::process::id(), inside.as_raw_fd());
    ip(
        &node.netns,
        &format!("link add {host} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {there}"),
    )?;
    ip(&node.netns, &format!("link set {host} master {BRIDGE} up"))?;
    for line in [
        "link set lo up".to_owned(),
        "link set eth0 up".to_owned(),
        format!("addr add 10.20.{number}.{last}/24 dev eth0"),
        format!("addr add fd00:20:{number}::{last}/64 dev eth0 nodad"),
        format!("route add default via 10.20.{number}.1"),
        format!("route add default via fd00:20:{number}::1"),
    ] {
        ip(&inside, &line)?;
    }
    Ok(inside)
}
