//! What joins the nodes: one segment, or the file's links.
//!
//! Owns: addresses 192.0.2.0/24 (RFC 5737), what nodes make of their devices and the routes over links, on any
//! backend; the devices themselves for namespaces (a bridge in one of its own, or pairs). Nothing of it is in the
//! machine's own namespace, so nothing of it can stay behind.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use ipnet::{IpNet, Ipv4Net};
use weft_overlay::link::{LinkError, Netlink, VethSpec};
use weft_overlay::netns;

use crate::error::LabError;
use crate::node::Node;

mod ops;
mod paths;

pub(crate) use ops::NetOp;
pub(crate) use paths::next_hops;

/// MTU of the underlay, as of an ordinary Ethernet.
const MTU: u32 = 1500;
/// The bridge of the shared segment.
const BRIDGE: &str = "underlay";
/// The first node's last byte; later ones follow.
const FIRST: u8 = 11;

/// What a node needs to pass packets on between its links.
const FORWARD: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

/// The address of the node with this index.
pub(crate) fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, FIRST + index as u8)
}

/// A link by the indices of its ends, and whether it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) ends: [usize; 2],
    pub(crate) up: bool,
}

/// The interface of a node at a link: by order of the file's links.
pub(crate) fn interface(wires: &[Wire], node: usize, wire: usize) -> String {
    let before = wires[..wire]
        .iter()
        .filter(|w| w.ends.contains(&node))
        .count();
    format!("eth{before}")
}

/// Joins all nodes of these process numbers by a bridge in the namespace of `switch`.
pub(crate) fn bridge(switch: i32, nodes: &[i32]) -> Result<(), LabError> {
    blocking(async {
        let switch = netns::of_pid(switch as u32)?;
        let bridge = Netlink::in_netns(&switch)?;
        bridge.set_up("lo").await?;
        bridge.ensure_bridge(BRIDGE).await?;
        for (index, node) in nodes.iter().enumerate() {
            let inside = netns::of_pid(*node as u32)?;
            let name = format!("port{}", index + 1);
            let pair = veth(&name, "eth0");
            bridge.ensure_veth(&pair, Some(inside.as_fd())).await?;
            bridge.quiet(&name).await?;
            bridge.set_master(&name, Some(BRIDGE)).await?;
            bridge.set_up(&name).await?;
        }
        Ok(())
    })
}

/// Joins the nodes of these process numbers by a pair of devices for each link.
pub(crate) fn pairs(nodes: &[i32], wires: &[Wire]) -> Result<(), LabError> {
    blocking(async {
        for (number, wire) in wires.iter().enumerate() {
            let [a, b] = wire.ends;
            let near = Netlink::in_netns(netns::of_pid(nodes[a] as u32)?)?;
            let far = netns::of_pid(nodes[b] as u32)?;
            let (name, peer) = (interface(wires, a, number), interface(wires, b, number));
            near.ensure_veth(&veth(&name, &peer), Some(far.as_fd()))
                .await?;
        }
        Ok(())
    })
}

/// Gives each node its address and sets its devices up. On links a node's address is on its loopback; who is not a
/// neighbour is reached through others, by the fewest links.
pub(crate) fn configure(nodes: &[Node], wires: &[Wire]) -> Result<(), LabError> {
    for (index, node) in nodes.iter().enumerate() {
        let mut ops = vec![up("lo")];
        if wires.is_empty() {
            ops.extend([has("eth0", node.address, 24), up("eth0")]);
        } else {
            ops.push(has("lo", node.address, 32));
            ops.extend(FORWARD.map(|(key, value)| NetOp::Sysctl {
                key: key.to_owned(),
                value: value.to_owned(),
            }));
            let own = wires.iter().enumerate();
            let own = own.filter(|(_, wire)| wire.ends.contains(&index));
            ops.extend(own.map(|(number, _)| up(&interface(wires, index, number))));
        }
        node.carrier.net(&ops)?;
    }
    route(nodes, wires)
}

/// Sets a link up or down and the routes of all nodes to what then is the shortest way.
pub(crate) fn set_wire(nodes: &[Node], wires: &[Wire], number: usize) -> Result<(), LabError> {
    let wire = wires[number];
    for end in wire.ends {
        let device = interface(wires, end, number);
        let change = if wire.up {
            NetOp::Up { device }
        } else {
            NetOp::Down { device }
        };
        nodes[end].carrier.net(&[change])?;
    }
    route(nodes, wires)
}

fn route(nodes: &[Node], wires: &[Wire]) -> Result<(), LabError> {
    for (from, node) in nodes.iter().enumerate() {
        let ways = next_hops(from, nodes.len(), wires).into_iter();
        let ops: Vec<NetOp> = ways
            .map(|(to, wire)| {
                let [a, b] = wires[wire].ends;
                let neighbour = nodes[if a == from { b } else { a }].address;
                let destination = nodes[to].address;
                NetOp::Route {
                    to: subnet(destination, 32),
                    via: (destination != neighbour).then_some(neighbour),
                    device: interface(wires, from, wire),
                }
            })
            .collect();
        if !ops.is_empty() {
            node.carrier.net(&ops)?;
        }
    }
    Ok(())
}

fn up(device: &str) -> NetOp {
    NetOp::Up {
        device: device.to_owned(),
    }
}

fn has(device: &str, address: Ipv4Addr, len: u8) -> NetOp {
    NetOp::Address {
        device: device.to_owned(),
        address: subnet(address, len),
    }
}

fn veth(name: &str, peer: &str) -> VethSpec {
    VethSpec {
        name: name.to_owned(),
        mac: None,
        peer_name: peer.to_owned(),
        peer_mac: None,
        mtu: MTU,
    }
}

fn subnet(address: Ipv4Addr, len: u8) -> IpNet {
    // Lengths are 24 and 32.
    IpNet::V4(Ipv4Net::new_assert(address, len))
}

/// Carries changes out in the network namespace of a process.
pub(crate) fn apply_in(pid: i32, changes: &[NetOp]) -> Result<(), LabError> {
    blocking(async {
        let netlink = Netlink::in_netns(netns::of_pid(pid as u32)?)?;
        ops::apply(&netlink, changes).await
    })
}

/// Carries changes out where this process is.
pub(crate) fn apply_here(changes: &[NetOp]) -> Result<(), LabError> {
    blocking(async { ops::apply(&Netlink::current()?, changes).await })
}

/// Netlink is asynchronous and the engine is not: it gets a thread and a runtime for each piece of work.
fn blocking<T: Send>(
    work: impl Future<Output = Result<T, LinkError>> + Send,
) -> Result<T, LabError> {
    let failed = |cause: String, help: String| LabError::failed("underlay", cause, help);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| failed(e.to_string(), "run the command again".to_owned()))?;
            runtime
                .block_on(work)
                .map_err(|e| failed(e.to_string(), e.help()))
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
