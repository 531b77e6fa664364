//! The same benchmark inside a virtual machine, so on the kernel that labs boot: the binary that measures and the one
//! that is measured go into a machine of a lab, and a lab of namespaces comes up in there.
//!
//! A machine has one processor, and without acceleration it is slow, so ratios are what its figures are good for.

use std::path::Path;

use anyhow::Context;

use crate::cluster::Cluster;

const LAB: &str = include_str!("machine.toml");
const NODE: &str = "n1";
/// On the machine's root, which holds what runs there.
const FOLDER: &str = "/tmp";

/// Runs `overlay` for one processor in a machine; its table or lines go to standard output. Whether all goals are met.
pub fn overlay(weft: &Path, quick: bool, json: bool) -> anyhow::Result<bool> {
    let cluster = Cluster::up(weft, LAB)?;
    let own = std::env::current_exe().context("the path of this program")?;
    for (file, name) in [(own.as_path(), "weft-bench"), (weft, "weft")] {
        cluster.copy(file, NODE, &format!("{FOLDER}/{name}"))?;
    }
    let program = format!("{FOLDER}/weft-bench");
    let mut line = vec![program.as_str(), "overlay", "--one-processor"];
    line.extend(quick.then_some("--quick"));
    line.extend(json.then_some("--json"));
    cluster.show(NODE, &line)
}
