//! The `weft node run` of each host: started, waited for, told what should exist.
//!
//! Owns: the arguments of a lab's agents and what counts as ready.

use std::time::{Duration, Instant};

use serde_json::Value;
use weft_overlay::ContainerRef;

use super::bring_up::wait_until;
use crate::cancel::Cancel;
use crate::error::LabError;
use crate::file::LabFile;
use crate::journal::{Entry, Journal};
use crate::node::{Node, tail};
use crate::place::Place;
use crate::{cgroups, processes::Process};

/// How long all agents may take until the store has a leader and each has read all of it.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long applying may take.
const APPLY_WITHIN: Duration = Duration::from_secs(30);
/// How long containers may take to run.
const CONTAINERS_WITHIN: Duration = Duration::from_secs(60);
/// How often an agent is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long one question may take.
const ASK_WITHIN: Duration = Duration::from_secs(5);
/// Lines of a node's log in an error.
const TAIL: usize = 12;
/// Store members: an odd number survives as many failures as the even one above it, and five are
/// enough for a lab.
const MEMBERS_MAX: usize = 5;

/// A container as its node reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) state: String,
    pub(crate) message: String,
    /// Addresses of its ordinary interfaces.
    pub(crate) addresses: Vec<String>,
}

/// How many of the nodes are store members: the first ones.
fn members(nodes: usize) -> usize {
    let odd = nodes - usize::from(nodes.is_multiple_of(2));
    odd.clamp(1, MEMBERS_MAX)
}

/// The arguments of a node's agent.
pub(crate) fn arguments(lab: &LabFile, place: &Place, nodes: &[Node], index: usize) -> Vec<String> {
    let node = &nodes[index];
    let members = &nodes[..members(nodes.len())];
    let state = place.state(&node.name).to_string_lossy().into_owned();
    let mut args: Vec<String> = [
        "node",
        "run",
        "--name",
        &node.name,
        "--advertise",
        &node.address.to_string(),
        "--underlay",
        "eth0",
        "--state-dir",
        &state,
        "--cgroup-parent",
        &format!("{}/{}", cgroups::parent_of(&lab.name), node.name),
    ]
    .map(str::to_owned)
    .to_vec();
    if index < members.len() {
        let cluster: Vec<String> = members
            .iter()
            .map(|member| format!("{}=http://{}:2380", member.name, member.address))
            .collect();
        args.extend(["--initial-cluster".to_owned(), cluster.join(",")]);
    } else {
        let endpoints: Vec<String> = members
            .iter()
            .map(|member| format!("http://{}:2379", member.address))
            .collect();
        args.extend(["--store-endpoints".to_owned(), endpoints.join(",")]);
    }
    if let Some(ttl) = lab.lease_ttl {
        args.extend(["--lease-ttl".to_owned(), format!("{}ms", ttl.as_millis())]);
    }
    args
}

/// Starts all agents.
pub(super) fn start(
    lab: &LabFile,
    place: &Place,
    nodes: &[Node],
    journal: &mut Journal,
) -> Result<(), LabError> {
    for (index, node) in nodes.iter().enumerate() {
        let process = node.spawn(&arguments(lab, place, nodes, index), &place.log(&node.name))?;
        journal.write(&Entry::Agent {
            node: node.name.clone(),
            pid: process.pid,
            start: process.start,
        })?;
    }
    Ok(())
}

/// Waits until every agent is ready and sees all others.
pub(crate) fn wait_ready(place: &Place, nodes: &[Node], cancel: &Cancel) -> Result<(), LabError> {
    let deadline = Instant::now() + READY_WITHIN;
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
            if agent_of(place, &node.name).is_some_and(|agent| !agent.is_alive()) {
                return Err(agent_ended(place, node));
            }
            Ok(None)
        })?;
        if ready.is_none() {
            return Err(not_in_time(place, node, &last));
        }
    }
    Ok(())
}

/// The agent of a node that was started last, by the journal.
pub(crate) fn agent_of(place: &Place, wanted: &str) -> Option<Process> {
    let entries = crate::journal::read(&place.journal()).ok()?;
    entries.into_iter().rev().find_map(|entry| match entry {
        Entry::Agent { node, pid, start } if node == wanted => Some(Process { pid, start }),
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

fn not_in_time(place: &Place, node: &Node, last: &str) -> LabError {
    let log = place.log(&node.name);
    LabError::failed(
        format!("node {}", node.name),
        format!(
            "not ready within {} s: {}\n{}",
            READY_WITHIN.as_secs(),
            last.trim(),
            tail(&log, TAIL)
        ),
        "the lines above are the end of its log; `weft doctor` shows what this machine lacks",
    )
}

/// Writes the site's files and applies them through a node.
pub(super) fn apply(lab: &LabFile, place: &Place, node: &Node) -> Result<(), LabError> {
    let folder = place.site();
    std::fs::create_dir_all(&folder).map_err(LabError::io("create", &folder))?;
    let defect = "this is a defect of weft; please report it";
    let files = lab
        .site
        .to_files()
        .map_err(|e| LabError::failed("site", e, defect))?;
    for (name, text) in &files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(LabError::io("write", path))?;
    }
    let site = folder.join("site.toml").to_string_lossy().into_owned();
    node.weft_json(&["apply", "-f", &site, "--json"], APPLY_WITHIN)
        .map(|_| ())
        .map_err(|cause| {
            LabError::failed(
                format!("lab {}", lab.name),
                cause,
                "correct the lab file as the message says",
            )
        })
}

/// Waits until every container of the file runs and its interfaces have addresses.
pub(super) fn wait_containers(
    lab: &LabFile,
    place: &Place,
    nodes: &[Node],
    cancel: &Cancel,
) -> Result<Vec<Container>, LabError> {
    let wanted: Vec<&ContainerRef> = lab.site.containers.iter().map(|c| &c.name).collect();
    let deadline = Instant::now() + CONTAINERS_WITHIN;
    let mut last = String::new();
    let found = wait_until(deadline, ASK_EVERY, cancel, || {
        let found = match containers(&nodes[0]) {
            Ok(found) => found,
            Err(error) => {
                last = error;
                return Ok(None);
            }
        };
        let waiting: Vec<String> = wanted
            .iter()
            .filter_map(|name| why_waiting(name, &found, lab))
            .collect();
        last = waiting.join("\n");
        if !waiting.is_empty() {
            return Ok(None);
        }
        last = chains_waiting(lab, &nodes[0]).unwrap_or_default();
        Ok(last.is_empty().then_some(found))
    })?;
    found.ok_or_else(|| {
        let logs: Vec<String> = nodes
            .iter()
            .map(|node| format!("{}: {}", node.name, tail(&place.log(&node.name), 4)))
            .collect();
        LabError::failed(
            format!("lab {}", lab.name),
            format!(
                "not all is running within {} s:\n{last}\n{}",
                CONTAINERS_WITHIN.as_secs(),
                logs.join("\n")
            ),
            "the lines above are the end of each node's log",
        )
    })
}

/// Why a container does not count as running yet.
fn why_waiting(name: &ContainerRef, found: &[Container], lab: &LabFile) -> Option<String> {
    let Some(container) = found.iter().find(|c| c.name == name.to_string()) else {
        return Some(format!("container {name}: nobody has it yet"));
    };
    if container.state != "running" {
        let message = &container.message;
        return Some(format!("container {name}: {} {message}", container.state));
    }
    let ordinary = lab
        .site
        .containers
        .iter()
        .filter(|c| &c.name == name)
        .flat_map(|c| &c.networks)
        .filter(|attachment| !crate::site::is_hop(attachment))
        .count();
    (container.addresses.len() < ordinary)
        .then(|| format!("container {name}: it has no address yet"))
}

/// Which chains do not steer yet: some node has not said that it is ready for their version.
fn chains_waiting(lab: &LabFile, node: &Node) -> Option<String> {
    if lab.site.chains.is_empty() {
        return None;
    }
    let listed = match node.weft_json(&["chain", "ls", "--json"], ASK_WITHIN) {
        Ok(listed) => listed,
        Err(error) => return Some(error),
    };
    let steers = |name: &str| {
        listed
            .iter()
            .any(|chain| chain["name"] == name && chain["classified"].is_number())
    };
    let waiting: Vec<&str> = lab
        .site
        .chains
        .iter()
        .map(|chain| chain.name.as_str())
        .filter(|name| !steers(name))
        .collect();
    (!waiting.is_empty()).then(|| format!("chain {}: not ready on all nodes", waiting.join(", ")))
}

/// All containers of the cluster, as one of its nodes tells.
pub(crate) fn containers(node: &Node) -> Result<Vec<Container>, String> {
    let objects = node.weft_json(&["ps", "--json"], ASK_WITHIN)?;
    Ok(objects.iter().map(container).collect())
}

fn container(object: &Value) -> Container {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &object["status"];
    let first = |a: &Value, b: &Value| if a.is_string() { text(a) } else { text(b) };
    Container {
        name: text(&object["name"]),
        node: first(&object["node"], &object["spec"]["node"]),
        state: first(&object["state"], &status["state"]),
        message: first(&object["message"], &status["message"]),
        addresses: addresses(&object["addresses"]),
    }
}

/// Addresses, given as a list, or as lists by interface.
fn addresses(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(items) => items.iter().flat_map(addresses).collect(),
        Value::Object(map) => map.values().flat_map(addresses).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_has_an_odd_number_of_members() {
        assert_eq!([1, 2, 3, 4, 9].map(members), [1, 1, 3, 3, 5]);
    }
}
