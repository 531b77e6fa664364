//! From a file to a running lab. Each resource is in the journal before it is made.

use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::cgroups;
use crate::engine::{agents, contents};
use crate::error::LabError;
use crate::file::LabFile;
use crate::journal::{Entry, Journal, SWITCH};
use crate::node::{Node, Starter};
use crate::options::Host;
use crate::place::{Held, Place};
use crate::report::Report;
use crate::underlay::{self, Port, Wire};

/// A lab that is up and held by this engine.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) lab: LabFile,
    pub(crate) place: Place,
    pub(crate) nodes: Vec<Node>,
    pub(crate) wires: Vec<Wire>,
    /// Where the containers are and what their addresses are.
    pub(crate) containers: Vec<contents::Container>,
    _held: Held,
}

/// Why there is no running lab.
pub(super) enum Failure {
    /// Nothing was made.
    Refused(LabError),
    /// Something may have been made.
    Broken(LabError),
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        Failure::Broken(error)
    }
}

pub(super) fn bring_up(
    host: &Host,
    lab: LabFile,
    text: &str,
    cancel: &Cancel,
    report: &mut Report,
    progress: &dyn Fn(&str),
) -> Result<Running, Failure> {
    let place = Place::new(&host.root, &lab.name);
    let held = place.create().map_err(Failure::Refused)?;
    let mut journal = Journal::open(&place.journal())?;
    let id = lab_id()?;
    journal.write(&Entry::Lab {
        id: id.clone(),
        file: lab.file.clone(),
    })?;
    std::fs::write(place.source(), text)
        .map_err(LabError::io("write the lab's file", place.source()))?;
    let starter = Starter {
        exe: host.weft_exe.clone(),
        id,
        cancel: cancel.clone(),
    };

    let begun = Instant::now();
    progress("starting hosts and the underlay");
    let (nodes, wires) = hosts(&lab, &place, &starter, &mut journal)?;
    report.phase("hosts and underlay", begun.elapsed());

    let begun = Instant::now();
    progress("starting a node on each host");
    journal.write(&Entry::Cgroup {
        path: cgroups::parent_of(&lab.name),
    })?;
    agents::start(&lab, &place, &nodes, &mut journal)?;
    agents::wait_ready(&place, &nodes, cancel)?;
    report.phase("nodes ready", begun.elapsed());

    let begun = Instant::now();
    progress("applying networks, containers and chains");
    contents::apply(&lab, &place, &nodes[0])?;
    let containers = contents::wait_running(&lab, &place, &nodes, cancel)?;
    report.phase("containers running", begun.elapsed());
    journal.write(&Entry::Up)?;
    Ok(Running {
        lab,
        place,
        nodes,
        wires,
        containers,
        _held: held,
    })
}

/// 128 random bits from the kernel, in hex.
pub(crate) fn lab_id() -> Result<String, LabError> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = std::fs::read_to_string(path).map_err(LabError::io("read", path))?;
    Ok(text.trim().replace('-', ""))
}

fn hosts(
    lab: &LabFile,
    place: &Place,
    starter: &Starter,
    journal: &mut Journal,
) -> Result<(Vec<Node>, Vec<Wire>), LabError> {
    let mut nodes = Vec::new();
    for (index, name) in lab.nodes.iter().enumerate() {
        let name = name.as_str();
        let state = place.state(name);
        std::fs::create_dir_all(&state).map_err(LabError::io("create the node's folder", state))?;
        let holder = holder(name, starter, journal)?;
        let socket = format!("/proc/{}/root/run/weft/weft.sock", holder.pid);
        std::os::unix::fs::symlink(socket, place.socket(name))
            .map_err(LabError::io("link the node's socket", place.socket(name)))?;
        nodes.push(Node {
            name: name.to_owned(),
            address: underlay::address(index),
            holder,
            starter: starter.clone(),
        });
    }
    let ports = ports(&nodes);
    let wires = wires_of(lab);
    if wires.is_empty() {
        let switch = holder(SWITCH, starter, journal)?;
        underlay::segment(switch.pid, &ports)?;
    } else {
        underlay::wires(&ports, &wires)?;
    }
    Ok((nodes, wires))
}

fn holder(
    name: &str,
    starter: &Starter,
    journal: &mut Journal,
) -> Result<crate::processes::Process, LabError> {
    journal.write(&Entry::Holder {
        node: name.to_owned(),
    })?;
    let host_name = if name == SWITCH { "underlay" } else { name };
    let process = starter.holder(host_name)?;
    journal.write(&Entry::Started {
        node: name.to_owned(),
        pid: process.pid,
        start: process.start,
    })?;
    Ok(process)
}

/// The nodes as the underlay knows them.
pub(crate) fn ports(nodes: &[Node]) -> Vec<Port> {
    nodes
        .iter()
        .map(|node| Port {
            pid: node.holder.pid,
            address: node.address,
        })
        .collect()
}

fn wires_of(lab: &LabFile) -> Vec<Wire> {
    let index = |name| lab.nodes.iter().position(|node| node == name);
    lab.links
        .iter()
        .filter_map(|link| {
            let [a, b] = &link.between;
            Some(Wire {
                ends: [index(a)?, index(b)?],
                up: true,
            })
        })
        .collect()
}

impl Running {
    /// The node of that name.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The container of that name, as it was found running.
    pub(crate) fn container(&self, name: &str) -> Option<&contents::Container> {
        self.containers.iter().find(|c| c.name == name)
    }
}

/// Waits until `look` returns something, looking every `every`.
pub(crate) fn wait_until<T>(
    deadline: Instant,
    every: Duration,
    cancel: &Cancel,
    mut look: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<Option<T>, LabError> {
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if cancel.is_set() || Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(every);
    }
}
