//! From a file to a running lab. Each resource is in the journal before it is made.

use std::time::{Duration, Instant};

use crate::backend::{self, Backend, Start};
use crate::cancel::Cancel;
use crate::cgroups;
use crate::engine::{agents, contents};
use crate::error::LabError;
use crate::file::LabFile;
use crate::journal::{Entry, Journal, Settings};
use crate::node::Node;
use crate::options::Host;
use crate::place::{Held, Place};
use crate::report::Report;
use crate::underlay::{self, Wire};

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
        backend: lab.backend,
    })?;
    journal.write(&Entry::Settings(Settings::of(&lab)))?;
    std::fs::write(place.source(), text)
        .map_err(LabError::io("write the lab's file", place.source()))?;

    let begun = Instant::now();
    progress("starting hosts and the underlay");
    let wires = wires_of(&lab);
    let start = Start {
        lab: &lab,
        place: &place,
        exe: &host.weft_exe,
        id: &id,
        cancel,
        progress: &progress,
    };
    for (slot, (wire, link)) in wires.iter().zip(&lab.links).enumerate() {
        journal.write(&Entry::Link {
            slot,
            between: link.between.iter().map(ToString::to_string).collect(),
            mtu: wire.mtu,
            relayed: wire.relayed,
        })?;
    }
    let nodes = backend::bring_up(&start, &wires, &mut journal)?;
    underlay::configure(&nodes, &wires)?;
    for slot in 0..wires.len() {
        journal.write(&Entry::Linked { slot })?;
    }
    report.phase("hosts and underlay", begun.elapsed());

    let begun = Instant::now();
    progress("starting a node on each host");
    if lab.backend == Backend::Netns {
        journal.write(&Entry::Cgroup {
            path: cgroups::parent_of(&lab.name),
        })?;
    }
    agents::start(&lab, &nodes, &mut journal)?;
    agents::wait_ready(&lab, &place, &nodes, cancel)?;
    report.phase("nodes ready", begun.elapsed());

    let begun = Instant::now();
    progress("applying networks, containers and chains");
    journal.write(&Entry::Owns {
        objects: contents::objects(&lab.site),
    })?;
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

fn wires_of(lab: &LabFile) -> Vec<Wire> {
    let index = |name: &weft_overlay::NodeName| lab.nodes.iter().position(|node| node == name);
    lab.links
        .iter()
        .map(|link| Wire {
            ends: link.between.iter().filter_map(index).collect(),
            up: true,
            mtu: link.mtu.unwrap_or(underlay::MTU),
            relayed: link.relayed || lab.backend == Backend::Qemu,
            gone: false,
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
