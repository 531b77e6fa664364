//! The `weft node run` of each host: started and waited for.
//!
//! Owns: the arguments of a lab's agents and what counts as ready.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::bring_up::wait_until;
use crate::cancel::Cancel;
use crate::error::LabError;
use crate::file::LabFile;
use crate::journal::{Entry, Journal};
use crate::node::{Node, tail};
use crate::place::Place;
use crate::underlay::url;
use crate::{cgroups, processes::Process};

/// How long all agents may take until the store has a leader and each has read all of it.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often an agent is asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long one question may take.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(5);
/// Lines of a node's log in an error.
const TAIL: usize = 12;
/// Store members: an odd number survives as many failures as the even one above it, and five are
/// enough for a lab.
const MEMBERS_MAX: usize = 5;

/// Said to the agents on whose nodes the store is.
pub(super) const FOUNDING: &str = "--initial-cluster";
/// Said to every agent: the devices of its underlay.
pub(super) const UNDERLAY: &str = "--underlay";

/// How many of the nodes are store members: the first ones.
pub(super) fn members(nodes: usize) -> usize {
    let odd = nodes - usize::from(nodes.is_multiple_of(2));
    odd.clamp(1, MEMBERS_MAX)
}

/// The arguments of the agent of one of the first nodes.
pub(crate) fn arguments(lab: &LabFile, nodes: &[Node], index: usize) -> Vec<String> {
    let members = &nodes[..members(nodes.len())];
    let mut args = of_any(lab, &nodes[index], &interfaces(lab, index));
    if index < members.len() && !lab.etcd {
        let cluster: Vec<String> = members
            .iter()
            .map(|member| format!("{}={}", member.name, url(member.address, 2380)))
            .collect();
        args.extend([FOUNDING.to_owned(), cluster.join(",")]);
    } else {
        args.extend(store_of(members.iter()));
    }
    args
}

/// The arguments of the agent of a node that comes later, by its devices: it uses the store of these members.
pub(super) fn later<'a>(
    lab: &LabFile,
    node: &Node,
    devices: &str,
    members: impl Iterator<Item = &'a Node>,
) -> Vec<String> {
    let mut args = of_any(lab, node, devices);
    args.extend(store_of(members));
    args
}

fn store_of<'a>(members: impl Iterator<Item = &'a Node>) -> [String; 2] {
    let endpoints: Vec<String> = members.map(|member| url(member.address, 2379)).collect();
    ["--store-endpoints".to_owned(), endpoints.join(",")]
}

fn of_any(lab: &LabFile, node: &Node, devices: &str) -> Vec<String> {
    let mut args: Vec<String> = [
        "node",
        "run",
        "--name",
        &node.name,
        "--advertise",
        &node.address.to_string(),
        UNDERLAY,
        devices,
        "--state-dir",
        node.carrier.state(),
        "--cgroup-parent",
        &format!("{}/{}", cgroups::parent_of(&lab.name), node.name),
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(ttl) = lab.lease_ttl {
        args.extend(["--lease-ttl".to_owned(), format!("{}ms", ttl.as_millis())]);
    }
    args
}

/// The interfaces of a node, all that it has: its links', or the one to the segment.
fn interfaces(lab: &LabFile, index: usize) -> String {
    let own = lab.links.iter();
    let own = own.filter(|link| link.between.contains(&lab.nodes[index]));
    let names: Vec<String> = (0..own.count().max(1)).map(|n| format!("eth{n}")).collect();
    names.join(",")
}

/// Starts all agents.
pub(super) fn start(lab: &LabFile, nodes: &[Node], journal: &mut Journal) -> Result<(), LabError> {
    if lab.etcd {
        super::etcd::start(lab, nodes, journal)?;
    }
    for (index, node) in nodes.iter().enumerate() {
        let args = arguments(lab, nodes, index);
        let process = node.carrier.spawn(&args)?;
        journal.write(&Entry::Agent {
            node: node.name.clone(),
            pid: process.pid,
            start: process.start,
            args,
        })?;
    }
    Ok(())
}

/// Waits until every agent is ready and sees all others.
pub(crate) fn wait_ready(
    lab: &LabFile,
    place: &Place,
    nodes: &[Node],
    cancel: &Cancel,
) -> Result<(), LabError> {
    let within = READY_WITHIN * lab.backend.patience();
    let deadline = Instant::now() + within;
    for node in nodes {
        let mut last = "it does not answer".to_owned();
        let ready = wait_until(deadline, ASK_EVERY, cancel, || {
            match node.weft_json(&["status", "--json"], ASK_WITHIN) {
                Ok(replies) => match not_ready(&replies, nodes.len()) {
                    None => return Ok(Some(())),
                    Some(why) => last = why,
                },
                Err(error) => last = error,
            }
            if agent_of(place, &node.name).is_some_and(|agent| !node.carrier.runs(agent)) {
                return Err(agent_ended(place, node));
            }
            Ok(None)
        })?;
        if ready.is_none() {
            return Err(not_in_time(place, node, within, &last));
        }
    }
    Ok(())
}

/// The agent of a node that was started last, by the journal.
pub(crate) fn agent_of(place: &Place, wanted: &str) -> Option<Process> {
    let entries = crate::journal::read(&place.journal()).ok()?;
    entries.into_iter().rev().find_map(|entry| match entry {
        Entry::Agent {
            node, pid, start, ..
        } if node == wanted => Some(Process { pid, start }),
        _ => None,
    })
}

/// Why a node is not ready yet.
fn not_ready(replies: &[Value], nodes: usize) -> Option<String> {
    let Some(status) = replies.iter().find(|reply| reply.get("ready").is_some()) else {
        return Some("its status says nothing".to_owned());
    };
    let alive = status["nodes"]
        .as_array()
        .map_or(0, |all| all.iter().filter(|n| n["alive"] == true).count());
    if status["ready"] == true && alive == nodes {
        return None;
    }
    let problems = status["problems"]
        .as_array()
        .map(|all| {
            all.iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join("; ")
        })
        .unwrap_or_default();
    let store = status["store_error"].as_str().unwrap_or_default();
    Some(format!(
        "ready: {}, nodes alive: {alive} of {nodes} {store} {problems}",
        status["ready"]
    ))
}

fn agent_ended(place: &Place, node: &Node) -> LabError {
    let log = place.log(&node.name);
    LabError::failed(
        format!("node {}", node.name),
        format!("its agent ended:\n{}", tail(&log, TAIL)),
        "the lines above are the end of its log; `weft doctor` shows what this machine lacks",
    )
}

fn not_in_time(place: &Place, node: &Node, within: Duration, last: &str) -> LabError {
    let log = place.log(&node.name);
    LabError::failed(
        format!("node {}", node.name),
        format!(
            "not ready within {} s: {}\n{}",
            within.as_secs(),
            last.trim(),
            tail(&log, TAIL)
        ),
        "the lines above are the end of its log; `weft doctor` shows what this machine lacks",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_has_an_odd_number_of_members() {
        assert_eq!([1, 2, 3, 4, 9].map(members), [1, 1, 3, 3, 5]);
    }
}
