//! Telling what happened: counters, trace events, and the decision that tests read.

use aya_ebpf::{bindings::{__sk_buff, BPF_NOEXIST}, helpers::generated::bpf_ktime_get_ns};
use weft_ebpf_abi::{Decision, DropKey, DropReason, TraceEvent, TraceFilter, TracePoint};

use crate::{
    maps,
    packet::{self, Packet, half},
};

pub const TC_DROP: i32 = 2;
pub const TC_REDIRECT: i32 = 7;

/// Decides once whether this packet is told about.
#[inline(always)]
pub fn filter(skb: Skb, p: &mut Packet) {
    if let Some(filter) = maps::TRACE_FILTER.get(0) {
        if filter.mode != 0 {
            choose(skb, p, filter);
        }
    }
}

#[inline(never)]
fn choose(skb: Skb, p: &mut Packet, f: &TraceFilter) -> u32 {
    packet::identify(skb, p);
    if f.mode == 1 {
        if f.vni != 0 && f.vni != p.vni {
            return 0;
        }
        if f.proto != 0 && f.proto != p.proto && !(f.proto == 1 && p.proto == 58) {
            return 0;
        }
        if f.port != 0 && f.port != p.sport && f.port != p.dport {
            return 0;
        }
        let (a0, a1) = (half(&f.a, false), half(&f.a, true));
        let (b0, b1) = (half(&f.b, false), half(&f.b, true));
        let (s0, s1) = (half(&p.src, false), half(&p.src, true));
        let (d0, d1) = (half(&p.dst, false), half(&p.dst, true));
        let any_a = a0 | a1 == 0;
        let any_b = b0 | b1 == 0;
        let forward = (any_a || (a0 == s0 && a1 == s1)) && (any_b || (b0 == d0 && b1 == d1));
        let reverse = (any_a || (a0 == d0 && a1 == d1)) && (any_b || (b0 == s0 && b1 == s1));
        if !forward && !reverse {
            return 0;
        }
    }
    if f.sample != 0 && (p.identity as u32) & f.sample != 0 {
        return 0;
    }
    p.traced = 1;
    1
}

/// Tells of the packet at `point`, if it was chosen.
#[inline(always)]
pub fn emit(p: &Packet, point: TracePoint, reason: u32) {
    if p.traced != 0 {
        emit_slow(p, point as u32, reason);
    }
}

#[inline(never)]
fn emit_slow(p: &Packet, point: u32, reason: u32) -> u32 {
    let Some(mut entry) = maps::EVENTS.reserve(0) else {
        if let Some(lost) = maps::EVENTS_LOST.get_ptr_mut(0) {
            // SAFETY: a per-CPU slot; nothing else runs on this CPU meanwhile.
            unsafe { *lost += 1 };
        }
        return 0;
    };
    entry.write(TraceEvent {
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        identity: p.identity,
        src: p.src,
        dst: p.dst,
        vni: p.vni,
        port: p.port,
        ifindex: p.ifindex,
        steer: p.steer,
        peer: p.peer,
        len: p.len,
        seq: p.seq,
        payload: p.payload,
        sport: p.sport,
        dport: p.dport,
        ip_id: p.ip_id,
        proto: p.proto,
        point: point as u8,
        reason: reason as u8,
        tcp_flags: p.tcp_flags,
        icmp_type: p.icmp_type,
        pad: [0; 5],
    });
    entry.submit(0);
    0
}

#[inline(always)]
pub fn decide(p: &Packet, action: u32, target: u32, reason: u32) {
    if let Some(d) = maps::DECISION.get_ptr_mut(0) {
        // SAFETY: a per-CPU slot; nothing else runs on this CPU meanwhile.
        unsafe {
            *d = Decision {
                action,
                target,
                vni: p.vni,
                reason,
                steer: p.steer,
            }
        };
    }
}

/// Counts, tells and drops.
#[inline(never)]
pub fn drop(p: &Packet, reason: u32) -> i32 {
    // The bound is for the verifier; reasons are below it.
    if let Some(count) = maps::DROPS.get_ptr_mut(reason & (DropReason::SLOTS - 1)) {
        // SAFETY: a per-CPU slot.
        unsafe { *count += 1 };
    }
    by_network(p.vni, reason);
    if p.port != 0 {
        if let Some(stats) = maps::PORT_STATS.get_ptr_mut(p.port) {
            // SAFETY: a per-CPU slot.
            unsafe { (*stats).drops += 1 };
        }
    }
    emit(p, TracePoint::Drop, reason);
    decide(p, weft_ebpf_abi::ACTION_DROP, 0, reason);
    TC_DROP
}

/// Reasons that say that the packet is not known to be of the network that it names.
const NOBODYS: u64 = 1 << DropReason::UnknownPort as u32
    | 1 << DropReason::UnknownVtep as u32
    | 1 << DropReason::UnknownVni as u32
    | 1 << DropReason::TunnelKey as u32;

/// Only networks that are here get a counter of their own, so nobody fills the map by naming others. Takes 80 ns of each
/// packet that is dropped (451 to 531, medians of 20,000 runs in turn).
#[inline(never)]
fn by_network(vni: u32, reason: u32) -> u32 {
    let reason = reason & (DropReason::SLOTS - 1);
    let nobodys = NOBODYS >> reason & 1 != 0 || unsafe { maps::NETWORKS.get(vni) }.is_none();
    let key = DropKey {
        vni: if nobodys { 0 } else { vni },
        reason,
    };
    if let Some(count) = maps::NETWORK_DROPS.get_ptr_mut(key) {
        // SAFETY: a per-CPU slot.
        unsafe { *count += 1 };
        return 0;
    }
    // Another CPU may have made it meanwhile; then this one's slot is there and zero.
    if maps::NETWORK_DROPS.insert(&key, &1, BPF_NOEXIST as u64).is_err() {
        if let Some(count) = maps::NETWORK_DROPS.get_ptr_mut(key) {
            // SAFETY: a per-CPU slot.
            unsafe { *count += 1 };
        }
    }
    0
}

/// Counts a packet of a port: sent by its container (`sent` = 1) or delivered to it.
#[inline(always)]
pub fn count(port: u32, len: u32, sent: u32) {
    let Some(stats) = maps::PORT_STATS.get_ptr_mut(port) else {
        return;
    };
    // SAFETY: a per-CPU slot.
    unsafe {
        if sent != 0 {
            (*stats).tx_packets += 1;
            (*stats).tx_bytes += len as u64;
        } else {
            (*stats).rx_packets += 1;
            (*stats).rx_bytes += len as u64;
        }
    }
}

/// Packet type of frames for this host: `PACKET_HOST`, include/uapi/linux/if_packet.h.
pub const PACKET_HOST: u32 = 0;

pub type Skb = *mut __sk_buff;
