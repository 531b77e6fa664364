//! Packets that are larger than the way to another node lets through. They are dropped, and an endpoint that sent
//! one is told: "fragmentation needed" (RFC 1191 section 3) or "packet too big" (RFC 4443 section 3.2), from the
//! gateway. The sender then makes smaller ones, also of what it let be fragmented: nobody fragments on the way.
//!
//! Of a packet that the card or the kernel is to segment, the size of its segments counts. A hop is not told:
//! what it sends is not its own, and an answer through it would carry the checksum offload of the packet that it
//! was made of into a tunnel.

use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_skb_change_tail, bpf_skb_store_bytes};
use weft_ebpf_abi::{ACTION_ANSWER, DropReason, GATEWAY_MAC, TracePoint};

use crate::{
    maps,
    packet::{ETH_LEN, ETH_P_IP, PROTO_ICMP, PROTO_ICMP6, Packet, load},
    report::{self, Skb},
    send,
};

/// Bytes of the packet that come back: the longest IPv4 header and eight more (RFC 792).
const QUOTE4: usize = 68;
/// The same of IPv6, where headers may precede the transport's.
const QUOTE6: usize = 96;

/// Bytes of IP packet that reach the wire at once.
#[inline(always)]
pub fn size(skb: Skb, p: &Packet) -> u32 {
    // SAFETY: the context is the program's own.
    let segment = unsafe { (*skb).gso_size };
    if segment == 0 {
        p.len - ETH_LEN
    } else if p.data as u32 > ETH_LEN {
        p.data as u32 - ETH_LEN + segment
    } else {
        // Of this protocol the kernel alone knows how it is segmented.
        0
    }
}

/// Verdict within the program: the packet is to be refused. Done where the calls are not nested deeply, for the
/// kernel allows eight frames.
pub const TOO_BIG: i32 = 0x100;

/// Drops the packet and tells its sender what would fit.
#[inline(never)]
pub fn refuse(skb: Skb, p: &mut Packet) -> i32 {
    let dropped = report::drop(p, DropReason::TooBig as u32);
    // No error about an error, nor about a fragment that is not the first (RFC 1122 section 3.2.2).
    let error = if p.proto == PROTO_ICMP {
        p.icmp_type != 0 && p.icmp_type != 8
    } else {
        p.proto == PROTO_ICMP6 && p.icmp_type < 128
    };
    if error || p.later_fragment != 0 || p.from_hop != 0 {
        return dropped;
    }
    let told = if p.ethertype == ETH_P_IP {
        tell4(skb, p)
    } else {
        tell6(skb, p)
    };
    if told == 0 || !send::rewrite(skb, p.eth_src, GATEWAY_MAC) {
        return dropped;
    }
    report::emit(p, TracePoint::Answered, 0);
    report::decide(p, ACTION_ANSWER, p.ifindex, DropReason::TooBig as u32);
    send::back(p)
}

/// 1 when the packet is now the error.
#[inline(never)]
fn tell4(skb: Skb, p: &Packet) -> u32 {
    let Some(network) = (unsafe { maps::NETWORKS.get(p.vni) }) else {
        return 0;
    };
    let mut quote = [0u8; QUOTE4];
    if !load(skb, ETH_LEN, &mut quote) {
        return 0;
    }
    let mut head = [0u8; 28];
    head[0] = 0x45;
    head[3] = (28 + QUOTE4) as u8;
    head[8] = 64;
    head[9] = PROTO_ICMP;
    head[12..16].copy_from_slice(&network.gateway4[12..16]);
    head[16..20].copy_from_slice(&p.src[12..16]);
    head[20] = 3;
    head[21] = 4;
    head[26..28].copy_from_slice(&p.fits.to_be_bytes());
    let check = fold(sum(&head[..20], 0));
    head[10..12].copy_from_slice(&check);
    let check = fold(sum(&quote, sum(&head[20..], 0)));
    head[22..24].copy_from_slice(&check);
    replace(skb, &head, &quote)
}

/// 1 when the packet is now the error.
#[inline(never)]
fn tell6(skb: Skb, p: &Packet) -> u32 {
    let mut quote = [0u8; QUOTE6];
    if !load(skb, ETH_LEN, &mut quote) {
        return 0;
    }
    let mut head = [0u8; 48];
    head[0] = 0x60;
    head[5] = (8 + QUOTE6) as u8;
    head[6] = PROTO_ICMP6;
    head[7] = 64;
    // fe80::1, the gateway of every network.
    head[8] = 0xfe;
    head[9] = 0x80;
    head[23] = 1;
    head[24..40].copy_from_slice(&p.src);
    head[40] = 2;
    head[46..48].copy_from_slice(&p.fits.to_be_bytes());
    // Pseudo header (RFC 8200 section 8.1): both addresses, length and next header, then the message.
    let tail: [u8; 8] = [0, 0, 0, 8 + QUOTE6 as u8, 0, 0, 0, PROTO_ICMP6];
    let check = fold(sum(&quote, sum(&head[8..], sum(&tail, 0))));
    head[42..44].copy_from_slice(&check);
    replace(skb, &head, &quote)
}

/// Puts an error and its quotation in the place of the packet behind the Ethernet header; 1 when it is done.
#[inline(always)]
fn replace<const HEAD: usize, const QUOTE: usize>(
    skb: Skb,
    head: &[u8; HEAD],
    quote: &[u8; QUOTE],
) -> u32 {
    let behind = ETH_LEN + HEAD as u32;
    // SAFETY: both arrays with their lengths; the helpers check the packet's bounds.
    let bad = unsafe {
        bpf_skb_change_tail(skb, behind + QUOTE as u32, 0) != 0
            || bpf_skb_store_bytes(skb, ETH_LEN, head.as_ptr().cast(), HEAD as u32, 0) != 0
            || bpf_skb_store_bytes(skb, behind, quote.as_ptr().cast(), QUOTE as u32, 0) != 0
    };
    !bad as u32
}

/// Adds up for the Internet checksum (RFC 1071); lengths here are multiples of four.
#[inline(always)]
fn sum(bytes: &[u8], seed: u32) -> u32 {
    // SAFETY: `bytes` with its own length; nothing is written.
    unsafe {
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            bytes.as_ptr().cast_mut().cast(),
            bytes.len() as u32,
            seed,
        ) as u32
    }
}

#[inline(always)]
fn fold(sum: u32) -> [u8; 2] {
    let mut folded = (sum & 0xffff) + (sum >> 16);
    folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_ne_bytes()
}
