//! `from_underlay`: the short way in, on the underlay's devices. Datagrams of containers that come by the tunnel are taken out
//! of it where they enter the node, instead of behind the node's own IP, UDP, the VXLAN device and that device's queue.
//!
//! It takes only what `from_overlay` would deliver to an endpoint here, and says the same of it: everything else, what is to
//! be dropped too, goes on to the kernel as it is. So it takes nothing
//! - that is TCP, or is to be segmented: those come by the device, which knows how to, all of a connection in their order;
//! - that is a fragment, inside or outside, or has options or extension headers;
//! - that is marked for congestion outside, which the kernel's tunnel combines with the mark inside (RFC 6040);
//! - that is steered along a chain.
//!
//! The node's own packet filter does not see what is taken; the agent lets nothing be taken while that has rules for what
//! comes in (`short_way_port`).
//!
//! Beside the kernel's own tunnel (`cargo xtask bench overlay --quick`, 8 pairs, two processors that others use too), in
//! a run before and one since: processor time a datagram 0.9 and 0.77, datagrams of 64 bytes 1.0 and 1.5, what the network
//! adds to a round trip on one processor 0.86 and 0.43, a round trip on two 0.87 and 0.87. What it saves is IP and UDP of the
//! node, a tunnel key allocated for each packet, and the VXLAN device's queue with one more turn of deferred work. Of the
//! processor time that is left (`perf record -e cpu-clock`) 40 % are wake-ups and turns of the scheduler, 10 % these
//! programs and their look-ups, 9 % the way out through the VXLAN device; two processors wait for each other's wake-ups,
//! on every way.
//!
//! Not taken: an IPv6 underlay's (0.88 of the kernel's round trip on one processor), and streams, whose segments that are one
//! packet would overtake those that wait for the device.
//!
//! The outer checksum is not looked at, since nothing is believed that it covers alone: the receiver checks the datagram's
//! own, which covers its addresses (what a card found right of the outer one is forgotten, `bpf_skb_adjust_room`).

use aya_ebpf::{
    bindings::{BPF_F_ADJ_ROOM_DECAP_L3_IPV6, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::generated::{bpf_skb_adjust_room, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use weft_ebpf_abi::{
    Endpoint, EndpointKey, GATEWAY_MAC, NodeConfig, STEER_PREFIX, TracePoint, VtepKey,
};

use crate::{
    maps,
    packet::{ETH_LEN, ETH_P_IP, ETH_P_IPV6, PROTO_UDP, Packet, Room, is_mapped, upper4},
    report::{self, PACKET_HOST, Skb},
    send,
};

/// The packet is not ours: the next program, then the kernel (`TCX_NEXT`, include/uapi/linux/bpf.h; clsact reads the same).
const PASS: i32 = -1;
/// Outer IPv4 without options, UDP, VXLAN and inner Ethernet (RFC 7348 section 5).
const OUTER: u32 = 20 + 8 + 8 + ETH_LEN;
/// Where the inner IP header is.
const INNER: u32 = ETH_LEN + OUTER;
/// VXLAN's flags and what is reserved beside them, where a VNI is given and nothing else.
const HAS_VNI: u32 = 0x0800_0000;
/// Where a frame's outer IP protocol and UDP destination are.
const PROTO_AT: usize = 14 + 9;
const PORT_AT: usize = 14 + 20 + 2;

#[classifier]
pub fn from_underlay(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let Some(config) = maps::CONFIG.get(0) else {
        return PASS;
    };
    if !may_be_tunnel(&ctx, skb, config) {
        return PASS;
    }
    take(skb, config)
}

/// All that comes to the node asks this, so it reads two fields.
#[inline(always)]
fn may_be_tunnel(ctx: &TcContext, skb: Skb, config: &NodeConfig) -> bool {
    // SAFETY: fields of the program's own context.
    unsafe {
        if (*skb).protocol != u32::from(ETH_P_IP.to_be())
            || (*skb).pkt_type != PACKET_HOST
            || (*skb).gso_size != 0
            || (*skb).vlan_present != 0
        {
            return false;
        }
    }
    let begin = ctx.data();
    if begin + PORT_AT + 2 > ctx.data_end() {
        return false;
    }
    // SAFETY: within the packet, as was just asked.
    let (proto, port) = unsafe {
        let bytes = begin as *const u8;
        let port = [*bytes.add(PORT_AT), *bytes.add(PORT_AT + 1)];
        (*bytes.add(PROTO_AT), u16::from_be_bytes(port))
    };
    proto == PROTO_UDP && config.short_way_port != 0 && port as u32 == config.short_way_port
}

#[inline(never)]
fn take(skb: Skb, config: &NodeConfig) -> i32 {
    let Some(p) = crate::scratch() else {
        return PASS;
    };
    // SAFETY: fields of the program's own context.
    unsafe {
        p.len = (*skb).len - OUTER;
        p.ifindex = (*skb).ifindex;
    }
    if outside(skb, p, config) == 0 {
        return PASS;
    }
    let inside = if p.ethertype == ETH_P_IP {
        inside4(skb, p)
    } else {
        inside6(skb, p)
    };
    if inside == 0 {
        return PASS;
    }
    let Some(network) = (unsafe { maps::NETWORKS.get(p.vni) }) else {
        return PASS;
    };
    p.uniform = (network.flags & crate::UNIFORM) as u8;
    let key = EndpointKey {
        vni: p.vni,
        addr: p.dst,
    };
    match unsafe { maps::ENDPOINTS.get(&key) } {
        Some(endpoint) if endpoint.node == config.node && endpoint.ifindex != 0 => {
            deliver(skb, p, endpoint)
        }
        _ => PASS,
    }
}

/// Reads the outer headers and the inner Ethernet header. 1: they are as they should be, and from a node.
#[inline(always)]
fn outside(skb: Skb, p: &mut Packet, config: &NodeConfig) -> u32 {
    let mut room = Room::<{ OUTER as usize }>::new();
    let Some(head) = room.load(skb, ETH_LEN) else {
        return 0;
    };
    let (class, ttl) = (head[1], head[8]);
    let fragment = u16::from_be_bytes([head[6], head[7]]) & 0x3fff;
    let congestion = class & 3;
    // ECT(1) may be a mark, too.
    if head[0] != 0x45 || fragment != 0 || congestion & 1 != 0 {
        return 0;
    }
    let steered = [head[36], head[37], head[38]] == STEER_PREFIX;
    p.ethertype = u16::from_be_bytes([head[48], head[49]]);
    if steered || (p.ethertype != ETH_P_IP && p.ethertype != ETH_P_IPV6) {
        return 0;
    }
    let (from, to) = (room.word::<3>(), room.word::<4>());
    let own = crate::packet::field_half(&config.vtep, true);
    let (flags, vni) = (room.word::<7>(), u32::from_be(room.word::<8>()));
    if upper4(to) != own || u32::from_be(flags) != HAS_VNI || vni & 0xff != 0 {
        return 0;
    }
    p.vni = vni >> 8;
    (p.outer_class, p.outer_ttl) = (class, ttl);
    let sender = [0, upper4(from)];
    // SAFETY: as many bytes, of which any are an address.
    let sender = unsafe { &*sender.as_ptr().cast::<VtepKey>() };
    match unsafe { maps::VTEPS.get(sender) } {
        Some(node) => {
            p.peer = *node;
            1
        }
        None => 0,
    }
}

/// Reads an inner IPv4 datagram. 1: it is a whole one, without options.
#[inline(always)]
fn inside4(skb: Skb, p: &mut Packet) -> u32 {
    let mut room = Room::<28>::new();
    let Some(ip) = room.load(skb, INNER) else {
        return 0;
    };
    let total = u16::from_be_bytes([ip[2], ip[3]]) as u32;
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
    if ip[0] != 0x45 || ip[9] != PROTO_UDP || fragment != 0 || total < 28 {
        return 0;
    }
    p.ip_id = u16::from_be_bytes([ip[4], ip[5]]);
    let (src, dst) = (room.word::<3>(), room.word::<4>());
    p.set_addresses((0, upper4(src)), (0, upper4(dst)));
    ports(p, u32::from_be(room.word::<5>()), 20);
    1
}

/// The same of IPv6, without extension headers.
#[inline(always)]
fn inside6(skb: Skb, p: &mut Packet) -> u32 {
    let mut room = Room::<48>::new();
    let Some(ip) = room.load(skb, INNER) else {
        return 0;
    };
    let payload = u16::from_be_bytes([ip[4], ip[5]]);
    if ip[0] >> 4 != 6 || ip[6] != PROTO_UDP || payload < 8 {
        return 0;
    }
    let src = (room.long::<1>(), room.long::<2>());
    let dst = (room.long::<3>(), room.long::<4>());
    if is_mapped(src) || is_mapped(dst) {
        return 0;
    }
    p.set_addresses(src, dst);
    ports(p, u32::from_be(room.word::<10>()), 40);
    1
}

#[inline(always)]
fn ports(p: &mut Packet, both: u32, header: u32) {
    p.proto = PROTO_UDP;
    (p.sport, p.dport) = ((both >> 16) as u16, both as u16);
    p.l4 = ETH_LEN + header;
    p.data = (ETH_LEN + header + 8) as u16;
}

/// Takes the outer headers off and hands the datagram on.
#[inline(always)]
fn deliver(skb: Skb, p: &mut Packet, endpoint: &Endpoint) -> i32 {
    let flags = if p.ethertype == ETH_P_IP {
        0
    } else {
        BPF_F_ADJ_ROOM_DECAP_L3_IPV6 as u64
    };
    // SAFETY: a plain helper on this packet. It refuses before it changes anything; kernels before 6.3 refuse the flag.
    let bad = unsafe { bpf_skb_adjust_room(skb, -(OUTER as i32), BPF_ADJ_ROOM_MAC, flags) };
    if bad != 0 {
        return PASS;
    }
    let (to, from, kind) = (endpoint.mac, GATEWAY_MAC, p.ethertype.to_be_bytes());
    let ethernet = [
        to[0], to[1], to[2], to[3], to[4], to[5], from[0], from[1], from[2], from[3], from[4],
        from[5], kind[0], kind[1],
    ];
    // SAFETY: 14 bytes of this frame; the helper checks the packet's bounds.
    let bad = unsafe { bpf_skb_store_bytes(skb, 0, ethernet.as_ptr().cast(), ETH_LEN, 0) };
    if bad != 0 {
        return report::drop(p, weft_ebpf_abi::DropReason::Malformed as u32);
    }
    report::filter(skb, p);
    report::emit(p, TracePoint::Decap, 0);
    p.port = endpoint.port;
    let to = (endpoint.ifindex, endpoint.port, endpoint.flags as u32);
    send::into_container(skb, p, to, TracePoint::ToContainer)
}
