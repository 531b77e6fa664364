//! What carries the nodes of a lab: namespaces of this machine, or a virtual machine for each.
//!
//! The engine and its steps drive nodes by the verbs of [`Carrier`] alone. A backend is a file of its own: it brings
//! the carriers of all nodes up, joined as the lab file says, and journals each thing before it makes it.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::disk::Cut;
use crate::error::LabError;
use crate::file::{Family, LabFile};
use crate::journal::Journal;
use crate::node::Node;
use crate::place::Place;
use crate::processes::{Process, Seen, Whose};
use crate::underlay::{NetOp, Wire};

mod namespaces;
mod virtual_machines;

pub(crate) use namespaces::join::{bridge_name, switch, tap};
pub(crate) use virtual_machines::{DISK, LACKS_PROGRAMS};

/// The backends by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Each node in namespaces of this machine.
    #[default]
    Netns,
    /// Each node a virtual machine with a kernel of its own.
    Qemu,
}

impl Backend {
    /// By the name that files use.
    pub(crate) fn of(name: &str) -> Option<Backend> {
        match name {
            "netns" => Some(Backend::Netns),
            "qemu" => Some(Backend::Qemu),
            _ => None,
        }
    }

    /// How many times longer than on a processor of its own things may take.
    pub(crate) fn patience(self) -> u32 {
        match self {
            Backend::Netns if is_emulated() => 4,
            Backend::Netns => 1,
            // Without acceleration, a few nodes on few processors.
            Backend::Qemu => 4,
        }
    }
}

/// Whether QEMU carries out each instruction of this machine's processor itself: it names such ones so (QEMU,
/// target/i386/tcg/tcg-cpu.c).
fn is_emulated() -> bool {
    let said = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    said.lines()
        .any(|line| line.starts_with("model name") && line.contains("QEMU TCG"))
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Netns => "netns",
            Backend::Qemu => "qemu",
        })
    }
}

/// What a node runs on.
pub(crate) trait Carrier: fmt::Debug + Send + Sync {
    /// The process of this machine that the node lives and dies with.
    fn keeper(&self) -> Process;

    /// Starts the node anew after its end: as it was made, with its disk, without network and agent.
    fn boot_again(&self) -> Result<AnyCarrier, LabError>;

    /// Cuts the power of the disk of a node that has ended.
    fn cut_power(&self, seed: u64) -> Result<Cut, LabError>;

    /// A command on the node that shares our standard streams; ended with its client.
    fn command(&self, argv: &[&str]) -> Command;

    /// The weft binary as the node sees it.
    fn weft(&self) -> &str;

    /// The folder on the node for what survives its agent.
    fn state(&self) -> &str;

    /// Starts weft in the background; its output goes on in the node's log.
    fn spawn(&self, args: &[String]) -> Result<Process, LabError>;

    /// Starts a program of the node in the background, as [`Carrier::spawn`] does weft.
    fn spawn_program(&self, program: &str, args: &[String]) -> Result<Process, LabError>;

    /// Whether what [`Carrier::spawn`] started still runs.
    fn runs(&self, process: Process) -> bool;

    /// The processes on the node that [`Carrier::spawn`] and its agents started.
    fn look(&self, whose: &Whose) -> Result<Vec<Seen>, LabError>;

    /// A file below `/proc/PID` of a process that was found by [`Carrier::look`].
    fn proc(&self, process: Process, file: &str) -> Result<String, LabError>;

    /// Signals what [`Carrier::spawn`] started or [`Carrier::look`] found.
    fn signal(&self, process: Process, signal: Signal) -> Result<(), LabError>;

    /// Lets the node read a file of this machine; its path there. Files of one folder stay in one folder.
    fn bring(&self, file: &Path) -> Result<String, LabError>;

    /// Copies a file of this machine to the node.
    fn copy_in(&self, from: &Path, to: &str) -> Result<(), LabError>;

    /// Copies a file of the node to this machine.
    fn copy_out(&self, from: &str, to: &Path) -> Result<(), LabError>;

    /// Changes the node's own network.
    fn net(&self, ops: &[NetOp]) -> Result<(), LabError>;
}

/// How carriers are started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) lab: &'a LabFile,
    pub(crate) place: &'a Place,
    /// The weft binary of this machine.
    pub(crate) exe: &'a Path,
    /// The lab's random id, on the command line of every process of the engine's making.
    pub(crate) id: &'a str,
    pub(crate) cancel: &'a Cancel,
    pub(crate) progress: &'a dyn Progress,
}

/// Says what is being done, to a person who waits.
pub(crate) trait Progress {
    fn say(&self, what: &str);
}

impl<F: Fn(&str)> Progress for F {
    fn say(&self, what: &str) {
        self(what);
    }
}

impl fmt::Debug for dyn Progress + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Brings the carriers of all nodes up, in the file's order, joined by one segment or by `wires`.
pub(crate) fn bring_up(
    start: &Start<'_>,
    wires: &[Wire],
    journal: &mut Journal,
) -> Result<Vec<Node>, LabError> {
    let carriers = match start.lab.backend {
        Backend::Netns => namespaces::bring_up(start, wires, journal)?,
        Backend::Qemu => virtual_machines::bring_up(start, wires, journal)?,
    };
    let names = start.lab.nodes.iter().zip(carriers).enumerate();
    Ok(names
        .map(|(index, (name, carrier))| Node {
            name: name.as_str().to_owned(),
            number: index,
            address: address(start.lab.underlay, index),
            carrier,
            cancel: start.cancel.clone(),
        })
        .collect())
}

/// One node more for a lab that runs, joined to nothing yet.
pub(crate) fn add(
    start: &Start<'_>,
    name: &str,
    journal: &mut Journal,
) -> Result<AnyCarrier, LabError> {
    match start.lab.backend {
        Backend::Netns => namespaces::make(start, name, journal),
        Backend::Qemu => Err(LabError::Refused {
            subject: format!("node {name}"),
            cause: "a machine cannot be added to machines that run".to_owned(),
            help: "bring the lab up anew".to_owned(),
        }),
    }
}

/// The carrier of a node that is up, known by its keeper.
pub(crate) fn attach(
    backend: Backend,
    place: &Place,
    exe: &Path,
    id: &str,
    node: &str,
    keeper: Process,
) -> AnyCarrier {
    match backend {
        Backend::Netns => namespaces::attach(place, exe, id, node, keeper),
        Backend::Qemu => virtual_machines::attach(place, exe, id, node, keeper),
    }
}

/// The address of the node with this index.
pub(crate) fn address(family: Family, index: usize) -> IpAddr {
    crate::underlay::address(family, index)
}

/// Any backend's carrier.
pub(crate) type AnyCarrier = Arc<dyn Carrier>;
