//! Drops by network: what is of a network that is here is its, everything else is the node's.

use std::net::Ipv4Addr;

use weft_ebpf_abi::*;

use super::bed::*;

const NODE_2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);

fn key(vni: u32, reason: DropReason) -> DropKey {
    DropKey {
        vni,
        reason: reason as u32,
    }
}

#[test]
fn drops_are_counted_by_network_and_those_of_none_as_the_nodes() {
    let mut bed = Bed::new();
    let there = tcp(
        (CLIENT_MAC, GATEWAY_MAC),
        (CLIENT, Ipv4Addr::new(10, 10, 0, 77)),
        (4000, 80),
    );
    let forged = tcp((OTHER_MAC, GATEWAY_MAC), (CLIENT, OTHER), (4000, 80));
    let arriving = tcp((OTHER_MAC, GATEWAY_MAC), (REMOTE, OTHER), (4000, 80));
    for _ in 0..3 {
        bed.send(&there);
    }
    bed.send(&forged);
    bed.arrive(&arriving, VNI, STRANGER);
    // Networks that are not here get no counter, however many are named.
    for vni in 100..150 {
        bed.arrive(&arriving, vni, NODE_2);
    }
    let counts = bed.datapath.network_drops().unwrap();
    let expected = [
        (key(0, DropReason::UnknownVtep), 1),
        (key(0, DropReason::UnknownVni), 50),
        (key(VNI, DropReason::SpoofedMac), 1),
        (key(VNI, DropReason::NoEndpoint), 3),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
    let all: u64 = bed.datapath.drops().unwrap().values().sum();
    assert_eq!(all, 55);
}

#[test]
fn a_network_that_goes_takes_its_counts_along_but_not_the_totals() {
    let mut bed = Bed::new();
    let nowhere = tcp(
        (CLIENT_MAC, GATEWAY_MAC),
        (CLIENT, Ipv4Addr::new(10, 10, 0, 77)),
        (4000, 80),
    );
    bed.send(&nowhere);
    assert_eq!(bed.datapath.network_drops().unwrap().len(), 1);
    bed.tables.networks.remove(&VNI);
    bed.sync();
    assert!(bed.datapath.network_drops().unwrap().is_empty());
    assert_eq!(bed.datapath.drops().unwrap()[&DropReason::NoEndpoint], 1);
}
