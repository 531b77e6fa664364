//! Priority and time to live between packet and tunnel, as the network says: each its own ("pipe": priority 0 and
//! [`TTL`] outside), or one ("uniform", RFC 2983 section 3.1 and RFC 3443 section 3.1): outside it is the packet's, and what
//! the underlay made of it becomes the packet's where it is delivered. A time to live is never made longer so.
//!
//! Never: congestion marks. The kernel's tunnel copies them out and combines them on arrival, before these programs run
//! (RFC 6040; include/net/inet_ecn.h).

use aya_ebpf::{
    bindings::BPF_F_RECOMPUTE_CSUM,
    helpers::generated::{bpf_l3_csum_replace, bpf_skb_store_bytes},
};
use weft_ebpf_abi::{NETWORK_DSCP_UNIFORM, NETWORK_TTL_UNIFORM};

use crate::{
    packet::{ETH_LEN, ETH_P_IP, Packet, Room},
    report::Skb,
};

/// Outside, of networks where it is not the packet's (RFC 1700, "IP time to live parameter").
pub const TTL: u8 = 64;
/// The bits of the traffic class that are the priority (RFC 2474 section 3).
const DSCP: u8 = 0xfc;
/// Where the IPv4 header's checksum is.
const CHECKSUM: u32 = ETH_LEN + 10;

/// The first bytes of the packet's IP header, to the time to live and what shares a word with it.
type Head = Room<10>;

/// Traffic class and time to live of a header.
#[inline(always)]
fn said(p: &Packet, head: &[u8; 10]) -> (u8, u8) {
    if p.ethertype == ETH_P_IP {
        (head[1], head[8])
    } else {
        (head[0] << 4 | head[1] >> 4, head[7])
    }
}

/// What the outer header of this packet is to say: the priority, and above its byte the time to live.
#[inline(never)]
pub fn outside(skb: Skb, p: &Packet, flags: u32) -> u32 {
    let mut head = Head::new();
    let Some(head) = head.load(skb, ETH_LEN) else {
        return (TTL as u32) << 8;
    };
    let (class, ttl) = said(p, head);
    let class = if flags & NETWORK_DSCP_UNIFORM != 0 {
        class & DSCP
    } else {
        0
    };
    let ttl = if flags & NETWORK_TTL_UNIFORM != 0 {
        ttl
    } else {
        TTL
    };
    class as u32 | (ttl as u32) << 8
}

/// Gives the packet what the outer header said. 0: it cannot be written.
#[inline(never)]
pub fn inside(skb: Skb, p: &Packet) -> u32 {
    let mut room = Head::new();
    let Some(head) = room.load(skb, ETH_LEN) else {
        return 0;
    };
    let (had_class, had_ttl) = said(p, head);
    let class = if p.uniform as u32 & NETWORK_DSCP_UNIFORM != 0 {
        p.outer_class & DSCP | had_class & !DSCP
    } else {
        had_class
    };
    let ttl = if p.uniform as u32 & NETWORK_TTL_UNIFORM != 0 && p.outer_ttl < had_ttl {
        p.outer_ttl
    } else {
        had_ttl
    };
    let done = if p.ethertype == ETH_P_IP {
        (class == had_class || byte4(skb, 1, [head[0], had_class], [head[0], class]))
            && (ttl == had_ttl || byte4(skb, 8, [had_ttl, head[9]], [ttl, head[9]]))
    } else {
        (class == had_class
            || bytes6(
                skb,
                0,
                [head[0] & 0xf0 | class >> 4, class << 4 | head[1] & 0x0f],
            ))
            && (ttl == had_ttl || bytes6(skb, 6, [head[6], ttl]))
    };
    done as u32
}

/// Writes the byte at `at` of an IPv4 header, which is one of these two, and corrects the checksum (RFC 1624).
#[inline(always)]
fn byte4(skb: Skb, at: u32, from: [u8; 2], to: [u8; 2]) -> bool {
    let byte = if at & 1 == 0 { to[0] } else { to[1] };
    let (from, to) = (u16::from_ne_bytes(from), u16::from_ne_bytes(to));
    // SAFETY: a word's sum and one byte of this frame; the helpers check the packet's bounds.
    unsafe {
        bpf_l3_csum_replace(skb, CHECKSUM, from as u64, to as u64, 2) == 0
            && bpf_skb_store_bytes(skb, ETH_LEN + at, (&raw const byte).cast(), 1, 0) == 0
    }
}

/// Writes two bytes of an IPv6 header, which has no checksum; the card's sum over the whole packet is corrected.
#[inline(always)]
fn bytes6(skb: Skb, at: u32, to: [u8; 2]) -> bool {
    let flags = BPF_F_RECOMPUTE_CSUM as u64;
    // SAFETY: two bytes of this frame; the helper checks the packet's bounds.
    unsafe { bpf_skb_store_bytes(skb, ETH_LEN + at, to.as_ptr().cast(), 2, flags) == 0 }
}
