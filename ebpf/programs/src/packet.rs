//! Reading a packet. Headers are copied to the stack by `bpf_skb_load_bytes`, which also works when the
//! linear area holds only Ethernet. Nothing here looks at steering or tables.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::{bindings::{__sk_buff, bpf_tunnel_key}, helpers::generated::bpf_skb_load_bytes};
use weft_ebpf_abi::DropReason;

pub const ETH_LEN: u32 = 14;
pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_IPV6: u16 = 0x86dd;
pub const ETH_P_ARP: u16 = 0x0806;
const ETH_P_8021Q: u16 = 0x8100;
pub const PROTO_ICMP: u8 = 1;
pub const PROTO_TCP: u8 = 6;
pub const PROTO_UDP: u8 = 17;
pub const PROTO_ICMP6: u8 = 58;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_ACK: u8 = 0x10;

/// What is known of the packet in hand, and of where it is.
#[repr(C)]
pub struct Packet {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub identity: u64,
    pub vni: u32,
    pub port: u32,
    pub ifindex: u32,
    pub steer: u32,
    pub peer: u32,
    pub len: u32,
    pub seq: u32,
    pub payload: u32,
    pub l4: u32,
    /// 1 when the trace filter matched.
    pub traced: u32,
    pub network_flags: u32,
    /// What joins the fragments of one packet.
    pub fragment_id: u32,
    pub sport: u16,
    pub dport: u16,
    pub ip_id: u16,
    pub ethertype: u16,
    /// Where what the transport carries begins; 0 = not known.
    pub data: u16,
    /// What the way to another node lets through, bytes of IP packet, once this packet was too big for it.
    pub fits: u16,
    pub eth_dst: [u8; 6],
    pub eth_src: [u8; 6],
    pub proto: u8,
    pub tcp_flags: u8,
    pub icmp_type: u8,
    /// 1 = a fragment that is not the first: it has no ports.
    pub later_fragment: u8,
    /// 1 = a fragment that others follow.
    pub first_fragment: u8,
    /// 1 = a hop sent it.
    pub from_hop: u8,
    /// What the outer header said, of a packet that came by the tunnel.
    pub outer_class: u8,
    pub outer_ttl: u8,
    /// The network's `NETWORK_*_UNIFORM`, of such a packet.
    pub uniform: u8,
    pub pad: [u8; 7],
}

/// Words of a packet, and none of them in part.
const WORDS: usize = size_of::<Packet>() / 8;
const _: () = assert!(size_of::<Packet>() == WORDS * 8 && WORDS == 16);
const _: () = assert!(offset_of!(Packet, src) == 0 && offset_of!(Packet, dst) == 16);

impl Packet {
    /// Clears it word by word; what the compiler would call for it goes byte by byte, 60 ns more.
    ///
    /// # Safety
    /// `p` is a packet of this run alone.
    #[inline(always)]
    pub unsafe fn clear(p: *mut Packet) {
        let words = p.cast::<u64>();
        macro_rules! clear {
            ($($word:literal)*) => {
                // SAFETY: within the packet, whose alignment is that of its `identity`. Volatile, or it becomes a call.
                $(unsafe { words.add($word).write_volatile(0) };)*
            };
        }
        clear!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }

    /// What the tunnel says beside its source.
    #[inline(always)]
    pub fn set_outer(&mut self, key: &bpf_tunnel_key) {
        self.vni = key.tunnel_id;
        self.outer_class = key.tunnel_tos;
        self.outer_ttl = key.tunnel_ttl;
    }

    /// Both addresses by their halves, as they are in memory.
    #[inline(always)]
    pub fn set_addresses(&mut self, src: (u64, u64), dst: (u64, u64)) {
        let words = core::ptr::from_mut(self).cast::<u64>();
        // SAFETY: they are the first two fields of an aligned struct.
        unsafe {
            words.write(src.0);
            words.add(1).write(src.1);
            words.add(2).write(dst.0);
            words.add(3).write(dst.1);
        }
    }

    /// The halves of the source, then of the destination, as they are in memory.
    #[inline(always)]
    pub fn halves(&self) -> [u64; 4] {
        let words = core::ptr::from_ref(self).cast::<u64>();
        // SAFETY: as above.
        unsafe {
            [
                words.read(),
                words.add(1).read(),
                words.add(2).read(),
                words.add(3).read(),
            ]
        }
    }
}

/// Copies `N` bytes at `offset`.
#[inline(always)]
pub fn load<const N: usize>(skb: *mut __sk_buff, offset: u32, into: &mut [u8; N]) -> bool {
    // SAFETY: `into` is N bytes of this stack frame; the helper checks the packet's bounds.
    unsafe { bpf_skb_load_bytes(skb.cast(), offset, into.as_mut_ptr().cast(), N as u32) == 0 }
}

/// Where bytes of a packet are copied to: aligned, so that its words are read at once, and not cleared first, which the
/// compiler would do by a call that goes byte by byte.
#[repr(C, align(8))]
pub struct Room<const N: usize>(MaybeUninit<[u8; N]>);

impl<const N: usize> Room<N> {
    #[inline(always)]
    pub const fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    /// Copies bytes at `offset`; `None` where the packet has fewer.
    #[inline(always)]
    pub fn load(&mut self, skb: *mut __sk_buff, offset: u32) -> Option<&[u8; N]> {
        // SAFETY: N bytes of this stack frame; the helper checks the packet's bounds, and fills them or clears them.
        unsafe {
            let bad = bpf_skb_load_bytes(skb.cast(), offset, self.0.as_mut_ptr().cast(), N as u32);
            (bad == 0).then(|| self.0.assume_init_ref())
        }
    }

    /// The word at `4 * INDEX`, as it is in memory, after `load`.
    #[inline(always)]
    pub fn word<const INDEX: usize>(&self) -> u32 {
        const { assert!(INDEX * 4 + 4 <= N) };
        // SAFETY: within, and aligned as this struct is; any bytes are a number.
        unsafe { self.0.as_ptr().cast::<u32>().add(INDEX).read() }
    }

    /// The same of eight bytes.
    #[inline(always)]
    pub fn long<const INDEX: usize>(&self) -> u64 {
        const { assert!(INDEX * 8 + 8 <= N) };
        // SAFETY: as above.
        unsafe { self.0.as_ptr().cast::<u64>().add(INDEX).read() }
    }
}

/// The upper half of an IPv4 address as the maps have it, from its word in memory; the lower half is zero.
#[inline(always)]
pub fn upper4(word: u32) -> u64 {
    0x0000_ffff_u64.to_be() >> 32 | (word as u64) << 32
}

#[inline(always)]
pub fn be16(b: &[u8], i: usize) -> u16 {
    u16::from_be_bytes([b[i], b[i + 1]])
}

#[inline(always)]
fn be32(b: &[u8], i: usize) -> u32 {
    u32::from_be_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]])
}

#[inline(always)]
pub fn mix(h: u64, v: u64) -> u64 {
    let x = (h ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

#[inline(always)]
pub fn half(a: &[u8; 16], upper: bool) -> u64 {
    let i = if upper { 8 } else { 0 };
    u64::from_ne_bytes([
        a[i],
        a[i + 1],
        a[i + 2],
        a[i + 3],
        a[i + 4],
        a[i + 5],
        a[i + 6],
        a[i + 7],
    ])
}

/// The same of an address that is a field of a map's value, read by words.
#[inline(always)]
pub fn field_half(a: &[u8; 16], upper: bool) -> u64 {
    let first = if upper { 2 } else { 0 };
    let words = a.as_ptr().cast::<u32>();
    // SAFETY: within the address; in all values of maps that have some, they begin at a multiple of four bytes.
    let (low, high) = unsafe { (words.add(first).read(), words.add(first + 1).read()) };
    low as u64 | (high as u64) << 32
}

/// Whether the halves are an IPv4 address, as the maps have it.
#[inline(always)]
pub fn is_mapped((lower, upper): (u64, u64)) -> bool {
    lower == 0 && upper as u32 == upper4(0) as u32
}

/// Reads the Ethernet header. False: too short. The kernel takes a VLAN's tag off before programs run, and would put it
/// back behind them; the frame is of the kind that it was on the wire.
#[inline(always)]
pub fn ethernet(skb: *mut __sk_buff, p: &mut Packet) -> bool {
    let mut room = Room::<14>::new();
    let Some(eth) = room.load(skb, 0) else {
        return false;
    };
    p.eth_dst = [eth[0], eth[1], eth[2], eth[3], eth[4], eth[5]];
    p.eth_src = [eth[6], eth[7], eth[8], eth[9], eth[10], eth[11]];
    // SAFETY: a field of the program's own context.
    let tagged = unsafe { (*skb).vlan_present } != 0;
    p.ethertype = if tagged {
        ETH_P_8021Q
    } else {
        be16(eth, 12)
    };
    true
}

/// Reads network and transport headers. 0, or a [`DropReason`] as a number.
#[inline(never)]
pub fn internet(skb: *mut __sk_buff, p: &mut Packet) -> u32 {
    let end: u32;
    if p.ethertype == ETH_P_IP {
        let mut room = Room::<20>::new();
        let Some(ip) = room.load(skb, ETH_LEN) else {
            return DropReason::Malformed as u32;
        };
        if ip[0] >> 4 != 4 {
            return DropReason::Malformed as u32;
        }
        let ihl = ((ip[0] & 15) as u32) * 4;
        let total = be16(ip, 2) as u32;
        if ihl < 20 || (total != 0 && total < ihl) {
            return DropReason::Malformed as u32;
        }
        p.ip_id = be16(ip, 4);
        p.proto = ip[9];
        let fragment = be16(ip, 6);
        p.later_fragment = (fragment & 0x1fff != 0) as u8;
        p.first_fragment = (fragment & 0x3fff == 0x2000) as u8;
        p.fragment_id = p.ip_id as u32;
        p.l4 = ETH_LEN + ihl;
        let (src, dst) = (room.word::<3>(), room.word::<4>());
        p.set_addresses((0, upper4(src)), (0, upper4(dst)));
        if p.proto == PROTO_TCP && fragment & 0x1fff == OVER_PORTS {
            return DropReason::Malformed as u32;
        }
        if ihl > 20 {
            let bad = options(skb, ihl);
            if bad != 0 {
                return bad;
            }
        }
        // Zero: longer than 64 KiB, which local segmentation offload makes.
        end = if total == 0 { p.len } else { ETH_LEN + total };
    } else if p.ethertype == ETH_P_IPV6 {
        let mut room = Room::<40>::new();
        let Some(ip) = room.load(skb, ETH_LEN) else {
            return DropReason::Malformed as u32;
        };
        if ip[0] >> 4 != 6 {
            return DropReason::Malformed as u32;
        }
        p.proto = ip[6];
        p.l4 = ETH_LEN + 40;
        let payload = be16(ip, 4) as u32;
        let src = (room.long::<1>(), room.long::<2>());
        let dst = (room.long::<3>(), room.long::<4>());
        p.set_addresses(src, dst);
        // The maps write IPv4 addresses so; on the wire these are nobody's (RFC 4291 section 2.5.5.2).
        if is_mapped(src) || is_mapped(dst) {
            return DropReason::Malformed as u32;
        }
        // Zero: a jumbogram (RFC 2675), which local segmentation offload makes.
        end = if payload == 0 { p.len } else { p.l4 + payload };
        let bad = extensions(skb, p);
        if bad != 0 {
            return bad;
        }
    } else {
        return DropReason::UnsupportedProtocol as u32;
    }
    if p.later_fragment == 0 {
        let bad = transport(skb, p, end);
        if bad != 0 {
            return bad;
        }
    }
    0
}

/// The offset, in units of 8 bytes, of a TCP fragment that writes over what the first one told (RFC 3128).
const OVER_PORTS: u16 = 1;

/// Walks the options of an IPv4 header of `ihl` bytes (RFC 791 section 3.1). 0, or a [`DropReason`] as a number.
#[inline(never)]
fn options(skb: *mut __sk_buff, ihl: u32) -> u32 {
    let mut at = 20;
    let mut passed = 0;
    // An option is one byte at least.
    while passed < 40 {
        if at >= ihl {
            return 0;
        }
        let mut kind = [0u8; 1];
        if !load(skb, ETH_LEN + at, &mut kind) {
            return DropReason::Malformed as u32;
        }
        if kind[0] == 0 {
            return 0;
        }
        if kind[0] == 131 || kind[0] == 137 {
            return DropReason::SourceRoute as u32;
        }
        let mut length = [1u8; 1];
        if kind[0] != 1 && (!load(skb, ETH_LEN + at + 1, &mut length) || length[0] < 2) {
            return DropReason::Malformed as u32;
        }
        at += length[0] as u32;
        if at > ihl {
            return DropReason::Malformed as u32;
        }
        passed += 1;
    }
    0
}

/// Extension headers that are walked; more are refused, so that none hides the transport from a chain.
const EXTENSIONS_MAX: u32 = 6;

/// Hop-by-hop, routing, fragment, authentication, destination options (RFC 8200 section 4.1).
#[inline(always)]
fn is_extension(proto: u8) -> bool {
    proto == 0 || proto == 43 || proto == 44 || proto == 51 || proto == 60
}

/// Walks the extension headers to the transport. 0, or a [`DropReason`] as a number.
#[inline(always)]
fn extensions(skb: *mut __sk_buff, p: &mut Packet) -> u32 {
    let mut passed = 0;
    while passed < EXTENSIONS_MAX {
        if !is_extension(p.proto) {
            return 0;
        }
        let mut header = [0u8; 8];
        if !load(skb, p.l4, &mut header) {
            return DropReason::Malformed as u32;
        }
        let length = header[1] as u32;
        if p.proto == 43 && header[2] == 0 {
            return DropReason::SourceRoute as u32;
        }
        if p.proto == 44 {
            let fragment = be16(&header, 2);
            p.later_fragment = (fragment & 0xfff8 != 0) as u8;
            p.first_fragment = (fragment & 0xfff9 == 1) as u8;
            p.fragment_id = be32(&header, 4);
            p.l4 += 8;
        } else if p.proto == 51 {
            p.l4 += (length + 2) * 4;
        } else {
            p.l4 += (length + 1) * 8;
        }
        p.proto = header[0];
        if p.later_fragment != 0 {
            // What the fragment header names must be the transport, or nobody can tell which it is.
            return if is_extension(p.proto) {
                DropReason::Frag as u32
            } else if p.proto == PROTO_TCP && be16(&header, 2) >> 3 == OVER_PORTS {
                DropReason::Malformed as u32
            } else {
                0
            };
        }
        passed += 1;
    }
    if is_extension(p.proto) {
        DropReason::Malformed as u32
    } else {
        0
    }
}

/// A first fragment or packet too short for its transport header is refused (RFC 1858): what follows in
/// the frame is not part of it.
#[inline(always)]
fn transport(skb: *mut __sk_buff, p: &mut Packet, end: u32) -> u32 {
    let l4 = p.l4;
    let mut first = 0u64;
    if p.proto == PROTO_TCP {
        if end < l4 + 20 {
            return DropReason::Malformed as u32;
        }
        let mut room = Room::<20>::new();
        let Some(tcp) = room.load(skb, l4) else {
            return DropReason::Malformed as u32;
        };
        p.sport = be16(tcp, 0);
        p.dport = be16(tcp, 2);
        p.seq = be32(tcp, 4);
        p.tcp_flags = tcp[13];
        let data = l4 + ((tcp[12] >> 4) as u32) * 4;
        p.data = data as u16;
        p.payload = if p.len > ETH_LEN && end > data {
            end - data
        } else {
            0
        };
        first = be32(tcp, 8) as u64;
    } else if p.proto == PROTO_UDP {
        if end < l4 + 8 {
            return DropReason::Malformed as u32;
        }
        let mut room = Room::<8>::new();
        let Some(udp) = room.load(skb, l4) else {
            return DropReason::Malformed as u32;
        };
        p.data = (l4 + 8) as u16;
        p.sport = be16(udp, 0);
        p.dport = be16(udp, 2);
    } else if p.proto == PROTO_ICMP || p.proto == PROTO_ICMP6 {
        let mut icmp = [0u8; 8];
        if end < l4 + 8 || !load(skb, l4, &mut icmp) {
            return DropReason::Malformed as u32;
        }
        p.icmp_type = icmp[0];
        // A solicitation holds its target (RFC 4861 section 7.1.1).
        let least = l4 + 24;
        if p.ethertype == ETH_P_IPV6
            && p.proto == PROTO_ICMP6
            && icmp[0] == 135
            && (end < least || p.len < least)
        {
            return DropReason::Malformed as u32;
        }
        let echo = if p.proto == PROTO_ICMP {
            icmp[0] == 8 || icmp[0] == 0
        } else {
            icmp[0] == 128 || icmp[0] == 129
        };
        if echo {
            p.sport = be16(&icmp, 4);
            p.dport = p.sport;
        }
        first = be32(&icmp, 4) as u64 | ((icmp[0] as u64) << 32);
    }
    p.identity = first;
    0
}

/// A hash of what does not change on the way; without addresses' order it would confuse both directions.
/// Only who is told of packets asks for it.
#[inline(always)]
pub fn identify(skb: *mut __sk_buff, p: &mut Packet) {
    if p.proto == PROTO_UDP && p.data != 0 {
        let mut data = [0u8; 8];
        if load(skb, p.data as u32, &mut data) {
            p.identity = u64::from_ne_bytes(data);
        }
    }
    let mut h = mix(p.identity, half(&p.src, false));
    h = mix(h, half(&p.src, true));
    h = mix(h, half(&p.dst, false).rotate_left(17));
    h = mix(h, half(&p.dst, true).rotate_left(17));
    h = mix(
        h,
        ((p.sport as u64) << 48) | ((p.dport as u64) << 32) | p.seq as u64,
    );
    p.identity = mix(
        h,
        ((p.ip_id as u64) << 16) | ((p.tcp_flags as u64) << 8) | p.proto as u64,
    );
}

/// The same for both directions of a flow.
#[inline(always)]
pub fn symmetric_hash(p: &Packet) -> u32 {
    let lower = (half(&p.src, false) ^ half(&p.dst, false)).wrapping_add(
        half(&p.src, false)
            .wrapping_add(half(&p.dst, false))
            .rotate_left(7),
    );
    let upper = (half(&p.src, true) ^ half(&p.dst, true)).wrapping_add(
        half(&p.src, true)
            .wrapping_add(half(&p.dst, true))
            .rotate_left(7),
    );
    let ports = ((p.sport ^ p.dport) as u64) | ((p.sport as u64 + p.dport as u64) << 16);
    let h = mix(
        mix(mix(0x7765_6674, lower), upper),
        (ports << 8) | p.proto as u64,
    );
    (h >> 32) as u32 ^ h as u32
}
