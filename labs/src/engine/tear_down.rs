//! Removes a lab: by its journal, whatever state it is in, going on after each failure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::LabError;
use crate::journal::{self, Entry};
use crate::place::Place;
use crate::processes::Process;
use crate::{cgroups, processes};

/// How long processes may take to end after SIGKILL, and cgroups to empty.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    name: String,
    /// Holders and what entered their namespaces.
    processes: usize,
    nodes: usize,
    cgroups: usize,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lab {} is down: {} nodes with their namespaces, links, mounts and pins ({} processes ended from outside, the rest with them), {} cgroups, its folder",
            self.name, self.nodes, self.processes, self.cgroups
        )
    }
}

impl Removed {
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "lab": self.name,
            "nodes": self.nodes,
            "processes": self.processes,
            "cgroups": self.cgroups,
        })
    }
}

/// Removes everything the journal speaks of. Refused while an engine holds the lab.
pub(super) fn down(place: &Place) -> Result<Removed, LabError> {
    let _held = place.hold()?;
    let deadline = Instant::now() + GONE_WITHIN;
    let mut removed = Removed {
        name: place.name().to_owned(),
        ..Removed::default()
    };
    let mut left: Vec<String> = Vec::new();
    let entries = journal::read(&place.journal())?;
    let holders = entries.iter().filter_map(|entry| match *entry {
        Entry::Started { pid, start, .. } => Some(Process { pid, start }),
        _ => None,
    });
    let inside: Vec<Process> = holders.flat_map(processes::in_namespace_of).collect();
    let mut nodes = BTreeSet::new();
    // Processes first: with the holders go all namespaces, and nothing new is made.
    for entry in &entries {
        match entry {
            Entry::Lab { id, .. } => {
                let (ended, alive) = processes::end_all(id, deadline);
                removed.processes += ended;
                left.extend(alive.iter().map(|p| format!("process {}", p.pid)));
            }
            Entry::Holder { node } if journal::is_node(node) => {
                nodes.insert(node);
            }
            Entry::Left { node } => {
                nodes.remove(node);
            }
            _ => {}
        }
    }
    removed.nodes = nodes.len();
    // The kernel has told all processes of the holders' namespaces to end; a busy one may not have heard it yet.
    for process in inside {
        if !process.ending_by(deadline) {
            left.push(format!("process {}", process.pid));
        }
    }
    for entry in &entries {
        if let Entry::Cgroup { path } = entry {
            let (gone, stuck) = cgroups::remove(path, deadline);
            removed.cgroups += gone;
            left.extend(stuck);
        }
    }
    if !left.is_empty() {
        // The journal stays, so that the next `down` goes on.
        return Err(LabError::failed(
            format!("lab {}", place.name()),
            format!("not everything could be removed: {}", left.join("; ")),
            format!("run `weft lab down {}` again", place.name()),
        ));
    }
    remove_folder(place)?;
    Ok(removed)
}

/// The journal goes last: without it nothing else would be found.
fn remove_folder(place: &Place) -> Result<(), LabError> {
    let root_lock = place.hold_root()?;
    let dir = place.dir();
    let entries = std::fs::read_dir(&dir).map_err(LabError::io("list", &dir))?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if path == place.journal() {
            continue;
        }
        let done = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        done.map_err(LabError::io("remove", path))?;
    }
    std::fs::remove_dir_all(&dir).map_err(LabError::io("remove", dir))?;
    if Place::all(place.root())?.is_empty() {
        cgroups::remove_if_empty("weft");
        // Only folders that hold nothing else: another state of weft may be beside.
        let _ = std::fs::remove_dir(place.root());
        if let Some(parent) = place.root().parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
    drop(root_lock);
    Ok(())
}
