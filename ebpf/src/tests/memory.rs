//! What each port has of its own: one port's flood leaves another's flows alone, a flow stays with its
//! instance, and what a port had goes with it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use weft_ebpf_abi::*;

use super::bed::*;
use super::chain::{BLOCK, FORWARD, REVERSE, SENDER, with_chain};
use crate::datapath::Build;

/// A second target of the hop's rule.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 6);

/// The other endpoint, entering where the client does.
fn other_port() -> Port {
    Port {
        port: 12,
        mac: OTHER_MAC,
        ..client_port()
    }
}

/// The loopback is the port of one endpoint or of the other. The first has the hop's rule for both.
fn two_clients() -> Bed {
    two_clients_of(Build::own())
}

pub(super) fn two_clients_of(build: Build) -> Bed {
    let mut bed = Bed::of(build);
    with_chain(&mut bed, 3);
    let key = |address| ClassKey {
        vni: VNI,
        addr: addr(address),
    };
    bed.tables.classes.insert(key(OTHER), 1);
    bed.tables.classes.insert(key(SECOND), 2);
    let other = bed.tables.endpoints.get_mut(&EndpointKey {
        vni: VNI,
        addr: addr(OTHER),
    });
    other.unwrap().ifindex = LO;
    // Both ports exist all the time; the loopback is entered as one of them.
    bed.tables.ports.insert(311, client_port());
    bed.sync();
    bed
}

pub(super) fn acknowledged(mut packet: Vec<u8>) -> Vec<u8> {
    packet[47] = 0x10; // ACK, no SYN: in the middle of a flow
    packet
}

/// Another instance serves all slots from now on.
pub(super) fn move_slots(bed: &mut Bed, block: u32) {
    let position = bed.tables.positions[&BLOCK];
    bed.tables.positions.insert(block, position);
    bed.tables.slots.values_mut().for_each(|slot| *slot = block);
    bed.sync();
}

#[test]
fn a_flood_on_one_port_evicts_no_flow_of_another() {
    let mut bed = two_clients();
    let eth = (CLIENT_MAC, GATEWAY_MAC);
    let first: Vec<Vec<u8>> = (0..500)
        .map(|i| tcp(eth, (CLIENT, REMOTE), (4000 + i, 80)))
        .collect();
    for packet in &first {
        assert_eq!(bed.send(packet).0.steer, FORWARD);
    }
    bed.enter_at(other_port());
    // More than any memory holds.
    for i in 0..FLOWS_PER_HOP + 8192 {
        let source = u16::try_from(1024 + i % 60_000).unwrap();
        let target = if i < 60_000 { REMOTE } else { SECOND };
        let packet = tcp((OTHER_MAC, GATEWAY_MAC), (OTHER, target), (source, 80));
        assert_eq!(bed.send(&packet).0.steer, FORWARD);
    }
    bed.enter_at(client_port());
    move_slots(&mut bed, 80);
    for packet in first {
        let (decision, _) = bed.send(&acknowledged(packet));
        assert_eq!(decision.steer, FORWARD, "the flow stays with its instance");
    }
    // A flow that nothing is known of takes the new one.
    let fresh = acknowledged(tcp(eth, (CLIENT, REMOTE), (3999, 80)));
    assert_eq!(bed.send(&fresh).0.steer, SteerFace::EnterForward.id(80));
}

#[test]
fn a_port_without_memory_steers_by_the_tables_and_is_counted() {
    let mut bed = two_clients();
    let syn = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, REMOTE), (4000, 80));
    assert_eq!(bed.send(&syn).0.steer, FORWARD);
    assert_eq!(bed.datapath.port_stats().unwrap()[&11].unremembered, 0);
    bed.forget(11);
    let packet = acknowledged(syn);
    assert_eq!(bed.send(&packet).0.steer, FORWARD);
    assert_eq!(bed.datapath.port_stats().unwrap()[&11].unremembered, 1);
    // The next sync makes it again.
    bed.sync();
    bed.send(&packet);
    assert_eq!(bed.datapath.port_stats().unwrap()[&11].unremembered, 1);
}

#[test]
fn what_a_port_has_is_made_and_removed_with_it() {
    let mut bed = Bed::new();
    assert!(bed.datapath.remembering().is_empty(), "no chain, no memory");
    let counted: BTreeMap<_, _> = bed.datapath.port_stats().unwrap();
    assert_eq!(counted.keys().copied().collect::<Vec<_>>(), [11, 12]);
    bed.tables.ports.insert(321, hop_port(21));
    with_chain(&mut bed, 1);
    assert_eq!(Vec::from_iter(bed.datapath.remembering()), [11, 12, 21]);
    bed.tables.ports.remove(&321);
    bed.tables.ports.remove(&312);
    bed.sync();
    assert_eq!(Vec::from_iter(bed.datapath.remembering()), [11]);
    assert_eq!(
        Vec::from_iter(bed.datapath.port_stats().unwrap().into_keys()),
        [11]
    );
    bed.tables.networks.get_mut(&VNI).unwrap().flags = 0;
    bed.sync();
    assert!(bed.datapath.remembering().is_empty());
    assert_eq!(bed.datapath.port_stats().unwrap().len(), 1);
}

#[test]
fn memory_and_counters_outlive_the_agent() {
    let mut bed = two_clients();
    let syn = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, REMOTE), (4000, 80));
    bed.send(&syn);
    let arriving = tcp((port_mac(9), steer_mac(42)), (REMOTE, CLIENT), (4001, 80));
    bed.arrive(&arriving, VNI, SENDER);
    bed.reopen();
    bed.sync();
    move_slots(&mut bed, 80);
    assert_eq!(bed.send(&acknowledged(syn)).0.steer, FORWARD);
    let reply = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, REMOTE), (80, 4001));
    assert_eq!(bed.send(&acknowledged(reply)).0.steer, REVERSE);
    assert_eq!(bed.datapath.port_stats().unwrap()[&11].tx_packets, 3);
}
