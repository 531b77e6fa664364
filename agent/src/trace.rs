//! Joins what the nodes saw into packets, and each packet's observations into a ladder.
//!
//! Pure. A ladder holds only what was observed; where a step must have followed and no source
//! reported one, it says so ([`Step::Missing`]) and never fills it in from intent.

mod ladder;
mod packets;

use crate::proto::Observation;

pub use packets::join;

/// One packet's way.
#[derive(Clone, Debug, PartialEq)]
pub struct Ladder {
    /// The packet as first seen.
    pub first: Observation,
    /// Its steps in causal order.
    pub steps: Vec<Step>,
    /// How it ended, as far as was seen.
    pub outcome: Outcome,
    /// Further TCP segments of it that were seen on their own: it was cut on the way.
    pub segments: usize,
}

/// One rung.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A node reported it.
    Seen {
        /// The report.
        observation: Box<Observation>,
        /// Ns since the previous step seen on the same node; `None` for the first of a node.
        since_previous: Option<u64>,
    },
    /// A step had to follow here and nobody reported one.
    Missing {
        /// The node that should have seen it.
        node: String,
        /// What is missing, e.g. "not seen on n2 after n1 sent it there".
        what: String,
    },
}

/// How a packet's way ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered to an endpoint.
    Delivered {
        /// The endpoint, or its port.
        endpoint: String,
    },
    /// Dropped by weft.
    Dropped {
        /// Where.
        node: String,
        /// The drop reason's name.
        reason: String,
    },
    /// Answered by weft itself (ARP, neighbour discovery).
    Answered {
        /// Where.
        node: String,
    },
    /// The trail ends without a verdict.
    Unknown,
}

#[cfg(test)]
mod tests;
