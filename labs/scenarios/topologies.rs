//! Every topology that ships passes as a whole, by its name and as it is. `main_job` does the same with two-tenants.

use std::process::Command;

use crate::lab::{machine, text, unique, weft};

/// Those that another file runs.
const ELSEWHERE: [&str; 1] = ["two-tenants"];
/// Those that are run here, each by a test of its own.
const HERE: [&str; 5] = [
    "chain-across-three-nodes",
    "dual-stack",
    "ring-of-five",
    "store-on-etcd",
    "two-vms-one-chain",
];

#[test]
fn each_topology_that_ships_has_a_scenario() {
    for name in weft_labs::builtin_names() {
        assert!(HERE.contains(&name) || ELSEWHERE.contains(&name), "{name}");
    }
}

/// All its steps pass, and there were some.
fn passes(topology: &str) -> String {
    let _machine = machine();
    let output = Command::new(weft())
        .args(["lab", "run", topology, "--name", &unique("shipped")])
        .output()
        .expect("run weft");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("  pass  "), "{said}");
    said
}

#[test]
fn a_chain_goes_from_node_to_node_and_comes_back_after_its_hop_was_killed() {
    let said = passes("chain-across-three-nodes");
    for way in ["in_to_out", "out_to_in"] {
        let (_, counted) = said
            .split_once(&format!("\"forwarded_{way}\":"))
            .unwrap_or_else(|| panic!("{way}: {said}"));
        assert!(!counted.starts_with("0,"), "{way}: {said}");
    }
}

#[test]
fn two_tenants_reach_their_own_and_not_each_other_over_both_families() {
    passes("dual-stack");
}

#[test]
fn a_ring_survives_one_cut_and_heals_after_two() {
    passes("ring-of-five");
}

/// Needs `etcd` (package etcd-server).
#[test]
fn agents_live_on_a_real_etcd_that_loses_a_member() {
    passes("store-on-etcd");
}

#[test]
fn two_virtual_machines_share_a_chain() {
    passes("two-vms-one-chain");
}
