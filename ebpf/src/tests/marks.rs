//! Priority and time to live between packet and tunnel: kept apart, or one.

use std::net::Ipv4Addr;

use etherparse::{Ipv4HeaderSlice, PacketBuilder};
use weft_ebpf_abi::*;

use super::bed::*;
use crate::judge::Entry;

const NODE_2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
/// Expedited forwarding (RFC 3246) and ECT(0).
const CLASS: u8 = 46 << 2 | 2;
/// What the underlay made of it: class selector 1 (RFC 2474 section 4.2.2), and a mark that is the kernel's to combine.
const REMARKED: u8 = 8 << 2 | 1;
const UNIFORM: u32 = NETWORK_DSCP_UNIFORM | NETWORK_TTL_UNIFORM;

fn bed(flags: u32) -> Bed {
    let mut bed = Bed::new();
    let network = bed.tables.networks.get_mut(&VNI).expect("the bed has it");
    network.flags = flags;
    let entry = Endpoint {
        node: 1,
        ifindex: 312,
        port: 12,
        mac: OTHER_MAC,
        flags: 0,
    };
    let addr = FAR6;
    bed.tables
        .endpoints
        .insert(EndpointKey { vni: VNI, addr }, entry);
    bed.sync();
    bed
}

const FAR6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];

fn marked(macs: ([u8; 6], [u8; 6]), ip: (Ipv4Addr, Ipv4Addr)) -> Vec<u8> {
    let mut packet = udp(macs, ip, (4000, 53));
    packet[15] = CLASS;
    packet[22] = 17;
    let header = Ipv4HeaderSlice::from_slice(&packet[14..]).expect("an IPv4 header");
    let sum = header.to_header().calc_header_checksum();
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn outer(bed: &mut Bed, packet: &[u8]) -> [u8; 2] {
    let entry = Entry {
        ifindex: LO,
        ..Entry::default()
    };
    bed.datapath.outer(packet, entry)
}

fn arrive(bed: &mut Bed, packet: &[u8], [class, ttl]: [u8; 2]) -> Vec<u8> {
    let entry = Entry {
        ifindex: LO,
        mark: VNI,
        cb0: u32::from(NODE_2),
        outer: u32::from(class) | u32::from(ttl) << 8,
        ..Entry::default()
    };
    let (decision, out) = bed.datapath.judge("from_overlay_test", packet, entry);
    assert_eq!((decision.action, decision.target), (ACTION_LOCAL, 312));
    out
}

#[test]
fn the_outer_header_says_what_the_network_wants() {
    let packet = marked((CLIENT_MAC, GATEWAY_MAC), (CLIENT, REMOTE));
    for (flags, expected) in [
        (0, [0, 64]),
        (NETWORK_DSCP_UNIFORM, [46 << 2, 64]),
        (NETWORK_TTL_UNIFORM, [0, 17]),
        (UNIFORM, [46 << 2, 17]),
    ] {
        let mut bed = bed(flags);
        bed.enter_at(client_port());
        assert_eq!(outer(&mut bed, &packet), expected, "flags {flags}");
    }
}

#[test]
fn what_the_underlay_made_of_it_reaches_the_endpoint_of_a_uniform_network() {
    let packet = marked((OTHER_MAC, GATEWAY_MAC), (REMOTE, OTHER));
    for (flags, ttl, expected) in [
        (0, 9, [CLASS, 17]),
        (NETWORK_DSCP_UNIFORM, 9, [8 << 2 | 2, 17]),
        (NETWORK_TTL_UNIFORM, 9, [CLASS, 9]),
        // Never longer.
        (UNIFORM, 200, [8 << 2 | 2, 17]),
        (UNIFORM, 9, [8 << 2 | 2, 9]),
    ] {
        let out = arrive(&mut bed(flags), &packet, [REMARKED, ttl]);
        assert_eq!([out[15], out[22]], expected, "flags {flags}");
        let header = Ipv4HeaderSlice::from_slice(&out[14..]).expect("an IPv4 header");
        let sum = header.to_header().calc_header_checksum();
        assert_eq!(header.header_checksum(), sum, "flags {flags}");
        assert_eq!(out[26..], packet[26..], "nothing else is touched");
    }
}

#[test]
fn the_same_of_ipv6_leaves_version_and_flow_label_alone() {
    let mut packet = Vec::new();
    PacketBuilder::ethernet2(OTHER_MAC, GATEWAY_MAC)
        .ipv6([0xfd; 16], FAR6, 17)
        .udp(4000, 53)
        .write(&mut packet, b"payload.")
        .expect("it fits");
    packet[14..18].copy_from_slice(&[0x60 | CLASS >> 4, CLASS << 4 | 0x0a, 0xbc, 0xde]);
    let out = arrive(&mut bed(UNIFORM), &packet, [REMARKED, 9]);
    let class = 8 << 2 | 2;
    assert_eq!(
        out[14..18],
        [0x60 | class >> 4, class << 4 | 0x0a, 0xbc, 0xde]
    );
    assert_eq!(out[21], 9);
    assert_eq!(out[18..21], packet[18..21]);
    assert_eq!(out[22..], packet[22..]);
}
