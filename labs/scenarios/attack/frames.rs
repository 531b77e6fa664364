//! Frames by their bytes, as no honest sender makes them. Without checksums: nobody may get so far as to look.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A MAC address.
pub type Mac = [u8; 6];

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;
/// Customer tag (IEEE 802.1Q) and service tag (802.1ad).
pub const TAG: u16 = 0x8100;
pub const SERVICE_TAG: u16 = 0x88a8;
pub const LLDP: u16 = 0x88cc;

pub const ICMP: u8 = 1;
pub const IPIP: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP6: u8 = 58;

pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// RFC 791 section 3.1. Options in whole words; `fragment` holds flags and offset.
pub fn ipv4(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let words = 5 + options.len() / 4;
    let total = (words * 4 + payload.len()) as u16;
    let mut packet = vec![0x40 | words as u8, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(options);
    packet.extend(payload);
    packet
}

/// RFC 8200 section 3; the payload begins with any extension headers, the first of which is `next`.
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// RFC 768.
pub fn udp(port: u16, words: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x30, 0x39];
    datagram.extend(port.to_be_bytes());
    datagram.extend((8 + words.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(words);
    datagram
}

/// A SYN (RFC 9293 section 3.1).
pub fn syn(port: u16, words: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x30, 0x39];
    segment.extend(port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(words);
    segment
}

/// RFC 826; operation 1 asks, 2 answers.
pub fn arp(operation: u8, mac: Mac, sender: Ipv4Addr, target: Ipv4Addr, words: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend(mac);
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    packet.extend(words);
    packet
}

/// A message of neighbour discovery about `target`, with the sender's link-layer address (RFC 4861 sections 4.3, 4.4).
pub fn neighbour(kind: u8, target: Ipv6Addr, mac: Mac, words: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0xe0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([if kind == 135 { 1 } else { 2 }, 1]);
    message.extend(mac);
    message.extend(words);
    message
}

/// RFC 7348 section 5, around a datagram to `to` in another network.
pub fn vxlan(vni: u32, to: IpAddr, words: &[u8]) -> Vec<u8> {
    let mut inner = vec![8, 0, 0, 0];
    inner.extend(&vni.to_be_bytes()[1..]);
    inner.push(0);
    let (kind, packet) = match to {
        IpAddr::V4(to) => {
            let from = Ipv4Addr::new(10, 10, 200, 1);
            (IPV4, ipv4(from, to, UDP, 0, &[], &udp(9000, words)))
        }
        IpAddr::V6(to) => (IPV6, ipv6(to, to, UDP, &udp(9000, words))),
    };
    let (to, from) = ([0x0a, 0x58, 0, 0, 0, 1], [0x0a, 0x58, 0, 0, 0, 2]);
    inner.extend(ethernet(to, from, kind, &packet));
    udp(4789, &inner)
}
