//! Address resolution answered in place: ARP (RFC 826) and neighbour solicitations (RFC 4861). Every
//! address of the network but the asker's own has the gateway's MAC. Probes are never answered.

use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_skb_change_tail, bpf_skb_store_bytes};
use weft_ebpf_abi::{DropReason, EndpointKey, GATEWAY_MAC, Network, Port, mapped};

use crate::{
    maps,
    packet::{ETH_LEN, Packet, be16, half, load},
    report::{self, Skb, TC_DROP},
    send,
};

/// Silence without a fault: a probe, an announcement.
#[inline(always)]
pub fn quiet(p: &Packet) -> i32 {
    report::decide(p, weft_ebpf_abi::ACTION_IGNORE, 0, 0);
    TC_DROP
}

#[inline(always)]
fn owns(p: &Packet, addr: &[u8; 16]) -> bool {
    let key = EndpointKey {
        vni: p.vni,
        addr: *addr,
    };
    match unsafe { maps::ENDPOINTS.get(&key) } {
        Some(endpoint) => endpoint.port == p.port,
        None => false,
    }
}

/// Answers an ARP request.
#[inline(never)]
pub fn arp(skb: Skb, p: &mut Packet, port: &Port, network: &Network) -> i32 {
    let mut arp = [0u8; 28];
    if !load(skb, ETH_LEN, &mut arp) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    if be16(&arp, 0) != 1 || be16(&arp, 2) != 0x0800 || arp[4] != 6 || arp[5] != 4 {
        return report::drop(p, DropReason::Malformed as u32);
    }
    p.src = mapped([arp[14], arp[15], arp[16], arp[17]]);
    p.dst = mapped([arp[24], arp[25], arp[26], arp[27]]);
    report::filter(skb, p);
    let sender = [arp[8], arp[9], arp[10], arp[11], arp[12], arp[13]];
    if !same(&sender, &port.mac) {
        return report::drop(p, DropReason::SpoofedMac as u32);
    }
    if half(&p.src, true) == half(&mapped([0; 4]), true) {
        return quiet(p);
    }
    if !owns(p, &p.src) {
        return report::drop(p, DropReason::SpoofedAddress as u32);
    }
    if be16(&arp, 6) != 1 || half(&p.src, true) == half(&p.dst, true) {
        return quiet(p);
    }
    if !in_net4(p, network) {
        return report::drop(p, DropReason::NoRoute as u32);
    }
    let mut reply = [0u8; 28];
    reply[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
    reply[8..14].copy_from_slice(&GATEWAY_MAC);
    reply[14..18].copy_from_slice(&[arp[24], arp[25], arp[26], arp[27]]);
    reply[18..24].copy_from_slice(&sender);
    reply[24..28].copy_from_slice(&[arp[14], arp[15], arp[16], arp[17]]);
    // SAFETY: 28 bytes of this frame; the helper checks the packet's bounds.
    let bad = unsafe { bpf_skb_store_bytes(skb, ETH_LEN, reply.as_ptr().cast(), 28, 0) };
    if bad != 0 || !send::rewrite(skb, sender, GATEWAY_MAC) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    send::reflect(p)
}

#[inline(always)]
pub fn same(a: &[u8; 6], b: &[u8; 6]) -> bool {
    let mut i = 0;
    let mut diff = 0;
    while i < 6 {
        diff |= a[i] ^ b[i];
        i += 1;
    }
    diff == 0
}

#[inline(always)]
fn in_net4(p: &Packet, network: &Network) -> bool {
    if network.len4 == 0 || network.len4 > 32 {
        return false;
    }
    let word = |a: &[u8; 16]| u32::from_be_bytes([a[12], a[13], a[14], a[15]]);
    let mask = !0u32 << ((32 - network.len4 as u32) & 31);
    word(&p.dst) & mask == word(&network.net4)
}

/// Answers a neighbour solicitation, whose ICMPv6 header begins at `p.l4`.
#[inline(never)]
pub fn neighbour(skb: Skb, p: &mut Packet, port: &Port, network: &Network) -> i32 {
    let mut ns = [0u8; 24];
    if p.l4 != ETH_LEN + 40 || !load(skb, ETH_LEN + 40, &mut ns) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    if half(&p.src, false) | half(&p.src, true) == 0 {
        return quiet(p);
    }
    let link_local = p.src[0] == 0xfe && p.src[1] & 0xc0 == 0x80;
    if !link_local && !owns(p, &p.src) {
        return report::drop(p, DropReason::SpoofedAddress as u32);
    }
    let mut target = [0u8; 16];
    target.copy_from_slice(&ns[8..24]);
    let gateway = half(&target, false)
        == u64::from_be_bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0]).to_be()
        && half(&target, true) == 1u64.to_be();
    let own =
        half(&target, false) == half(&p.src, false) && half(&target, true) == half(&p.src, true);
    if own {
        return quiet(p);
    }
    if !gateway && !in_net6(&target, network) {
        return report::drop(p, DropReason::NoRoute as u32);
    }
    advertise(skb, p, port, &target)
}

#[inline(always)]
fn in_net6(target: &[u8; 16], network: &Network) -> bool {
    let len = network.len6 as u32;
    if len == 0 || len > 128 {
        return false;
    }
    let (hi, lo) = (
        u64::from_be(half(target, false)),
        u64::from_be(half(target, true)),
    );
    let (nh, nl) = (
        u64::from_be(half(&network.net6, false)),
        u64::from_be(half(&network.net6, true)),
    );
    if len <= 64 {
        (hi ^ nh) & (!0u64 << ((64 - len) & 63)) == 0
    } else {
        hi == nh && (lo ^ nl) & (!0u64 << ((128 - len) & 63)) == 0
    }
}

/// Writes the advertisement over the solicitation (RFC 4861 section 4.4: router, solicited, override).
#[inline(always)]
fn advertise(skb: Skb, p: &mut Packet, port: &Port, target: &[u8; 16]) -> i32 {
    let mut out = [0u8; 72];
    out[0] = 0x60;
    out[5] = 32;
    out[6] = 58;
    out[7] = 255;
    out[8..24].copy_from_slice(target);
    out[24..40].copy_from_slice(&p.src);
    out[40] = 136;
    out[44] = 0xe0;
    out[48..64].copy_from_slice(target);
    out[64] = 2;
    out[65] = 1;
    out[66..72].copy_from_slice(&GATEWAY_MAC);
    // Pseudo header (RFC 8200 section 8.1): both addresses, length and next header, then the message.
    let tail: [u8; 8] = [0, 0, 0, 32, 0, 0, 0, 58];
    // SAFETY: sizes are multiples of four and within the arrays.
    let sum = unsafe {
        let seed = bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            tail.as_ptr().cast_mut().cast(),
            8,
            0,
        );
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            out[8..].as_ptr().cast_mut().cast(),
            64,
            seed as u32,
        )
    };
    let mut folded = sum as u32 as u64;
    folded = (folded & 0xffff) + (folded >> 16);
    folded = (folded & 0xffff) + (folded >> 16);
    let check = (!(folded as u16)).to_ne_bytes();
    out[42] = check[0];
    out[43] = check[1];
    // SAFETY: 72 bytes of this frame; the helpers check the packet's bounds.
    let bad = unsafe {
        bpf_skb_change_tail(skb, ETH_LEN + 72, 0) != 0
            || bpf_skb_store_bytes(skb, ETH_LEN, out.as_ptr().cast(), 72, 0) != 0
    };
    if bad || !send::rewrite(skb, port.mac, GATEWAY_MAC) {
        return report::drop(p, DropReason::Malformed as u32);
    }
    send::reflect(p)
}
