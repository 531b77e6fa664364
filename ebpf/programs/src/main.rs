//! The datapath: `from_container` on the host end of every endpoint's veth, `from_overlay` on the VXLAN
//! device, and before it `from_underlay`, by which datagrams take a short way in. Each packet is judged once, where it enters; everything else is a redirect.
//!
//! No packet is sent twice through these programs on a node without leaving through a container or the
//! tunnel, so redirect cycles can only be made by hops; every pass through a hop is one of a chain's
//! finite stages.
//!
//! Nanoseconds a packet (`bpf_stats_enabled`, 50,000 datagrams a second of 64 bytes between two nodes, medians of a busy
//! machine of two processors), from_container and from_overlay:
//! - 1,012 and 980 when each packet's notes were cleared byte by byte, its first 128 bytes were pulled and it was
//!   identified for tracing whether anybody traces or not;
//! - 937 and 790 since none of that is done. `bpf_skb_pull_data` also gives each cloned packet, that is each of TCP, a head
//!   of its own; nothing here needs it, since `bpf_skb_load_bytes` reads what is not linear.
//! - 620 and 555 since headers are copied to room on the stack that is not cleared first, and addresses are compared and
//!   copied by words: each array of zeros was a call that went byte by byte, eight of them a packet.
//! - 560 of from_container (in another run) since the port names its endpoint's addresses and a subnet says where its node is and
//!   which of its addresses are elsewhere: three look-ups of seven are gone, and two of three in large tables. With 100,000
//!   subnets and as many moved endpoints instead of one, random destinations (`cargo xtask bench overlay`, `bpf_added`): 390
//!   more than with one, 1,000 before. What remains is one look-up in a cold table: its bucket and its entry.
//!
//! What is left of a stream's retransmissions is no loss: with sender and receiver on a processor each, a stream sends
//! from both, and one's packets overtake the other's in the queues per processor (host end, underlay, GRO cell); DSACK tells
//! the sender that all were spurious, on the kernel's way as on this one. Steering by flow on the VXLAN device
//! (`rps_flow_cnt`) ends that, 27,000 to 5 in a second, but not faster (0.9 of without, 7 pairs): it is left to who
//! runs the machine.
#![no_std]
#![no_main]

mod flows;
mod from_underlay;
mod maps;
mod packet;
mod probe;
mod report;
mod resolve;
mod select;
mod send;
mod tested;
mod too_big;
mod tunnel_marks;

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_F_TUNINFO_IPV6, bpf_tunnel_key},
    helpers::generated::bpf_skb_get_tunnel_key,
    macros::classifier,
    programs::TcContext,
};
use packet::{ETH_P_ARP, ETH_P_IPV6, PROTO_ICMP6, Packet};
use report::Skb;
use weft_ebpf_abi::{
    DropReason, EndpointKey, GATEWAY_MAC, NETWORK_CHAINS, NETWORK_DSCP_UNIFORM,
    NETWORK_TTL_UNIFORM, PORT_GATEWAY, PORT_HOP, PROBE_VNI, Port, SteerFace, TracePoint,
    VtepKey, port_of, steer_of,
};

/// The flags of networks whose tunnel is to say what the packet says.
const UNIFORM: u32 = NETWORK_DSCP_UNIFORM | NETWORK_TTL_UNIFORM;

/// The packet in hand lives in a per-CPU slot, not on the stack: the verifier does not follow what map
/// values hold, so it need not prove every combination of header fields anew (1.1 s to load before, 0.1 s
/// after). A program is never entered twice on a CPU, since redirects happen after it returned.
#[inline(always)]
fn scratch() -> Option<&'static mut Packet> {
    let p = maps::SCRATCH.get_ptr_mut(0)?;
    // SAFETY: a per-CPU slot that only this run uses; the pointer is valid for its whole duration.
    unsafe {
        Packet::clear(p);
        Some(&mut *p)
    }
}

#[classifier]
pub fn from_container(ctx: TcContext) -> i32 {
    container(ctx)
}

#[inline(always)]
fn container(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let Some(p) = scratch() else {
        return report::TC_DROP;
    };
    p.len = ctx.len();
    // SAFETY: the context is the program's own.
    p.ifindex = unsafe { (*skb).ifindex };
    let Some(port) = (unsafe { maps::PORTS.get(p.ifindex) }) else {
        return report::drop(p, DropReason::UnknownPort as u32);
    };
    p.port = port.port;
    p.vni = port.vni;
    p.from_hop = (port.flags & PORT_HOP != 0) as u8;
    report::count(p.port, p.len, 1);
    if !packet::ethernet(skb, p) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    let verdict = if p.from_hop != 0 {
        from_hop(skb, p)
    } else if port.flags & PORT_GATEWAY != 0 {
        from_gateway(skb, p)
    } else {
        from_endpoint(skb, p, port)
    };
    if verdict == too_big::TOO_BIG {
        return too_big::refuse(skb, p);
    }
    verdict
}

/// A packet that an ordinary endpoint sent.
#[inline(never)]
fn from_endpoint(skb: Skb, p: &mut Packet, port: &Port) -> i32 {
    let Some(network) = (unsafe { maps::NETWORKS.get(p.vni) }) else {
        return report::drop(p, DropReason::UnknownVni as u32);
    };
    p.network_flags = network.flags;
    if !resolve::same(&p.eth_src, &port.mac) {
        let _ = packet::internet(skb, p);
        report::filter(skb, p);
        return report::drop(p, DropReason::SpoofedMac as u32);
    }
    if p.ethertype == ETH_P_ARP {
        return resolve::arp(skb, p, port, network);
    }
    let bad = packet::internet(skb, p);
    report::filter(skb, p);
    if bad != 0 {
        return report::drop(p, bad);
    }
    report::emit(p, TracePoint::FromContainer, 0);
    if p.ethertype == ETH_P_IPV6 && p.proto == PROTO_ICMP6 && p.icmp_type == 135 {
        return resolve::neighbour(skb, p, port, network);
    }
    if p.eth_dst[0] & 1 != 0 {
        return report::drop(p, DropReason::Multicast as u32);
    }
    if !resolve::same(&p.eth_dst, &GATEWAY_MAC) {
        return report::drop(p, DropReason::ForeignMac as u32);
    }
    if !owns(p, port) {
        return report::drop(p, DropReason::SpoofedAddress as u32);
    }
    if p.network_flags & NETWORK_CHAINS == 0 {
        return send::to_destination(skb, p, 0, Some(network));
    }
    enter_chain(skb, p)
}

/// Whether the source is the endpoint's: one of those that its port names, or one that is looked up.
#[inline(always)]
fn owns(p: &Packet, port: &Port) -> bool {
    let [lower, upper, _, _] = p.halves();
    let family = if packet::is_mapped((lower, upper)) { 0 } else { 1 };
    let own = &port.own[family];
    let own = (packet::field_half(own, false), packet::field_half(own, true));
    if own != (0, 0) && own == (lower, upper) {
        return true;
    }
    let key = EndpointKey {
        vni: p.vni,
        addr: p.src,
    };
    match unsafe { maps::ENDPOINTS.get(&key) } {
        Some(endpoint) => endpoint.port == p.port && endpoint.ifindex == p.ifindex,
        None => false,
    }
}

/// A packet from outside, which the network's gateway passed on to an endpoint of this node. It never speaks for an
/// address of the network but the gateway's own.
#[inline(never)]
fn from_gateway(skb: Skb, p: &mut Packet) -> i32 {
    let Some(network) = (unsafe { maps::NETWORKS.get(p.vni) }) else {
        return report::drop(p, DropReason::UnknownVni as u32);
    };
    if p.eth_dst[0] & 1 != 0 {
        return resolve::quiet(p);
    }
    let bad = packet::internet(skb, p);
    report::filter(skb, p);
    if bad != 0 {
        return report::drop(p, bad);
    }
    report::emit(p, TracePoint::FromGateway, 0);
    let [lower, upper, _, _] = p.halves();
    let source = (lower, upper);
    if send::inside(source, network) && !send::is_gateway(source, network) {
        return report::drop(p, DropReason::SpoofedAddress as u32);
    }
    send::to_endpoint_here(skb, p)
}

#[inline(never)]
fn enter_chain(skb: Skb, p: &mut Packet) -> i32 {
    let mut steer = select::remembered(p);
    if steer == select::NONE {
        let stage = select::classify(p);
        if stage != 0 {
            steer = select::position_in(p, stage);
        }
        if steer < select::DROP {
            select::remember(p, steer);
        }
    }
    if select::refuses(steer) {
        return report::drop(p, steer & 0xff);
    }
    if p.first_fragment != 0 {
        select::lead(p, steer);
    }
    if steer >= select::BYPASSED {
        return send::to_destination(skb, p, 0, None);
    }
    p.steer = steer;
    report::emit(p, TracePoint::ChainEntry, 0);
    send::to_position(skb, p, 0)
}

/// A frame that a hop sent: it must leave a position by the port that position leaves by.
#[inline(never)]
fn from_hop(skb: Skb, p: &mut Packet) -> i32 {
    let bad = if p.ethertype == ETH_P_ARP {
        DropReason::HopStray as u32
    } else {
        packet::internet(skb, p)
    };
    report::filter(skb, p);
    if bad != 0 {
        return report::drop(p, bad);
    }
    let (steer, answer) = match (steer_of(p.eth_dst), port_of(p.eth_src)) {
        (Some(steer), Some(_)) => (steer, false),
        _ => match (steer_of(p.eth_src), port_of(p.eth_dst)) {
            (Some(steer), Some(_)) => (steer, true),
            _ => return report::drop(p, DropReason::HopStray as u32),
        },
    };
    let Some(position) = (unsafe { maps::POSITIONS.get(steer & !3) }) else {
        return report::drop(p, DropReason::UnknownSteer as u32);
    };
    let entered_forward = match SteerFace::of(steer) {
        SteerFace::EnterForward => true,
        SteerFace::EnterReverse => false,
        _ => return report::drop(p, DropReason::HopStray as u32),
    };
    // The hop's own answer turns round: it leaves by the port it entered.
    let forward = entered_forward != answer;
    let leaves_by = if forward {
        position.out_port
    } else {
        position.in_port
    };
    if leaves_by != p.port || position.vni != p.vni {
        return report::drop(p, DropReason::HopStray as u32);
    }
    p.steer = if forward {
        SteerFace::EnterForward
    } else {
        SteerFace::EnterReverse
    }
    .id(steer);
    report::emit(p, TracePoint::FromHop, 0);
    let next = if forward {
        position.next_forward
    } else {
        position.next_reverse
    };
    leave_hop(skb, p, next, forward as u32)
}

#[inline(never)]
fn leave_hop(skb: Skb, p: &mut Packet, next: u32, forward: u32) -> i32 {
    if next != 0 {
        let mut steer = select::remembered(p);
        if steer == select::NONE {
            steer = select::position_in(p, next);
            if steer < select::DROP {
                select::remember(p, steer);
            }
        }
        if select::refuses(steer) {
            return report::drop(p, steer & 0xff);
        }
        if p.first_fragment != 0 {
            select::lead(p, steer);
        }
        if steer < select::DROP {
            p.steer = steer;
            return send::to_position(skb, p, 0);
        }
    }
    let face = if forward != 0 {
        SteerFace::EndForward
    } else {
        SteerFace::EndReverse
    };
    p.steer = face.id(p.steer);
    send::to_destination(skb, p, 0, None)
}

#[classifier]
pub fn from_overlay(ctx: TcContext) -> i32 {
    overlay(ctx.skb.skb)
}

#[inline(always)]
fn overlay(skb: Skb) -> i32 {
    let Some(p) = scratch() else {
        return report::TC_DROP;
    };
    // SAFETY: the context is the program's own.
    unsafe {
        p.len = (*skb).len;
        p.ifindex = (*skb).ifindex;
    }
    let Some(sender) = tunnel_source(skb, p) else {
        return report::drop(p, DropReason::TunnelKey as u32);
    };
    // SAFETY: as many bytes, of which any are an address.
    let sender = unsafe { &*sender.as_ptr().cast::<VtepKey>() };
    let known = match unsafe { maps::VTEPS.get(sender) } {
        Some(node) => {
            p.peer = *node;
            true
        }
        None => false,
    };
    if !packet::ethernet(skb, p) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    let bad = packet::internet(skb, p);
    report::filter(skb, p);
    if !known {
        return report::drop(p, DropReason::UnknownVtep as u32);
    }
    if bad != 0 {
        // Probes carry no IP, so only what would be dropped is asked whether it is one.
        if p.vni == PROBE_VNI {
            return probe::arrived(skb, p);
        }
        return report::drop(p, bad);
    }
    arrived(skb, p)
}

#[inline(never)]
fn arrived(skb: Skb, p: &mut Packet) -> i32 {
    let Some(network) = (unsafe { maps::NETWORKS.get(p.vni) }) else {
        return report::drop(p, DropReason::UnknownVni as u32);
    };
    p.uniform = (network.flags & UNIFORM) as u8;
    if let Some(steer) = steer_of(p.eth_dst) {
        p.steer = steer;
        report::emit(p, TracePoint::Decap, 0);
        return match SteerFace::of(steer) {
            SteerFace::EnterForward | SteerFace::EnterReverse => send::to_position(skb, p, 1),
            _ => send::to_destination(skb, p, 1, None),
        };
    }
    report::emit(p, TracePoint::Decap, 0);
    send::to_destination(skb, p, 1, None)
}

/// Reads VNI, priority and time to live into the packet; the outer source by its halves, as the maps have it.
#[inline(always)]
fn tunnel_source(skb: Skb, p: &mut Packet) -> Option<[u64; 2]> {
    let mut room = MaybeUninit::<bpf_tunnel_key>::uninit();
    let size = size_of::<bpf_tunnel_key>() as u32;
    // SAFETY: `room` is of this stack frame; the helper fills it or clears it.
    unsafe {
        let key = room.as_mut_ptr();
        if bpf_skb_get_tunnel_key(skb, key, size, 0) == 0 {
            p.set_outer(&*key);
            // The helper gives it in host order.
            let remote = (*key).__bindgen_anon_1.remote_ipv4.to_be();
            return Some([0, packet::upper4(remote)]);
        }
        if bpf_skb_get_tunnel_key(skb, key, size, BPF_F_TUNINFO_IPV6 as u64) != 0 {
            return None;
        }
        p.set_outer(&*key);
        let [a, b, c, d] = (*key).__bindgen_anon_1.remote_ipv6.map(u64::from);
        Some([a | b << 32, c | d << 32])
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: never reached; the verifier refuses a program that could.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
