//! What joins the nodes: one segment (a bridge in a namespace of its own), or the file's links.
//!
//! Owns: addresses 192.0.2.0/24 (RFC 5737), the devices of the underlay and the routes over links.
//! Nothing of it is in the machine's own namespace, so nothing of it can stay behind.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use ipnet::{IpNet, Ipv4Net};
use weft_overlay::link::{LinkError, Netlink, Route, VethSpec, sysctl};
use weft_overlay::netns;

use crate::error::LabError;

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

/// The address of the node with this index.
pub(crate) fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, FIRST + index as u8)
}

/// A node to join: its holder's process number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub(crate) pid: i32,
    pub(crate) address: Ipv4Addr,
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

/// Joins all nodes by one segment; the bridge is in the namespace of `switch`.
pub(crate) fn segment(switch: i32, nodes: &[Port]) -> Result<(), LabError> {
    blocking(async {
        let switch = netns::of_pid(switch as u32)?;
        let bridge = Netlink::in_netns(&switch)?;
        bridge.set_up("lo").await?;
        bridge.ensure_bridge(BRIDGE).await?;
        for (index, node) in nodes.iter().enumerate() {
            let inside = netns::of_pid(node.pid as u32)?;
            let name = format!("port{}", index + 1);
            let pair = veth(&name, "eth0");
            bridge.ensure_veth(&pair, Some(inside.as_fd())).await?;
            bridge.quiet(&name).await?;
            bridge.set_master(&name, Some(BRIDGE)).await?;
            bridge.set_up(&name).await?;
            let netlink = Netlink::in_netns(&inside)?;
            netlink.set_up("lo").await?;
            netlink
                .add_address("eth0", subnet(node.address, 24))
                .await?;
            netlink.set_up("eth0").await?;
        }
        Ok(())
    })
}

/// Joins nodes by links of their own. A node's address is on its loopback; who is not a neighbour is
/// reached through others, by the fewest links.
pub(crate) fn wires(nodes: &[Port], wires: &[Wire]) -> Result<(), LabError> {
    blocking(async {
        for node in nodes {
            let inside = netns::of_pid(node.pid as u32)?;
            let netlink = Netlink::in_netns(&inside)?;
            netlink.set_up("lo").await?;
            netlink.add_address("lo", subnet(node.address, 32)).await?;
            let forward = [
                ("net/ipv4/ip_forward".to_owned(), "1"),
                ("net/ipv4/conf/all/rp_filter".to_owned(), "0"),
                ("net/ipv4/conf/default/rp_filter".to_owned(), "0"),
            ];
            sysctl::write(&inside, &forward)?;
        }
        for (number, wire) in wires.iter().enumerate() {
            let [a, b] = wire.ends;
            let near = Netlink::in_netns(netns::of_pid(nodes[a].pid as u32)?)?;
            let far_netns = netns::of_pid(nodes[b].pid as u32)?;
            let (name, peer) = (interface(wires, a, number), interface(wires, b, number));
            near.ensure_veth(&veth(&name, &peer), Some(far_netns.as_fd()))
                .await?;
            near.set_up(&name).await?;
            Netlink::in_netns(&far_netns)?.set_up(&peer).await?;
        }
        route(nodes, wires).await
    })
}

/// Sets a link up or down and the routes of all nodes to what then is the shortest way.
pub(crate) fn set_wire(nodes: &[Port], wires: &[Wire], number: usize) -> Result<(), LabError> {
    blocking(async {
        let wire = wires[number];
        for end in wire.ends {
            let netlink = Netlink::in_netns(netns::of_pid(nodes[end].pid as u32)?)?;
            let name = interface(wires, end, number);
            if wire.up {
                netlink.set_up(&name).await?;
            } else {
                netlink.set_down(&name).await?;
            }
        }
        route(nodes, wires).await
    })
}

async fn route(nodes: &[Port], wires: &[Wire]) -> Result<(), LinkError> {
    for (from, node) in nodes.iter().enumerate() {
        let netlink = Netlink::in_netns(netns::of_pid(node.pid as u32)?)?;
        for (to, wire) in next_hops(from, nodes.len(), wires) {
            let name = interface(wires, from, wire);
            let [a, b] = wires[wire].ends;
            let neighbour = nodes[if a == from { b } else { a }].address;
            let destination = subnet(nodes[to].address, 32);
            let route = if nodes[to].address == neighbour {
                Route::direct(destination, name)
            } else {
                Route {
                    onlink: true,
                    ..Route::via(destination, neighbour.into(), name)
                }
            };
            netlink.replace_route(&route).await?;
        }
    }
    Ok(())
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
