//! `kill` with `power`, and `start` of a node: a machine whose disk loses power, and its next life from that disk.

use std::time::Instant;

use weft_overlay::NodeName;

use super::subject::{Hurt, start_agent};
use super::{Attempt, wait};
use crate::cancel::Cancel;
use crate::engine::Running;
use crate::file::Condition;
use crate::journal::{Entry, Journal};
use crate::{disk, underlay};

/// The node has ended; its disk forgets what it had not written. The choice is by the lab's seed and the step.
pub(super) fn cut(running: &Running, name: &NodeName, step: usize) -> Attempt {
    let node = running.node(name.as_str()).ok_or("there is no such node")?;
    let seed = running.lab.seed.wrapping_add(step as u64);
    let cut = node.carrier.cut_power(seed).map_err(|e| e.to_string())?;
    Ok(lost(cut, running.lab.seed))
}

fn lost(cut: disk::Cut, seed: u64) -> String {
    let disk::Cut { unflushed, lost } = cut;
    format!("its disk lost {lost} of {unflushed} sectors that were not flushed (seed {seed})")
}

/// Boots a node that has ended, with its disk, and starts its agent as it was.
pub(super) fn start(
    running: &mut Running,
    hurt: &mut Hurt,
    name: &NodeName,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let index = running.nodes.iter().position(|n| n.name == name.as_str());
    let index = index.ok_or_else(|| judge(name, "there is no such node"))?;
    if running.nodes[index].carrier.keeper().is_alive() {
        return Err(judge(name, "it runs"));
    }
    boot(running, index).map_err(|error| judge(name, &error.to_string().replace('\n', "; ")))?;
    hurt.mended(name.as_str());
    start_agent(running, index)?;
    wait::until_holds(running, &Condition::Ready(name.clone()), deadline, cancel)
}

fn boot(running: &mut Running, index: usize) -> Result<(), crate::error::LabError> {
    let carrier = running.nodes[index].carrier.boot_again()?;
    let keeper = carrier.keeper();
    Journal::open(&running.place.journal())?.write(&Entry::Started {
        node: running.nodes[index].name.clone(),
        pid: keeper.pid,
        start: keeper.start,
    })?;
    running.nodes[index].carrier = carrier;
    underlay::configure_node(&running.nodes, &running.wires, index)
}

/// Why it does not run again.
fn judge(name: &NodeName, seen: &str) -> String {
    format!(
        "expected: node {name} does not run and boots from its disk; seen: {seen}; look at: weft lab inspect"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_and_what_does_not_start_are_told() {
        let cut = disk::Cut {
            unflushed: 9,
            lost: 4,
        };
        assert_eq!(
            lost(cut, 7),
            "its disk lost 4 of 9 sectors that were not flushed (seed 7)"
        );
        assert_eq!(
            judge(&"n1".parse().unwrap(), "it runs"),
            "expected: node n1 does not run and boots from its disk; seen: it runs; look at: weft lab inspect"
        );
    }
}
