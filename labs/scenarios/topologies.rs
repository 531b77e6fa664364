//! Every topology that ships passes as a whole, by its name and as it is. `main_job` does the same with two-tenants.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use weft_labs::machine::{Kernel, cache};

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
    passes_by(Command::new(weft()), topology)
}

fn passes_by(mut weft: Command, topology: &str) -> String {
    let output = weft
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

/// Somebody without any privilege, and without a name on this machine.
const NOBODY_IN_PARTICULAR: u32 = 47_110;

/// Machines are programs like others: they need no root.
#[test]
fn two_virtual_machines_of_an_ordinary_user_share_a_chain() {
    let _machine = machine();
    Kernel::find("auto", &|_| {}).unwrap_or_else(|e| panic!("{e}"));
    // A home with the binary and the kernel, which may be where only root looks.
    let home = tempfile::tempdir().expect("a home");
    let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(at("weft")).expect("a cache");
    let kernels = cache().join("kernels").to_str().unwrap().to_owned();
    run("cp", &["-r", &kernels, &at("weft")]);
    run("cp", &[weft().to_str().unwrap(), &at("program")]);
    run("chown", &["-R", &NOBODY_IN_PARTICULAR.to_string(), &at("")]);
    let mut command = Command::new(at("program"));
    command
        .uid(NOBODY_IN_PARTICULAR)
        .gid(NOBODY_IN_PARTICULAR)
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("XDG_CACHE_HOME", home.path())
        .env_remove("XDG_STATE_HOME");
    passes_by(command, "two-vms-one-chain");
    let labs = Path::new(&at(".local/state/weft")).exists();
    assert!(
        !labs,
        "its folder is where a user's state is, and gone with the lab"
    );
    assert!(Path::new(&at(".local/state")).exists());
}

fn run(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status().expect(program);
    assert!(status.success(), "{program} {words:?}");
}
