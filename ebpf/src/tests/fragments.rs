//! Fragments of one packet stay together: a later one has no ports, so it goes where its first went.

use weft_ebpf_abi::*;

use super::bed::*;
use super::chain::{BLOCK, FORWARD, with_chain};

const ETH: ([u8; 6], [u8; 6]) = (CLIENT_MAC, GATEWAY_MAC);
const FRAG: u32 = DropReason::Frag as u32;

/// The fragments of a packet: the first, with ports, and one that follows.
fn fragments(ports: (u16, u16), id: u16) -> [Vec<u8>; 2] {
    let mut first = tcp(ETH, (CLIENT, REMOTE), ports);
    first[18..20].copy_from_slice(&id.to_be_bytes());
    let mut later = first.clone();
    first[20..22].copy_from_slice(&0x2000u16.to_be_bytes());
    later[20..22].copy_from_slice(&100u16.to_be_bytes());
    [first, later]
}

/// The hop is elsewhere; every slot leads to it.
fn bed() -> Bed {
    let mut bed = Bed::new();
    with_chain(&mut bed, 3);
    bed
}

#[test]
fn a_later_fragment_never_slips_past_a_chain() {
    let mut bed = bed();
    let [first, later] = fragments((4000, 80), 1);
    assert_eq!(bed.send(&later).0.reason, FRAG, "its first was not seen");
    assert_eq!(bed.send(&first).0.steer, FORWARD);
    assert_eq!(bed.send(&later).0.steer, FORWARD);
    let [_, other] = fragments((4000, 80), 2);
    assert_eq!(bed.send(&other).0.reason, FRAG, "of another packet");
}

#[test]
fn fragments_of_what_no_rule_selects_go_by_no_hop() {
    let mut bed = bed();
    let [first, later] = fragments((4000, 81), 1);
    assert_eq!(bed.send(&first).0.action, ACTION_TUNNEL);
    let (decision, _) = bed.send(&later);
    assert_eq!((decision.action, decision.steer), (ACTION_TUNNEL, 0));
    // Of endpoints that no chain joins they need no first.
    bed.tables.pairs.clear();
    bed.sync();
    let [_, alone] = fragments((4000, 80), 9);
    assert_eq!(bed.send(&alone).0.action, ACTION_TUNNEL);
}

/// A rule for every port of every protocol could be decided without ports, but not which instance.
#[test]
fn all_fragments_of_a_packet_take_one_instance() {
    let mut bed = bed();
    let position = bed.tables.positions[&BLOCK];
    bed.tables.positions.insert(80, position);
    for (key, block) in &mut bed.tables.slots {
        *block = if key.slot % 2 == 0 { BLOCK } else { 80 };
    }
    for rules in bed.tables.pairs.values_mut() {
        (
            rules.rules[0].port_lo,
            rules.rules[0].port_hi,
            rules.rules[0].proto,
        ) = (0, 65535, 0);
    }
    bed.sync();
    let mut taken = std::collections::BTreeSet::new();
    for i in 0..40 {
        let [first, later] = fragments((4000 + i, 80), i);
        assert_eq!(bed.send(&later).0.reason, FRAG);
        let steer = bed.send(&first).0.steer;
        assert_eq!(bed.send(&later).0.steer, steer);
        taken.insert(steer);
    }
    assert_eq!(taken.len(), 2, "both instances serve");
}

#[test]
fn fragments_stay_together_between_two_hops() {
    let mut bed = bed();
    // After the hop that is left comes stage 100, with the hop elsewhere.
    let there = bed.tables.positions[&BLOCK];
    let here = Position {
        node: 1,
        in_ifindex: 321,
        out_ifindex: LO,
        next_forward: 100,
        ..there
    };
    bed.tables.positions.insert(80, here);
    bed.enter_at(hop_port(22));
    let left = SteerFace::EnterForward.id(80);
    let [first, later] = fragments((4000, 80), 1).map(|mut packet| {
        packet[..6].copy_from_slice(&steer_mac(left));
        packet[6..12].copy_from_slice(&port_mac(11));
        packet
    });
    assert_eq!(bed.send(&later).0.reason, FRAG);
    assert_eq!(bed.send(&first).0.steer, FORWARD);
    assert_eq!(bed.send(&later).0.steer, FORWARD);
    // All that is left is passed by: the later ones are, too.
    let [first, later] = [first, later].map(|mut packet| {
        packet[18..20].copy_from_slice(&7u16.to_be_bytes());
        packet[34..36].copy_from_slice(&4001u16.to_be_bytes());
        packet
    });
    let stage = bed.tables.stages.get_mut(&100).unwrap();
    (stage.slots, stage.flags) = (0, STAGE_BYPASS);
    bed.sync();
    let end = SteerFace::EndForward.id(80);
    assert_eq!(bed.send(&first).0.steer, end);
    assert_eq!(bed.send(&later).0.steer, end);
}
