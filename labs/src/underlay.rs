//! What joins the nodes: one segment, or the file's links.
//!
//! Owns: addresses of nodes, what they make of their devices and the routes over links, on any
//! backend; the devices themselves for namespaces (a bridge in one of its own, or pairs). Nothing of it is in the
//! machine's own namespace, so nothing of it can stay behind.

use std::os::fd::AsFd;

use ipnet::IpNet;
use weft_overlay::link::{LinkError, Netlink, VethSpec};
use weft_overlay::netns;

use crate::error::LabError;
use crate::node::Node;

mod addresses;
mod ops;
mod paths;
mod relayed;

pub(crate) use addresses::{address, url};
pub(crate) use ops::NetOp;
pub(crate) use paths::next_hops;
pub(crate) use relayed::{
    add_to_relay, capture_file, change_in_relay, leave_relay, link_spec, remove_from_relay,
    start_relay,
};

/// MTU of the underlay, as of an ordinary Ethernet.
pub(crate) const MTU: u32 = 1500;
/// The bridge of the shared segment.
pub(crate) const BRIDGE: &str = "underlay";

/// What a node needs to pass packets on between its links.
const FORWARD: [(&str, &str); 4] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

/// A link by the indices of its nodes, and whether it is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) ends: Vec<usize>,
    pub(crate) up: bool,
    /// Of the devices at it.
    pub(crate) mtu: u32,
    /// Whether the relay makes the devices.
    pub(crate) relayed: bool,
    /// Whether it has been removed; it keeps its place, for names of devices count it.
    pub(crate) gone: bool,
}

/// The interface of a node at a link: by order of the file's links.
pub(crate) fn interface(wires: &[Wire], node: usize, wire: usize) -> String {
    let before = wires[..wire]
        .iter()
        .filter(|w| w.ends.contains(&node))
        .count();
    format!("eth{before}")
}

/// Joins nodes by a bridge in the namespace of `switch`: each by its number, its process and the name of its device.
pub(crate) fn bridge(
    switch: i32,
    name: &str,
    mtu: u32,
    ends: &[(usize, i32, String)],
) -> Result<(), LabError> {
    blocking(async {
        let switch = netns::of_pid(switch as u32)?;
        let bridge = Netlink::in_netns(&switch)?;
        bridge.set_up("lo").await?;
        bridge.ensure_bridge(name).await?;
        for (number, node, device) in ends {
            let inside = netns::of_pid(*node as u32)?;
            let port = format!("{name}-{}", number + 1);
            let pair = veth(&port, device, mtu);
            bridge.ensure_veth(&pair, Some(inside.as_fd())).await?;
            bridge.quiet(&port).await?;
            bridge.set_master(&port, Some(name)).await?;
            bridge.set_up(&port).await?;
        }
        Ok(())
    })
}

/// Removes a bridge from the namespace of `switch`; the devices of its nodes are removed by themselves.
pub(crate) fn unbridge(switch: i32, name: &str) -> Result<(), LabError> {
    let device = name.to_owned();
    apply_in(switch, &[NetOp::Delete { device }])
}

/// Joins two nodes by a pair of devices: each by its process number and the name of its device.
pub(crate) fn pair(near: (i32, &str), far: (i32, &str), mtu: u32) -> Result<(), LabError> {
    blocking(async {
        let netlink = Netlink::in_netns(netns::of_pid(near.0 as u32)?)?;
        let inside = netns::of_pid(far.0 as u32)?;
        netlink
            .ensure_veth(&veth(near.1, far.1, mtu), Some(inside.as_fd()))
            .await
            .map(drop)
    })
}

/// Gives each node its address and sets its devices up. On links a node's address is on its loopback; who is not a
/// neighbour is reached through others, by the fewest links.
pub(crate) fn configure(nodes: &[Node], wires: &[Wire]) -> Result<(), LabError> {
    for (index, node) in nodes.iter().enumerate() {
        node.carrier.net(&devices(nodes, wires, index))?;
    }
    route(nodes, wires)
}

/// As [`configure`], for one node that begins anew while the others go on.
pub(crate) fn configure_node(nodes: &[Node], wires: &[Wire], index: usize) -> Result<(), LabError> {
    let mut ops = devices(nodes, wires, index);
    ops.extend(routes(nodes, wires, index));
    nodes[index].carrier.net(&ops)
}

fn devices(nodes: &[Node], wires: &[Wire], index: usize) -> Vec<NetOp> {
    let mut ops = vec![up("lo")];
    if wires.is_empty() {
        let address = addresses::on_segment(nodes[index].address);
        ops.extend([has("eth0", address), up("eth0")]);
        return ops;
    }
    ops.push(has("lo", nodes[index].address.into()));
    ops.extend(FORWARD.map(|(key, value)| NetOp::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
    }));
    let own = wires.iter().enumerate();
    let own = own.filter(|(_, wire)| !wire.gone && wire.ends.contains(&index));
    for (number, wire) in own {
        let device = interface(wires, index, number);
        ops.push(NetOp::Mtu {
            device: device.clone(),
            mtu: wire.mtu,
        });
        if wire.up {
            ops.extend(in_use(nodes, index, &device));
        }
    }
    ops
}

/// A device of a link that is up.
fn in_use(nodes: &[Node], index: usize, device: &str) -> Vec<NetOp> {
    let own = nodes[index].address;
    let known_as = addresses::neighbour(own, nodes[index].number);
    let mut ops = vec![up(device)];
    // After `up`: IPv6 takes addresses from a device that goes down.
    ops.extend((known_as != own).then(|| has(device, addresses::on_segment(known_as))));
    ops
}

/// Gives the devices at a link its MTU.
pub(crate) fn set_mtu(nodes: &[Node], wires: &[Wire], number: usize) -> Result<(), LabError> {
    let wire = &wires[number];
    for &end in &wire.ends {
        let device = interface(wires, end, number);
        let mtu = wire.mtu;
        nodes[end].carrier.net(&[NetOp::Mtu { device, mtu }])?;
    }
    Ok(())
}

/// Sets a link up or down and the routes of all nodes to what then is the shortest way.
pub(crate) fn set_wire(nodes: &[Node], wires: &[Wire], number: usize) -> Result<(), LabError> {
    let wire = &wires[number];
    for &end in &wire.ends {
        let device = interface(wires, end, number);
        let changes = if wire.up {
            in_use(nodes, end, &device)
        } else {
            vec![NetOp::Down { device }]
        };
        nodes[end].carrier.net(&changes)?;
    }
    route(nodes, wires)
}

fn route(nodes: &[Node], wires: &[Wire]) -> Result<(), LabError> {
    for (from, node) in nodes.iter().enumerate() {
        let ops = routes(nodes, wires, from);
        if !ops.is_empty() {
            node.carrier.net(&ops)?;
        }
    }
    Ok(())
}

fn routes(nodes: &[Node], wires: &[Wire], from: usize) -> Vec<NetOp> {
    let ways = next_hops(from, nodes.len(), wires).into_iter();
    ways.map(|(to, (wire, neighbour))| {
        let neighbour = &nodes[neighbour];
        let neighbour = addresses::neighbour(neighbour.address, neighbour.number);
        let destination = nodes[to].address;
        NetOp::Route {
            to: destination.into(),
            via: (destination != neighbour).then_some(neighbour),
            device: interface(wires, from, wire),
        }
    })
    .collect()
}

fn up(device: &str) -> NetOp {
    NetOp::Up {
        device: device.to_owned(),
    }
}

fn has(device: &str, address: IpNet) -> NetOp {
    NetOp::Address {
        device: device.to_owned(),
        address,
    }
}

fn veth(name: &str, peer: &str, mtu: u32) -> VethSpec {
    VethSpec {
        name: name.to_owned(),
        mac: None,
        peer_name: peer.to_owned(),
        peer_mac: None,
        mtu,
    }
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
