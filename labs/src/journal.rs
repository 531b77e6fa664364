//! What a lab owns on the machine, written and fsynced before it is made.
//!
//! Owns: the file `<lab>/journal`, JSON lines, read back after a crash; a half-written last line is
//! ignored, for what it spoke of was never made. Never: removes anything itself.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::LabError;
use crate::file::{Family, LabFile, MachineTable};

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The lab itself. Every process of the engine's making carries `id` on its command line.
    Lab {
        /// Random, 128 bits in hex.
        id: String,
        /// The lab file's name.
        file: String,
        /// What carries its nodes.
        #[serde(default)]
        backend: Backend,
    },
    /// A holder: with it go its namespaces, mounts, links, pins and processes.
    Holder {
        /// The node, or [`SWITCH`], or [`RELAY`].
        node: String,
    },
    /// A holder that has said its process number.
    Started {
        /// The node.
        node: String,
        /// Its number here.
        pid: i32,
        /// When it started, in clock ticks since boot: numbers are reused.
        start: u64,
    },
    /// The node's agent.
    Agent {
        /// The node.
        node: String,
        /// Its number here.
        pid: i32,
        /// When it started, in clock ticks since boot.
        start: u64,
        /// The arguments of `weft`, to start it anew.
        args: Vec<String>,
    },
    /// A member of the store beside the agents; it ends with its node's holder.
    Store {
        /// The node.
        node: String,
        /// Its number here.
        pid: i32,
        /// When it started, in clock ticks since boot.
        start: u64,
    },
    /// A cgroup in every hierarchy, with all below it.
    Cgroup {
        /// Relative to the hierarchy's root.
        path: String,
    },
    /// What stays as it is for the whole life of the lab.
    Settings(Settings),
    /// A link.
    Link {
        /// Its place among all links that the lab ever had.
        slot: usize,
        /// The nodes at it.
        between: Vec<String>,
        /// Of the devices at it, in bytes.
        mtu: u32,
        /// Whether its frames pass the relay.
        relayed: bool,
    },
    /// A link is made to the end.
    Linked {
        /// Its place.
        slot: usize,
    },
    /// A step has set a link up or down.
    LinkState {
        /// Its place.
        slot: usize,
        /// Whether it is up.
        up: bool,
    },
    /// A link has been removed.
    Unlinked {
        /// Its place.
        slot: usize,
    },
    /// A node has been removed.
    Left {
        /// The node.
        node: String,
    },
    /// What the lab's file puts into the cluster.
    Owns {
        /// In the order in which it is made.
        objects: Vec<Object>,
    },
    /// Something of it has been removed.
    Dropped {
        /// What.
        object: Object,
    },
    /// All containers ran and the lab was ready.
    Up,
}

/// A network, container or chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Object {
    /// As the API calls it.
    #[serde(rename = "what")]
    pub(crate) kind: String,
    /// With its tenant.
    pub(crate) name: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What a lab is made with and keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// What carries its nodes.
    pub(crate) backend: Backend,
    /// Whether its store is etcd.
    pub(crate) etcd: bool,
    /// By which addresses its nodes know each other.
    pub(crate) underlay: Family,
    /// Of its agents.
    pub(crate) lease_ttl: Option<Duration>,
    /// Of its chance.
    pub(crate) seed: u64,
    /// Of nodes that are virtual machines.
    pub(crate) machines: BTreeMap<String, MachineTable>,
}

impl Settings {
    pub(crate) fn of(lab: &LabFile) -> Settings {
        let machines = lab.nodes.iter().zip(&lab.machines);
        let machines = machines.map(|(node, machine)| (node.to_string(), machine.clone()));
        Settings {
            backend: lab.backend,
            etcd: lab.etcd,
            underlay: lab.underlay,
            lease_ttl: lab.lease_ttl,
            seed: lab.seed,
            machines: match lab.backend {
                Backend::Netns => BTreeMap::new(),
                Backend::Qemu => machines.collect(),
            },
        }
    }

    pub(crate) fn is_of_machines(&self) -> bool {
        self.backend == Backend::Qemu
    }

    /// The first that a file has otherwise: what it is, how it is here, and there.
    pub(crate) fn differs(&self, file: &Settings) -> Option<(String, String, String)> {
        let said = |what: &str, is: String, wanted: String| {
            (is != wanted).then(|| (what.to_owned(), is, wanted))
        };
        let yes = |etcd: bool| if etcd { "etcd" } else { "the nodes' own" }.to_owned();
        let family = |of: &Settings| format!("{:?}", of.underlay);
        let ttl =
            |ttl: Option<Duration>| ttl.map_or("the usual".to_owned(), |ttl| format!("{ttl:?}"));
        let words = |machine: &MachineTable| {
            let disk = machine.disk_mib.map(|size| format!(", disk {size} MiB"));
            let MachineTable {
                memory_mib,
                kernel,
                packages,
                ..
            } = machine;
            let programs = match &packages[..] {
                [] => String::new(),
                some => format!(", packages {}", some.join(" ")),
            };
            format!(
                "{memory_mib} MiB, kernel {kernel}{}{programs}",
                disk.unwrap_or_default()
            )
        };
        let machine = |(node, is): (&String, &MachineTable)| {
            let wanted = file.machines.get(node)?;
            said(&format!("machine of node {node}"), words(is), words(wanted))
        };
        said(
            "backend",
            self.backend.to_string(),
            file.backend.to_string(),
        )
        .or_else(|| said("store", yes(self.etcd), yes(file.etcd)))
        .or_else(|| said("underlay", family(self), family(file)))
        .or_else(|| said("lease_ttl", ttl(self.lease_ttl), ttl(file.lease_ttl)))
        .or_else(|| said("seed", self.seed.to_string(), file.seed.to_string()))
        .or_else(|| self.machines.iter().find_map(machine))
    }
}

/// The node name of the holder of the underlay's namespace.
pub(crate) const SWITCH: &str = "(underlay)";
/// The node name of the relay.
pub(crate) const RELAY: &str = "(relay)";

/// Whether a name in the journal is a node's: names of nodes have no brackets.
pub(crate) fn is_node(name: &str) -> bool {
    !name.starts_with('(')
}

/// The journal, open for writing.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: std::path::PathBuf,
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Journal, LabError> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(LabError::io("open the journal", path))?;
        Ok(Journal {
            file,
            path: path.to_owned(),
        })
    }

    /// On disk when it returns.
    pub(crate) fn write(&mut self, entry: &Entry) -> Result<(), LabError> {
        let mut line = serde_json::to_vec(entry).map_err(|e| {
            LabError::failed("journal", e, "this is a defect of weft; please report it")
        })?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .map_err(LabError::io("write the journal", &self.path))
    }
}

/// Reads a journal; one that does not exist is empty.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, LabError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LabError::io("read the journal", path)(error)),
    };
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let entries = [
            Entry::Lab {
                id: "0a".into(),
                file: "f".into(),
                backend: Backend::Qemu,
            },
            Entry::Holder { node: "n1".into() },
            Entry::Started {
                node: "n1".into(),
                pid: 7,
                start: 9,
            },
        ];
        let mut journal = Journal::open(&path).unwrap();
        for entry in &entries {
            journal.write(entry).unwrap();
        }
        journal.file.write_all(b"{\"kind\":\"hol").unwrap();
        assert_eq!(read(&path).unwrap(), entries);
        assert_eq!(read(&dir.path().join("none")).unwrap(), []);
    }
}
