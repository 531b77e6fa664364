//! Sending a packet on: into a container, over the tunnel, back to its sender. Only the Ethernet header
//! is ever written.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_F_DONT_FRAGMENT, BPF_F_TUNINFO_IPV6, bpf_tunnel_key},
    helpers::generated::{
        bpf_redirect, bpf_redirect_peer, bpf_skb_change_type, bpf_skb_set_tunnel_key,
        bpf_skb_store_bytes,
    },
};
use weft_ebpf_abi::{
    ACTION_LOCAL, ACTION_TUNNEL, DropReason, Endpoint, EndpointKey, FLOW_PORTS, Flow, FlowKey,
    GATEWAY_MAC, NETWORK_CHAINS, Network, PORT_NO_PEER, SteerFace, Subnet, SubnetKey, TracePoint, VtepKey, moved_bit, port_mac,
    steer_mac,
};

use crate::{
    flows, maps,
    packet::{Packet, field_half, is_mapped},
    report::{self, PACKET_HOST, Skb, TC_REDIRECT},
    too_big, tunnel_marks,
};

#[inline(always)]
pub fn rewrite(skb: Skb, dst: [u8; 6], src: [u8; 6]) -> bool {
    let mac = [
        dst[0], dst[1], dst[2], dst[3], dst[4], dst[5], src[0], src[1], src[2], src[3], src[4],
        src[5],
    ];
    // SAFETY: 12 bytes of this frame; the helper checks the packet's bounds.
    unsafe { bpf_skb_store_bytes(skb, 0, mac.as_ptr().cast(), 12, 0) == 0 }
}

/// Into the container behind the host end `ifindex`, by `bpf_redirect_peer` unless its flags say otherwise.
#[inline(always)]
pub fn into_container(
    skb: Skb,
    p: &Packet,
    (ifindex, port, flags): (u32, u32, u32),
    point: TracePoint,
) -> i32 {
    if p.uniform != 0 && tunnel_marks::inside(skb, p) == 0 {
        return report::drop(p, DropReason::Malformed as u32);
    }
    report::count(port, p.len, 0);
    report::emit(p, point, 0);
    report::decide(p, ACTION_LOCAL, ifindex, 0);
    // SAFETY: plain helpers on this packet.
    unsafe {
        // The MAC is nobody's on the device where the packet came in, so it counts as another host's.
        bpf_skb_change_type(skb, PACKET_HOST);
        if flags & PORT_NO_PEER != 0 {
            bpf_redirect(ifindex, 0) as i32
        } else {
            bpf_redirect_peer(ifindex, 0) as i32
        }
    }
}

/// Over the tunnel to `node`.
#[inline(always)]
pub fn tunnel(skb: Skb, p: &mut Packet, node: u32) -> i32 {
    let Some(to) = (unsafe { maps::NODES.get(node) }) else {
        return report::drop(p, DropReason::NoVtep as u32);
    };
    tunnel_by(skb, p, node, &to.vtep, to.mtu)
}

/// Over the tunnel to `node`, whose VTEP this is; the largest packet that fits, or 0.
#[inline(never)]
fn tunnel_by(skb: Skb, p: &mut Packet, node: u32, vtep: &[u8; 16], mtu: u32) -> i32 {
    let Some(config) = maps::CONFIG.get(0) else {
        return report::drop(p, DropReason::NoVtep as u32);
    };
    let fits = if mtu != 0 {
        mtu
    } else {
        match unsafe { maps::NETWORKS.get(p.vni) } {
            Some(network) if network.mtu != 0 => network.mtu,
            _ => u32::MAX,
        }
    };
    if too_big::size(skb, p) > fits {
        p.fits = if fits > 0xffff { 0xffff } else { fits as u16 };
        return too_big::TOO_BIG;
    }
    let mut room = MaybeUninit::<bpf_tunnel_key>::uninit();
    // SAFETY: its words are all there is of it, and any number is one.
    let key = unsafe {
        let words = room.as_mut_ptr().cast::<u32>();
        macro_rules! clear {
            // Volatile, or it becomes a call that goes byte by byte.
            ($($word:literal)*) => { $(words.add($word).write_volatile(0);)* };
        }
        clear!(0 1 2 3 4 5 6 7 8 9 10);
        room.assume_init_mut()
    };
    key.tunnel_id = p.vni;
    let marks = marks(skb, p);
    (key.tunnel_tos, key.tunnel_ttl) = (marks as u8, (marks >> 8) as u8);
    let remote = (field_half(vtep, false), field_half(vtep, true));
    let local = (
        field_half(&config.vtep, false),
        field_half(&config.vtep, true),
    );
    let flags = if is_mapped(remote) {
        // The helper wants them in host order.
        key.__bindgen_anon_1.remote_ipv4 = u32::from_be((remote.1 >> 32) as u32);
        key.__bindgen_anon_3.local_ipv4 = u32::from_be((local.1 >> 32) as u32);
        0
    } else {
        key.__bindgen_anon_1.remote_ipv6 = words(remote);
        key.__bindgen_anon_3.local_ipv6 = words(local);
        BPF_F_TUNINFO_IPV6 as u64
    };
    // SAFETY: `key` is of this stack frame.
    let bad = unsafe {
        bpf_skb_set_tunnel_key(
            skb,
            key,
            size_of::<bpf_tunnel_key>() as u32,
            flags | BPF_F_DONT_FRAGMENT as u64,
        )
    };
    if bad != 0 {
        return report::drop(p, DropReason::TunnelKey as u32);
    }
    p.peer = node;
    report::emit(p, TracePoint::Encap, 0);
    report::decide(p, ACTION_TUNNEL, node, 0);
    // SAFETY: a plain helper.
    unsafe { bpf_redirect(config.vxlan_ifindex, 0) as i32 }
}

const _: () = assert!(size_of::<bpf_tunnel_key>() == 44);

/// Priority and time to live of the outer header, as `tunnel_marks::outside` writes them.
#[inline(always)]
fn marks(skb: Skb, p: &Packet) -> u32 {
    let flags = if p.from_hop == 0 {
        p.network_flags
    } else {
        match unsafe { maps::NETWORKS.get(p.vni) } {
            Some(network) => network.flags,
            None => 0,
        }
    };
    if flags & crate::UNIFORM == 0 {
        return (tunnel_marks::TTL as u32) << 8;
    }
    tunnel_marks::outside(skb, p, flags)
}

#[inline(always)]
fn words((lower, upper): (u64, u64)) -> [u32; 4] {
    [
        lower as u32,
        (lower >> 32) as u32,
        upper as u32,
        (upper >> 32) as u32,
    ]
}

/// To a position of a chain, wherever its instance is. `p.steer` is the full steering id.
#[inline(never)]
pub fn to_position(skb: Skb, p: &mut Packet, from_overlay: u32) -> i32 {
    let block = p.steer & !3;
    let (Some(config), Some(position)) =
        (maps::CONFIG.get(0), unsafe { maps::POSITIONS.get(block) })
    else {
        return report::drop(p, DropReason::UnknownSteer as u32);
    };
    if position.vni != p.vni {
        return report::drop(p, DropReason::UnknownSteer as u32);
    }
    // A frame from the overlay keeps the source address that names its predecessor.
    if from_overlay == 0 && !rewrite(skb, steer_mac(p.steer), port_mac(p.port)) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    if position.node != config.node {
        if from_overlay != 0 {
            return report::drop(p, DropReason::NoEndpoint as u32);
        }
        return tunnel(skb, p, position.node);
    }
    let (ifindex, port) = match SteerFace::of(p.steer) {
        SteerFace::EnterForward => (position.in_ifindex, position.in_port),
        _ => (position.out_ifindex, position.out_port),
    };
    if ifindex == 0 {
        return report::drop(p, DropReason::NoInstance as u32);
    }
    p.port = port;
    let flags = match unsafe { maps::PORTS.get(ifindex) } {
        Some(port) => port.flags,
        None => 0,
    };
    into_container(skb, p, (ifindex, port, flags), TracePoint::ToHop)
}

/// To the packet's own destination, in the network where it is known already. `p.steer` is 0, or the End face of the
/// last position.
#[inline(never)]
pub fn to_destination(
    skb: Skb,
    p: &mut Packet,
    from_overlay: u32,
    network: Option<&Network>,
) -> i32 {
    let Some(config) = maps::CONFIG.get(0) else {
        return report::drop(p, DropReason::UnknownPort as u32);
    };
    if let Some(network) = network {
        if let Some(home) = at_home(p, config.node, network) {
            if !keep_position(skb, p) {
                return report::drop(p, DropReason::Malformed as u32);
            }
            return tunnel_by(skb, p, home.node, &home.vtep, home.mtu);
        }
    }
    let key = EndpointKey {
        vni: p.vni,
        addr: p.dst,
    };
    if let Some(endpoint) = unsafe { maps::ENDPOINTS.get(&key) } {
        if endpoint.node == config.node {
            return local(skb, p, endpoint);
        }
        if from_overlay != 0 {
            return report::drop(p, DropReason::NoEndpoint as u32);
        }
        return over(skb, p, endpoint.node);
    }
    if from_overlay != 0 {
        return report::drop(p, DropReason::NoEndpoint as u32);
    }
    let network = match network {
        Some(network) => network,
        None => match unsafe { maps::NETWORKS.get(p.vni) } {
            Some(network) => network,
            None => return report::drop(p, DropReason::UnknownVni as u32),
        },
    };
    by_subnet(skb, p, config.node, network)
}

/// To an endpoint of this node, or nowhere.
#[inline(always)]
pub fn to_endpoint_here(skb: Skb, p: &mut Packet) -> i32 {
    to_destination(skb, p, 1, None)
}

/// Out of the network, by its gateway on this node; a packet of a chain has left its sender's node.
#[inline(never)]
fn to_gateway(skb: Skb, p: &mut Packet, gateway: u32) -> i32 {
    report::emit(p, TracePoint::ToGateway, 0);
    report::decide(p, ACTION_LOCAL, gateway, 0);
    // SAFETY: plain helpers on this packet, which is addressed to the gateway's MAC already.
    unsafe {
        bpf_skb_change_type(skb, PACKET_HOST);
        bpf_redirect_peer(gateway, 0) as i32
    }
}

#[inline(always)]
fn over(skb: Skb, p: &mut Packet, node: u32) -> i32 {
    if !keep_position(skb, p) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    tunnel(skb, p, node)
}

/// Tells the other node where in a chain the packet is.
#[inline(always)]
fn keep_position(skb: Skb, p: &Packet) -> bool {
    p.steer == 0 || rewrite(skb, steer_mac(p.steer), port_mac(p.port))
}

#[inline(always)]
fn local(skb: Skb, p: &mut Packet, endpoint: &Endpoint) -> i32 {
    if endpoint.ifindex == 0 {
        return report::drop(p, DropReason::NoEndpoint as u32);
    }
    if !rewrite(skb, endpoint.mac, GATEWAY_MAC) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    if p.steer != 0
        && SteerFace::of(p.steer) as u32 == SteerFace::EndForward as u32
        && p.later_fragment == 0
    {
        remember_reply(p, endpoint.port);
    }
    p.port = endpoint.port;
    let to = (endpoint.ifindex, endpoint.port, endpoint.flags as u32);
    into_container(skb, p, to, TracePoint::ToContainer)
}

/// Replies of this flow, sent at the receiver's port, take the same instance back.
#[inline(always)]
fn remember_reply(p: &Packet, port: u32) {
    let key = FlowKey {
        steer: 0,
        src: p.dst,
        dst: p.src,
        sport: p.dport,
        dport: p.sport,
        proto: p.proto,
        kind: FLOW_PORTS,
        pad: [0; 2],
    };
    let back = SteerFace::EnterReverse.id(p.steer & !3);
    if flows::get(port, &key) == Some(back) {
        return;
    }
    let flow = Flow {
        steer: back,
        from_port: p.port,
        last_seen: 0,
    };
    flows::put(port, &key, &flow);
}

/// Whether an address, by its halves as they are in memory, lies in the network's ranges.
#[inline(always)]
pub fn inside(addr: (u64, u64), network: &Network) -> bool {
    let (net, len) = if is_mapped(addr) {
        (&network.net4, 96 + network.len4 as u32)
    } else {
        (&network.net6, network.len6 as u32)
    };
    let net = (field_half(net, false), field_half(net, true));
    net != (0, 0) && masked(addr, len) == net
}

/// The network's gateway's address, of either family; fe80::1 is the IPv6 gateway of every network.
#[inline(always)]
pub fn is_gateway((lower, upper): (u64, u64), network: &Network) -> bool {
    let gateway = &network.gateway4;
    let gateway = (field_half(gateway, false), field_half(gateway, true));
    let four = gateway.1 != 0 && (lower, upper) == gateway;
    four || (lower == 0xfe80_0000_0000_0000u64.to_be() && upper == 1u64.to_be())
}

/// Whether no gateway passes it on: this host, this link, several, none (RFC 6890), and what lies between gateways and
/// their nodes.
#[inline(always)]
fn stays((lower, upper): (u64, u64)) -> bool {
    let (high, low) = (u64::from_be(lower), u64::from_be(upper));
    if is_mapped((lower, upper)) {
        let (a, b) = (low >> 24 & 0xff, low >> 16 & 0xff);
        return a == 0 || a == 127 || a >= 224 || (a == 169 && b == 254);
    }
    let transit = high == 0xfd77_6566_7400_0000 && low >> 16 == 0;
    // ::/64, ff00::/8, fe80::/10.
    high == 0 || high >> 56 == 0xff || high >> 54 == 0xfe80 >> 6 || transit
}

/// An address in none of the network's ranges.
#[inline(always)]
fn outside(skb: Skb, p: &mut Packet, network: &Network) -> i32 {
    let vtep = VtepKey { addr: p.dst };
    if unsafe { maps::VTEPS.get(&vtep) }.is_some() {
        return report::drop(p, DropReason::NodeAddress as u32);
    }
    if network.gateway == 0 || p.steer != 0 {
        return report::drop(p, DropReason::NoRoute as u32);
    }
    let [_, _, lower, upper] = p.halves();
    if stays((lower, upper)) {
        return report::drop(p, DropReason::NodeAddress as u32);
    }
    to_gateway(skb, p, network.gateway)
}

#[inline(always)]
fn by_subnet(skb: Skb, p: &mut Packet, own: u32, network: &Network) -> i32 {
    let [_, _, lower, upper] = p.halves();
    let to = (lower, upper);
    if is_gateway(to, network) {
        return if network.gateway == 0 || p.steer != 0 {
            report::drop(p, DropReason::GatewayService as u32)
        } else {
            to_gateway(skb, p, network.gateway)
        };
    }
    if !inside(to, network) {
        return outside(skb, p, network);
    }
    match subnet_of(p, to, network) {
        Some(subnet) if subnet.node != own => over(skb, p, subnet.node),
        _ => report::drop(p, DropReason::NoEndpoint as u32),
    }
}

#[inline(always)]
fn subnet_of(p: &Packet, to: (u64, u64), network: &Network) -> Option<&'static Subnet> {
    let subnet_len = if is_mapped(to) {
        96 + network.subnet_len4 as u32
    } else {
        network.subnet_len6 as u32
    };
    let [a, b, c, d] = words(masked(to, subnet_len));
    let key = [p.vni, a, b, c, d];
    // SAFETY: the same words as those of a key, of which any are one.
    let key = unsafe { &*key.as_ptr().cast::<SubnetKey>() };
    unsafe { maps::SUBNETS.get(key) }
}

/// Another node's subnet that has the destination, if that is surely not elsewhere. Then neither is asked who has the
/// address, which is the look-up of what is not there in the largest table, nor where the node is.
#[inline(always)]
fn at_home(p: &Packet, own: u32, network: &Network) -> Option<&'static Subnet> {
    let [_, _, lower, upper] = p.halves();
    let to = (lower, upper);
    let subnet = subnet_of(p, to, network)?;
    let elsewhere = subnet.moved & moved_bit((upper >> 56) as u8) != 0;
    let known = field_half(&subnet.vtep, true) != 0;
    let right = subnet.node != own && known && !elsewhere;
    (right && inside(to, network) && !is_gateway(to, network)).then_some(subnet)
}

/// The first `len` bits of an address, by its halves as they are in memory.
#[inline(always)]
fn masked((lower, upper): (u64, u64), len: u32) -> (u64, u64) {
    if len >= 128 {
        (lower, upper)
    } else if len > 64 {
        (lower, upper & (!0u64 << ((128 - len) & 63)).to_be())
    } else if len == 64 {
        (lower, 0)
    } else if len == 0 {
        (0, 0)
    } else {
        (lower & (!0u64 << ((64 - len) & 63)).to_be(), 0)
    }
}

/// Whether a frame goes back out where it came in.
#[inline(always)]
pub fn reflect(p: &Packet) -> i32 {
    report::emit(p, TracePoint::Answered, 0);
    report::decide(p, weft_ebpf_abi::ACTION_ANSWER, p.ifindex, 0);
    back(p)
}

/// Out where it came in.
#[inline(always)]
pub fn back(p: &Packet) -> i32 {
    // SAFETY: a plain helper.
    unsafe { bpf_redirect(p.ifindex, 0) as i32 }
}

const _: () = assert!(TC_REDIRECT == 7 && NETWORK_CHAINS == 1);
