//! `[[step]]`: what the lab asserts, in order.
//!
//! Owns: the steps as types and in words. `read` reads them, `known` judges what they refer to.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use weft_overlay::{ContainerRef, NetworkRef, NodeName};

use super::Probe;

mod known;
mod read;

pub(super) use read::{read, read_alone};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// By when it must hold.
    pub within: Duration,
    /// Its line in the file.
    pub line: usize,
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
    /// A link of the lab is set up or down.
    Link {
        /// Its ends.
        between: [NodeName; 2],
        /// What it becomes.
        state: LinkState,
    },
    /// A command on a node ends with 0.
    Run {
        /// Where.
        node: NodeName,
        /// What.
        command: Vec<String>,
    },
}

/// Whom a step probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A container of the file.
    Container(ContainerRef),
    /// An address in the asking container's network.
    Address(IpAddr),
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

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Container(name) => name.fmt(f),
            Target::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepKind::Reach {
                from,
                to,
                traffic,
                via,
            } => {
                write!(f, "{from} reaches {to} on {traffic}")?;
                if via.is_empty() {
                    Ok(())
                } else {
                    write!(f, " via {}", via.join(", "))
                }
            }
            StepKind::Blocked {
                from,
                to,
                traffic,
                by,
            } => {
                write!(f, "{from} to {to} on {traffic} is blocked by {by}")
            }
            StepKind::Dropped {
                from,
                to,
                traffic,
                reason,
            } => {
                write!(f, "{from} to {to} on {traffic} is dropped: {reason}")
            }
            StepKind::Isolated([a, b]) => write!(f, "{a} and {b} are isolated"),
            StepKind::Link {
                between: [a, b],
                state,
            } => {
                let state = if *state == LinkState::Up {
                    "up"
                } else {
                    "down"
                };
                write!(f, "link {a} to {b} is set {state}")
            }
            StepKind::Run { node, command } => write!(f, "on {node}: {}", command.join(" ")),
        }
    }
}
