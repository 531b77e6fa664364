//! What a lab owns on the machine, written and fsynced before it is made.
//!
//! Owns: the file `<lab>/journal`, JSON lines, read back after a crash; a half-written last line is
//! ignored, for what it spoke of was never made. Never: removes anything itself.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::LabError;

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
    /// All containers ran and the lab was ready.
    Up,
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
