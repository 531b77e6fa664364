//! The keeper: differences, take-over, repair, events, and that the checked-in object is the sources'.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use weft_ebpf_abi::*;

use super::bed::*;
use crate::{Begun, SyncReport};

#[test]
fn a_sync_changes_only_what_differs_and_repairs_what_somebody_deleted() {
    let mut bed = Bed::new();
    assert_eq!(bed.datapath.sync(&bed.tables).unwrap(), SyncReport::NOTHING);
    assert_eq!(bed.datapath.observe().unwrap(), bed.tables);
    let mut damaged = bed.tables.clone();
    damaged.endpoints.remove(&EndpointKey {
        vni: VNI,
        addr: addr(OTHER),
    });
    damaged.nodes.get_mut(&2).unwrap().mtu = 9;
    damaged.subnets.insert(
        SubnetKey {
            vni: 99,
            addr: [0; 16],
        },
        Subnet {
            node: 3,
            ..Subnet::default()
        },
    );
    bed.datapath.sync(&damaged).unwrap();
    let report = bed.datapath.sync(&bed.tables).unwrap();
    assert_eq!(
        report,
        SyncReport {
            inserted: 1,
            updated: 1,
            deleted: 1
        }
    );
    assert_eq!(bed.datapath.observe().unwrap(), bed.tables);
}

#[test]
fn prefixes_are_kept_too() {
    let mut bed = Bed::new();
    let key = ClassCidrKey {
        vni_be: VNI.to_be_bytes(),
        addr: mapped([10, 10, 0, 0]),
    };
    bed.tables.class_cidrs.insert((32 + 96 + 16, key), 5);
    bed.sync();
    assert_eq!(bed.datapath.observe().unwrap(), bed.tables);
    bed.tables.class_cidrs.clear();
    bed.sync();
    assert!(bed.datapath.observe().unwrap().class_cidrs.is_empty());
}

#[test]
fn a_restarted_agent_takes_the_maps_over_with_what_they_hold() {
    let mut bed = Bed::new();
    let packet = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, OTHER), (4000, 80));
    bed.send(&packet);
    bed.reopen();
    assert_eq!(*bed.datapath.begun(), Begun::TakenOver);
    assert_eq!(bed.datapath.observe().unwrap(), bed.tables);
    assert_eq!(bed.datapath.port_stats().unwrap()[&11].tx_packets, 1);
}

#[test]
fn maps_of_another_abi_are_made_anew() {
    let mut bed = Bed::new();
    let mut config = bed.datapath.array::<NodeConfig>("config").unwrap();
    config
        .set(
            0,
            crate::pods::P(NodeConfig {
                abi: ABI_VERSION + 1,
                ..NodeConfig::default()
            }),
            0,
        )
        .unwrap();
    bed.reopen();
    assert_eq!(*bed.datapath.begun(), Begun::Anew);
    assert!(bed.datapath.observe().unwrap().ports.is_empty());
}

#[tokio::test]
async fn only_packets_that_the_filter_chooses_are_told() {
    let mut bed = Bed::new();
    let mut events = bed.datapath.events().unwrap();
    let eth = (CLIENT_MAC, GATEWAY_MAC);
    bed.send(&tcp(eth, (CLIENT, OTHER), (4000, 80)));
    let filter = TraceFilter {
        mode: 1,
        vni: VNI,
        b: addr(OTHER),
        port: 80,
        proto: 6,
        ..TraceFilter::default()
    };
    bed.datapath.set_trace_filter(filter).unwrap();
    bed.send(&tcp(eth, (CLIENT, OTHER), (4000, 81)));
    bed.send(&tcp(eth, (CLIENT, REMOTE), (4000, 80)));
    bed.send(&tcp(eth, (CLIENT, OTHER), (4001, 80)));
    let mut points = Vec::new();
    for _ in 0..2 {
        let event = tokio::time::timeout(Duration::from_secs(5), events.next())
            .await
            .expect("an event comes")
            .unwrap();
        assert_eq!(
            (event.sport, event.dport, event.src),
            (4001, 80, addr(CLIENT))
        );
        points.push(TracePoint::from_number(event.point).unwrap());
    }
    assert_eq!(points, [TracePoint::FromContainer, TracePoint::ToContainer]);
    assert!(events.take().is_none());
}

/// Runs without the BPF toolchain: the manifest names every source with its hash.
#[test]
fn the_checked_in_object_is_built_from_these_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("prebuilt/manifest.json")).expect("the manifest");
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let hash = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let mut sources = Vec::new();
    for dir in ["abi/src", "programs/src"] {
        for entry in std::fs::read_dir(root.join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            sources.push(format!("{dir}/{name}"));
        }
    }
    sources.extend([
        "programs/Cargo.toml".to_owned(),
        "programs/Cargo.lock".to_owned(),
    ]);
    sources.sort();
    let listed = manifest["sources"].as_object().expect("sources");
    assert_eq!(
        listed.keys().cloned().collect::<Vec<_>>(),
        sources,
        "run `cargo xtask bpf`"
    );
    for source in &sources {
        assert_eq!(
            listed[source],
            hash(&root.join(source)),
            "{source} changed: run `cargo xtask bpf`"
        );
    }
    assert_eq!(
        manifest["object"],
        hash(&root.join("prebuilt/weft.bpf.o")),
        "run `cargo xtask bpf`"
    );
}
