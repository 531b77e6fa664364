//! An agent of the ABI before, then this one, under traffic: nothing is lost, and what packets left is kept. The programs of
//! the ABI before are checked in beside these (`cargo xtask bpf` keeps them when the version is raised).
//!
//! Tables are filled through this build's structs; where one has changed its shape since, these tests need the old one.

use std::fs;
use std::path::PathBuf;

use weft_ebpf_abi::*;

use super::bed::*;
use super::chain::{FORWARD, REVERSE, SENDER};
use super::memory::{acknowledged, move_slots, two_clients_of};
use super::renew::{Traffic, generations};
use super::wire::*;
use crate::datapath::{Build, MAPS};
use crate::programs::{FROM_CONTAINER, FROM_OVERLAY};
use crate::{Begun, Hook};

/// The build before this one.
fn before() -> Build {
    let abi = ABI_VERSION - 1;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join(format!("prebuilt/weft-abi{abi}.bpf.o"));
    let object: &'static [u8] = fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}: `cargo xtask bpf` keeps it", path.display()))
        .leak();
    let parsed = aya_obj::Object::parse(object).expect("an object");
    let maps = MAPS
        .into_iter()
        .filter(|name| parsed.maps.contains_key(*name));
    Build {
        object,
        abi,
        maps: maps.collect::<Vec<_>>().leak(),
    }
}

fn upgraded_under_traffic(hook: Hook) {
    let nodes = pair_of(hook, before());
    let traffic = Traffic::start(&nodes);
    for node in &nodes {
        traffic.flows();
        let id = node.id;
        // As an agent does that has not read its documents yet: the old programs forward.
        let (old, sent) = node.with(move |datapath| {
            let Begun::Migrated(shared) = datapath.begun() else {
                panic!("{:?}", datapath.begun());
            };
            assert!(shared.contains(&"flows") && shared.contains(&"port_stats"));
            assert!(!shared.contains(&"config"), "it says of which ABI it is");
            let seen = datapath.observe().expect("they are read");
            assert_eq!(seen, tables(id, index("w0")), "nothing is filled anew");
            (carried(datapath, hook), sent(datapath))
        });
        assert_eq!(generations(node), 2);
        traffic.flows();
        // One that is ended at once leaves no trace.
        assert!(node.agent_of(before()).join().expect("no panic"));
        assert!(!node.agent().join().expect("no panic"), "migrated");
        let (new, more) = node.with(move |datapath| {
            assert_eq!(*datapath.begun(), Begun::TakenOver);
            (carried(datapath, hook), self::sent(datapath))
        });
        assert!(new.iter().all(|id| !old.contains(id)), "{new:?} {old:?}");
        assert!(more > sent, "counted on: {sent}, {more}");
        assert_eq!(generations(node), 1, "the old one is gone");
    }
    traffic.end();
}

/// What port and tunnel carry.
fn carried(datapath: &crate::Datapath, hook: Hook) -> [Option<u32>; 2] {
    let links = datapath.links();
    let both = [("w0", FROM_CONTAINER), ("vxlan0", FROM_OVERLAY)];
    both.map(|(name, program)| {
        let id = hook.carried(&links, index(name), program);
        let id = id.expect("it is read");
        assert!(id.is_some(), "{name} has a program");
        id
    })
}

fn sent(datapath: &mut crate::Datapath) -> u64 {
    datapath.port_stats().expect("they are read")[&1].tx_packets
}

#[test]
fn an_upgrade_loses_no_packet_by_links() {
    upgraded_under_traffic(Hook::Tcx);
}

#[test]
fn an_upgrade_loses_no_packet_by_filters() {
    upgraded_under_traffic(Hook::Clsact);
}

#[test]
fn flows_of_chains_stay_with_their_instances_over_an_upgrade() {
    let mut bed = two_clients_of(before());
    let eth = (CLIENT_MAC, GATEWAY_MAC);
    let syn = tcp(eth, (CLIENT, REMOTE), (4000, 80));
    assert_eq!(bed.send(&syn).0.steer, FORWARD);
    let arriving = tcp((port_mac(9), steer_mac(42)), (REMOTE, CLIENT), (4001, 80));
    bed.arrive(&arriving, VNI, SENDER);
    let nowhere = tcp(
        eth,
        (CLIENT, std::net::Ipv4Addr::new(10, 10, 0, 77)),
        (4000, 22),
    );
    bed.send(&nowhere);
    bed.build = Build::own();
    bed.reopen();
    assert!(matches!(bed.datapath.begun(), Begun::Migrated(_)));
    bed.sync();
    move_slots(&mut bed, 80);
    assert_eq!(bed.send(&acknowledged(syn)).0.steer, FORWARD);
    let reply = tcp(eth, (CLIENT, REMOTE), (80, 4001));
    assert_eq!(bed.send(&acknowledged(reply)).0.steer, REVERSE);
    assert_eq!(bed.datapath.port_stats().unwrap()[&11].tx_packets, 4);
    assert_eq!(bed.datapath.drops().unwrap()[&DropReason::NoEndpoint], 1);
}

#[test]
fn nothing_is_read_of_what_is_older_still() {
    let older = Build {
        abi: ABI_VERSION - 2,
        ..before()
    };
    let mut bed = Bed::of(older);
    bed.build = Build::own();
    bed.reopen();
    assert_eq!(*bed.datapath.begun(), Begun::Anew);
    assert!(bed.datapath.observe().unwrap().ports.is_empty());
}
