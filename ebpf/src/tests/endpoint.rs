//! Ordinary endpoints: who may send what, and where it goes.

use std::net::Ipv4Addr;

use weft_ebpf_abi::*;

use super::bed::*;

fn dropped(decision: Decision, reason: DropReason) {
    assert_eq!(
        (
            decision.action,
            DropReason::from_number(decision.reason as u8)
        ),
        (ACTION_DROP, Some(reason))
    );
}

#[test]
fn a_neighbour_on_the_node_gets_the_packet_with_its_own_mac() {
    let mut bed = Bed::new();
    let packet = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, OTHER), (4000, 80));
    let (decision, out) = bed.send(&packet);
    assert_eq!(
        (decision.action, decision.target, decision.vni),
        (ACTION_LOCAL, 312, VNI)
    );
    assert_eq!(out[..6], OTHER_MAC);
    assert_eq!(out[6..12], GATEWAY_MAC);
    assert_eq!(out[12..], packet[12..], "only Ethernet is rewritten");
}

#[test]
fn another_nodes_subnet_goes_over_the_tunnel_unchanged() {
    let mut bed = Bed::new();
    let packet = udp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, REMOTE), (4000, 53));
    let (decision, out) = bed.send(&packet);
    assert_eq!(
        (decision.action, decision.target, decision.vni),
        (ACTION_TUNNEL, 2, VNI)
    );
    assert_eq!(out, packet);
}

#[test]
fn what_cannot_be_delivered_is_dropped_with_its_reason() {
    let mut bed = Bed::new();
    let eth = (CLIENT_MAC, GATEWAY_MAC);
    let to = |a, b, c, d| tcp(eth, (CLIENT, Ipv4Addr::new(a, b, c, d)), (1, 80));
    for (packet, reason) in [
        (to(10, 10, 99, 9), DropReason::NoEndpoint),
        (to(10, 10, 0, 60), DropReason::NoEndpoint),
        (to(10, 10, 0, 1), DropReason::GatewayService),
        (to(192, 0, 2, 12), DropReason::NodeAddress),
        (to(8, 8, 8, 8), DropReason::NoRoute),
    ] {
        let (decision, _) = bed.send(&packet);
        dropped(decision, reason);
    }
    let drops = bed.datapath.drops().unwrap();
    assert_eq!(drops[&DropReason::NoEndpoint], 2, "and it is counted");
    assert_eq!(bed.datapath.port_stats().unwrap()[&11].drops, 5);
}

#[test]
fn a_forged_sender_is_dropped() {
    let mut bed = Bed::new();
    let (decision, _) = bed.send(&tcp((OTHER_MAC, GATEWAY_MAC), (CLIENT, OTHER), (1, 80)));
    dropped(decision, DropReason::SpoofedMac);
    let (decision, _) = bed.send(&tcp((CLIENT_MAC, GATEWAY_MAC), (OTHER, REMOTE), (1, 80)));
    dropped(decision, DropReason::SpoofedAddress);
    let (decision, _) = bed.send(&tcp((CLIENT_MAC, OTHER_MAC), (CLIENT, OTHER), (1, 80)));
    dropped(decision, DropReason::ForeignMac);
    let (decision, _) = bed.send(&tcp((CLIENT_MAC, [0xff; 6]), (CLIENT, OTHER), (1, 80)));
    dropped(decision, DropReason::Multicast);
    // A container cannot step into a chain by writing a steering address itself.
    let forged = tcp((CLIENT_MAC, steer_mac(40)), (CLIENT, OTHER), (1, 80));
    dropped(bed.send(&forged).0, DropReason::ForeignMac);
}

#[test]
fn short_and_foreign_frames_are_dropped() {
    let mut bed = Bed::new();
    let whole = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, OTHER), (1, 80));
    for cut in [40, 53] {
        dropped(bed.send(&whole[..cut]).0, DropReason::Malformed);
    }
    let mut lldp = whole.clone();
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    dropped(bed.send(&lldp).0, DropReason::UnsupportedProtocol);
    bed.tables.ports.remove(&LO);
    bed.sync();
    dropped(bed.send(&whole).0, DropReason::UnknownPort);
}

fn arp(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend([0xff; 6]);
    frame.extend(CLIENT_MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(CLIENT_MAC);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

#[test]
fn arp_is_answered_with_the_gateways_mac_but_probes_never() {
    let mut bed = Bed::new();
    let (decision, out) = bed.send(&arp(CLIENT, Ipv4Addr::new(10, 10, 77, 7)));
    assert_eq!((decision.action, decision.target), (ACTION_ANSWER, LO));
    let mut expected = Vec::new();
    expected.extend(CLIENT_MAC);
    expected.extend(GATEWAY_MAC);
    expected.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    expected.extend(GATEWAY_MAC);
    expected.extend([10, 10, 77, 7]);
    expected.extend(CLIENT_MAC);
    expected.extend(CLIENT.octets());
    assert_eq!(out, expected);
    for (sender, target) in [(Ipv4Addr::UNSPECIFIED, CLIENT), (CLIENT, CLIENT)] {
        assert_eq!(bed.send(&arp(sender, target)).0.action, ACTION_IGNORE);
    }
    dropped(bed.send(&arp(OTHER, CLIENT)).0, DropReason::SpoofedAddress);
    dropped(
        bed.send(&arp(CLIENT, Ipv4Addr::new(8, 8, 8, 8))).0,
        DropReason::NoRoute,
    );
}
