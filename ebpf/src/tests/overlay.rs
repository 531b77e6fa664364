//! What comes out of the tunnel: only from nodes, only for this node, only of networks that are here.

use std::net::Ipv4Addr;

use weft_ebpf_abi::*;

use super::bed::*;

const NODE_2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);

#[test]
fn a_plain_packet_is_delivered_with_the_endpoints_mac() {
    let mut bed = Bed::new();
    let packet = tcp((OTHER_MAC, GATEWAY_MAC), (REMOTE, OTHER), (4000, 80));
    let (decision, out) = bed.arrive(&packet, VNI, NODE_2);
    assert_eq!(
        (decision.action, decision.target, decision.vni),
        (ACTION_LOCAL, 312, VNI)
    );
    assert_eq!((&out[..6], &out[6..12]), (&OTHER_MAC[..], &GATEWAY_MAC[..]));
}

#[test]
fn strangers_foreign_networks_and_foreign_addresses_are_dropped() {
    let mut bed = Bed::new();
    let packet = tcp((OTHER_MAC, GATEWAY_MAC), (REMOTE, OTHER), (4000, 80));
    let stranger = Ipv4Addr::new(192, 0, 2, 99);
    let elsewhere = tcp((OTHER_MAC, GATEWAY_MAC), (OTHER, REMOTE), (4000, 80));
    let position = tcp((port_mac(3), steer_mac(80)), (REMOTE, OTHER), (4000, 80));
    for (packet, vni, sender, reason) in [
        (&packet, VNI, stranger, DropReason::UnknownVtep),
        (&packet, 8, NODE_2, DropReason::UnknownVni),
        (&elsewhere, VNI, NODE_2, DropReason::NoEndpoint),
        (&position, VNI, NODE_2, DropReason::UnknownSteer),
    ] {
        let (decision, _) = bed.arrive(packet, vni, sender);
        assert_eq!(DropReason::from_number(decision.reason as u8), Some(reason));
    }
}

#[test]
fn equal_addresses_in_two_networks_never_meet() {
    let mut bed = Bed::new();
    let blue = 8;
    let network = bed.tables.networks[&VNI];
    bed.tables.networks.insert(blue, network);
    let other = Endpoint {
        node: 1,
        ifindex: 412,
        port: 33,
        mac: [2; 6],
        flags: 0,
    };
    bed.tables.endpoints.insert(
        EndpointKey {
            vni: blue,
            addr: addr(OTHER),
        },
        other,
    );
    bed.sync();
    let packet = tcp((OTHER_MAC, GATEWAY_MAC), (REMOTE, OTHER), (4000, 80));
    assert_eq!(bed.arrive(&packet, VNI, NODE_2).0.target, 312);
    assert_eq!(bed.arrive(&packet, blue, NODE_2).0.target, 412);
}
