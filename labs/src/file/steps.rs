//! `[[step]]`: what the lab asserts and does, in order.
//!
//! Owns: the steps as types and in words. `read` reads them, `known` judges what they refer to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use weft_overlay::{ContainerRef, NetworkRef, NodeName};

use super::{Changes, Link, Probe};
use crate::site::Site;

mod apply;
mod known;
mod read;
mod words;

pub(super) use known::Known;
pub(super) use read::read;
pub(crate) use words::ends;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// By when it must hold.
    pub within: Duration,
    /// Its line in the file.
    pub line: usize,
    /// Its place among the file's steps, from 1.
    pub number: usize,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    /// An answer comes back, by way of these hops.
    Reach {
        /// Who asks.
        from: ContainerRef,
        /// Who answers.
        to: Target,
        /// With what.
        traffic: Probe,
        /// Names of hops that the packet must pass, in order.
        via: Vec<String>,
    },
    /// No answer: the named hop took the packet in and kept it.
    Blocked {
        /// Who asks.
        from: ContainerRef,
        /// Who does not answer.
        to: Target,
        /// With what.
        traffic: Probe,
        /// The hop that keeps it.
        by: String,
    },
    /// No answer: a node dropped the packet for this reason.
    Dropped {
        /// Who asks.
        from: ContainerRef,
        /// To whom.
        to: Target,
        /// With what.
        traffic: Probe,
        /// The drop reason's name.
        reason: String,
    },
    /// Nothing sent in one network is answered from the other.
    Isolated([NetworkRef; 2]),
    /// A link of the lab becomes another.
    Link {
        /// Its nodes.
        between: Vec<NodeName>,
        /// What it becomes.
        change: LinkChange,
    },
    /// Frames came out of a link since the step before began, or none did.
    Capture(Capture),
    /// A command ends as told.
    Run {
        /// Where.
        on: Machine,
        /// What.
        command: Vec<String>,
        /// The exit code that it ends with.
        exit: i32,
        /// What its output has in it.
        text: Option<String>,
    },
    /// A signal is sent.
    Kill {
        /// To whom.
        what: Subject,
        /// Which.
        signal: Signal,
        /// Whether its disk loses power with it.
        power: bool,
    },
    /// What was killed runs again.
    Start(Subject),
    /// All processes of it stop and stay.
    Pause(Subject),
    /// The end of a pause.
    Resume(Subject),
    /// Until something holds.
    Wait(Condition),
    /// A file is applied.
    Apply(AppliedFile),
    /// A stream in the background begins.
    Stream(Stream),
    /// A stream has ended, and so.
    Judge {
        /// Which stream.
        name: String,
        /// At most so many datagrams without answer.
        lost: Option<u64>,
        /// The longest time without an answer.
        gap: Option<Duration>,
    },
}

/// Where a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// On a node.
    Node(NodeName),
    /// In a container.
    Container(ContainerRef),
}

/// What can be killed, started and paused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The agent's process on a node.
    Agent(NodeName),
    /// A node with all that runs on it.
    Node(NodeName),
    /// A container.
    Container(ContainerRef),
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The node's agent says that it is ready.
    Ready(NodeName),
    /// The other nodes do not see the node any more.
    Lost(NodeName),
    /// The container has this state.
    Container(ContainerRef, String),
    /// Just this long.
    Time(Duration),
}

/// A chain or site file that a step applies, read along with the lab.
#[derive(Clone, Debug, PartialEq)]
pub struct AppliedFile {
    /// As named in the step.
    pub file: String,
    /// What it holds.
    pub site: Site,
    /// What `weft apply -f` takes: `site.toml` and its chain files.
    pub files: BTreeMap<String, String>,
}

/// A stream of datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name, for the step that judges it.
    pub name: String,
    /// Who sends.
    pub from: ContainerRef,
    /// Who answers.
    pub to: Target,
    /// With what.
    pub traffic: Probe,
    /// Datagrams a second.
    pub rate: u32,
    /// How long it goes on.
    pub duration: Duration,
}

/// Whom a step probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A container of the file, at its first address.
    Container(ContainerRef),
    /// A container of the file, at its first address of one family.
    Family(ContainerRef, Family),
    /// An address in the asking container's network.
    Address(IpAddr),
}

/// Frames of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its nodes.
    pub link: Vec<NodeName>,
    /// Which frames.
    pub filter: Probe,
    /// Whether there must be some, or none.
    pub present: bool,
    /// Only those that reach this node.
    pub to: Option<NodeName>,
}

/// What a link becomes.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkChange {
    /// Its devices.
    pub state: Option<LinkState>,
    /// Whose frames the changes are about; none: all nodes'.
    pub from: Option<NodeName>,
    /// What it does to frames from now on.
    pub changes: Changes,
}

impl StepKind {
    /// Whether it looks at this link's frames.
    pub(in crate::file) fn watches(&self, link: &Link) -> bool {
        matches!(self, StepKind::Capture(capture) if link.joins(&capture.link))
    }

    /// Whether it changes what this link does to frames.
    pub(in crate::file) fn changes(&self, link: &Link) -> bool {
        match self {
            StepKind::Link { between, change } => link.joins(between) && !change.changes.is_empty(),
            _ => false,
        }
    }
}

/// Which kind of address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// 32 bits.
    #[default]
    Ipv4,
    /// 128 bits.
    Ipv6,
}

impl Family {
    /// Whether the address is of it.
    pub(crate) fn has(self, address: IpAddr) -> bool {
        address.is_ipv6() == (self == Family::Ipv6)
    }
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Carries packets.
    Up,
    /// Carries none.
    Down,
}

impl LinkState {
    /// As it stands in a file.
    pub(crate) fn word(self) -> &'static str {
        match self {
            LinkState::Up => "up",
            LinkState::Down => "down",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Container(name) => name.fmt(f),
            Target::Family(name, Family::Ipv4) => write!(f, "{name} over IPv4"),
            Target::Family(name, Family::Ipv6) => write!(f, "{name} over IPv6"),
            Target::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Machine::Node(name) => name.fmt(f),
            Machine::Container(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Agent(name) => write!(f, "agent {name}"),
            Subject::Node(name) => write!(f, "node {name}"),
            Subject::Container(name) => write!(f, "container {name}"),
        }
    }
}
