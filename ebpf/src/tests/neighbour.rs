//! IPv6: neighbour solicitations answered in place, delivery, and headers that hide the transport.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use weft_ebpf_abi::*;

use super::bed::*;

const SELF: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 11);
const PEER: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 12);
const AWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 7, 0, 1, 0, 0, 0, 5);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn bed() -> Bed {
    let mut bed = Bed::new();
    let network = bed.tables.networks.get_mut(&VNI).unwrap();
    network.net6 = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 0).octets();
    (network.len6, network.subnet_len6) = (48, 64);
    for (address, v4) in [(SELF, CLIENT), (PEER, OTHER)] {
        let v4 = EndpointKey {
            vni: VNI,
            addr: addr(v4),
        };
        let endpoint = bed.tables.endpoints[&v4];
        let v6 = EndpointKey {
            vni: VNI,
            addr: address.octets(),
        };
        bed.tables.endpoints.insert(v6, endpoint);
    }
    let away = SubnetKey {
        vni: VNI,
        addr: Ipv6Addr::new(0xfd00, 7, 0, 1, 0, 0, 0, 0).octets(),
    };
    bed.tables.subnets.insert(
        away,
        Subnet {
            node: 2,
            ..Subnet::default()
        },
    );
    bed.sync();
    bed
}

fn solicitation(from: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(target.octets());
    if !from.is_unspecified() {
        body.extend([1, 1]);
        body.extend(CLIENT_MAC);
    }
    let group = [0x33, 0x33, 0xff, 0, 0, 1];
    let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
    let mut packet = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, group)
        .ipv6(from.octets(), solicited.octets(), 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut packet, &body[4..])
        .unwrap();
    packet
}

fn segment(to: Ipv6Addr) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, GATEWAY_MAC)
        .ipv6(SELF.octets(), to.octets(), 64)
        .tcp(4000, 80, 1, 65535)
        .write(&mut packet, b"payload.")
        .unwrap();
    packet
}

#[test]
fn a_solicitation_is_answered_with_the_gateways_mac() {
    let mut bed = bed();
    for target in [GATEWAY, PEER, AWAY] {
        let (decision, out) = bed.send(&solicitation(SELF, target));
        assert_eq!((decision.action, decision.target), (ACTION_ANSWER, LO));
        assert_eq!(
            (&out[..6], &out[6..12]),
            (&CLIENT_MAC[..], &GATEWAY_MAC[..])
        );
        assert_eq!(out.len(), 14 + 40 + 32);
        let (ip, message) = (&out[14..54], &out[54..]);
        assert_eq!(ip[7], 255, "RFC 4861 section 7.1.2: hop limit 255");
        assert_eq!(
            (&ip[8..24], &ip[24..]),
            (&target.octets()[..], &SELF.octets()[..])
        );
        assert_eq!((message[0], message[4]), (136, 0xe0));
        assert_eq!(message[8..24], target.octets());
        assert_eq!(message[24..26], [2, 1]);
        assert_eq!(message[26..32], GATEWAY_MAC);
        assert_eq!(checksum(ip, message), 0xffff, "the checksum is right");
    }
}

/// The one's complement sum over pseudo header and message (RFC 4443 section 2.3).
fn checksum(ip: &[u8], message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let parts = [&ip[8..40], &length, &[0, 0, 0, 58], message];
    let mut sum: u32 = 0;
    for pair in parts.concat().chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn probes_for_duplicates_are_never_answered() {
    let mut bed = bed();
    let (decision, _) = bed.send(&solicitation(Ipv6Addr::UNSPECIFIED, SELF));
    assert_eq!(decision.action, ACTION_IGNORE);
    let (decision, _) = bed.send(&solicitation(PEER, GATEWAY));
    assert_eq!(decision.reason, DropReason::SpoofedAddress as u32);
}

#[test]
fn packets_are_delivered_as_in_ipv4() {
    let mut bed = bed();
    let (decision, out) = bed.send(&segment(PEER));
    assert_eq!((decision.action, decision.target), (ACTION_LOCAL, 312));
    assert_eq!(out[..6], OTHER_MAC);
    let (decision, _) = bed.send(&segment(AWAY));
    assert_eq!((decision.action, decision.target), (ACTION_TUNNEL, 2));
    for (to, reason) in [
        (
            Ipv6Addr::new(0xfd00, 7, 9, 9, 0, 0, 0, 9),
            DropReason::NoRoute,
        ),
        (
            Ipv6Addr::new(0xfd00, 7, 0, 9, 0, 0, 0, 9),
            DropReason::NoEndpoint,
        ),
        (GATEWAY, DropReason::GatewayService),
    ] {
        let (decision, _) = bed.send(&segment(to));
        assert_eq!(
            DropReason::from_number(decision.reason as u8),
            Some(reason),
            "{to}"
        );
    }
}

/// Puts `headers`, each eight bytes long, before the transport; each is of kind `kind`.
fn behind(kind: u8, headers: usize) -> Vec<u8> {
    let plain = segment(AWAY);
    let mut packet = plain[..54].to_vec();
    for i in 0..headers {
        let next = if i + 1 == headers { 6 } else { kind };
        packet.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    packet.extend(&plain[54..]);
    packet[20] = kind;
    let length = (packet.len() - 54) as u16;
    packet[18..20].copy_from_slice(&length.to_be_bytes());
    packet
}

#[test]
fn extension_headers_do_not_hide_the_transport_from_a_chain() {
    let mut bed = bed();
    with_rule(&mut bed);
    let plain = bed.send(&segment(AWAY)).0;
    assert_eq!((plain.target, plain.steer), (3, 40));
    for (kind, headers) in [(60, 1), (0, 1), (60, 6), (43, 2)] {
        let decision = bed.send(&behind(kind, headers)).0;
        assert_eq!(
            (decision.target, decision.steer),
            (3, 40),
            "{kind} x {headers}"
        );
    }
    let decision = bed.send(&behind(60, 7)).0;
    assert_eq!(decision.reason, DropReason::Malformed as u32);
}

#[test]
fn a_later_fragment_with_headers_of_its_own_is_dropped() {
    let mut bed = bed();
    with_rule(&mut bed);
    for named in [60, 6] {
        let mut packet = behind(44, 1);
        packet[54] = named;
        packet[56..58].copy_from_slice(&(64u16 << 3).to_be_bytes());
        let decision = bed.send(&packet).0;
        assert_eq!(decision.reason, DropReason::Frag as u32);
    }
}

/// One rule, tcp/80 to anybody in the far subnet, by the instance of block 40 on node 3.
fn with_rule(bed: &mut Bed) {
    let t = &mut bed.tables;
    t.networks.get_mut(&VNI).unwrap().flags = NETWORK_CHAINS;
    for (address, class) in [(SELF, 1), (AWAY, 2)] {
        let key = ClassKey {
            vni: VNI,
            addr: address.octets(),
        };
        t.classes.insert(key, class);
    }
    let mut rules = Rules {
        count: 1,
        ..Rules::default()
    };
    rules.rules[0] = Rule {
        stage: 100,
        port_lo: 80,
        port_hi: 80,
        proto: 6,
        ..Rule::default()
    };
    let pair = PairKey {
        vni: VNI,
        from: 1,
        to: 2,
    };
    t.pairs.insert(pair, rules);
    let stage = Stage {
        slots: 1,
        ..Stage::default()
    };
    t.stages.insert(100, stage);
    t.slots.insert(
        SlotKey {
            stage: 100,
            slot: 0,
        },
        40,
    );
    let position = Position {
        vni: VNI,
        node: 3,
        ..Position::default()
    };
    t.positions.insert(40, position);
    bed.sync();
}
