//! What the file says should exist: applied through a node, waited for, read back.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_overlay::ContainerRef;

use super::agents::{ASK_EVERY, ASK_WITHIN};
use super::bring_up::wait_until;
use crate::cancel::Cancel;
use crate::error::LabError;
use crate::file::LabFile;
use crate::journal::Object;
use crate::node::{Node, tail};
use crate::place::Place;
use crate::site::Site;

/// How long applying may take.
const APPLY_WITHIN: Duration = Duration::from_secs(30);
/// How long containers may take to run, and chains to steer.
const RUNNING_WITHIN: Duration = Duration::from_secs(60);
/// Lines of each node's log in an error.
const TAIL: usize = 4;

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

/// What a site puts into the cluster, in the order in which it is made.
pub(super) fn objects(site: &Site) -> Vec<Object> {
    let object = |kind: &str, name: String| Object {
        kind: kind.to_owned(),
        name,
    };
    let networks = site
        .networks
        .iter()
        .map(|n| object("network", n.name.to_string()));
    let containers = site
        .containers
        .iter()
        .map(|c| object("container", c.name.to_string()));
    let chains = site.chains.iter().map(|c| object("chain", c.name.clone()));
    networks.chain(containers).chain(chains).collect()
}

/// Writes the site's files and applies them through a node.
pub(super) fn apply(lab: &LabFile, place: &Place, node: &Node) -> Result<(), LabError> {
    tell(lab, &lab.site, &place.site(), node, "apply").map(drop)
}

/// `weft apply`, `diff` or `delete` of a site by files in a folder: what it did or would do.
pub(super) fn tell(
    lab: &LabFile,
    site: &Site,
    folder: &Path,
    node: &Node,
    verb: &str,
) -> Result<Vec<Value>, LabError> {
    std::fs::create_dir_all(folder).map_err(LabError::io("create", folder))?;
    let defect = "this is a defect of weft; please report it";
    let files = site
        .to_files()
        .map_err(|e| LabError::failed("site", e, defect))?;
    let mut there = String::new();
    for (name, text) in &files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(LabError::io("write", &path))?;
        let brought = node.carrier.bring(&path)?;
        if name == "site.toml" {
            there = brought;
        }
    }
    node.weft_json(&[verb, "-f", &there, "--json"], APPLY_WITHIN)
        .map_err(|cause| {
            LabError::failed(
                format!("lab {}", lab.name),
                cause,
                "correct the lab file as the message says",
            )
        })
}

/// Waits until every container of the file runs and its interfaces have addresses.
pub(super) fn wait_running(
    lab: &LabFile,
    place: &Place,
    nodes: &[Node],
    cancel: &Cancel,
) -> Result<Vec<Container>, LabError> {
    let wanted: Vec<&ContainerRef> = lab.site.containers.iter().map(|c| &c.name).collect();
    let within = RUNNING_WITHIN * lab.backend.patience();
    let deadline = Instant::now() + within;
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
            .map(|node| format!("{}: {}", node.name, tail(&place.log(&node.name), TAIL)))
            .collect();
        LabError::failed(
            format!("lab {}", lab.name),
            format!(
                "not all is running within {} s:\n{last}\n{}",
                within.as_secs(),
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
