//! Whether tunnels pass between all nodes: what each node found of its ways to the others, and what that means.
//!
//! - `search`: how large a packet a way takes. - `clock`: how far two clocks are apart. - `judge`: from what all nodes found
//!   to a row for each direction of each pair, and findings with the next step. All pure.
//!
//! A way is probed in one direction: the node at its end notes what arrives, in its kernel, and is asked afterwards. So one
//! that is blocked is told from the way back that is, which an answer alone cannot tell.
//!
//! Never: guesses. Where a node could not be asked, its ways say so.

mod clock;
mod judge;
mod search;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_overlay::NodeName;

pub use clock::{Apart, Reading, apart};
pub use judge::{Finding, Report, Row, Verdict, judge};
pub use search::Search;

/// A node as the documents have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub name: NodeName,
    /// Where its tunnels end.
    pub vteps: Vec<IpAddr>,
    /// It has a lease.
    pub alive: bool,
}

/// What a node found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The node.
    pub node: NodeName,
    /// A packet filter of the node looks at what comes in.
    pub filtered: bool,
    /// Its ways.
    pub ways: Vec<Way>,
}

/// What a node found of its way to a VTEP of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The other node.
    pub to: NodeName,
    /// Its VTEP.
    pub vtep: IpAddr,
    /// The other's agent told what arrived; else why not.
    pub told: Result<(), String>,
    /// Something arrived there, as far as is known.
    pub arrived: bool,
    /// The fastest answer.
    pub round_trip: Option<Duration>,
    /// Why the node itself did not send, or what came back instead of an answer.
    pub refused: Option<Refused>,
    /// The largest packet that arrived, bytes of outer IP packet.
    pub takes: u32,
    /// The largest that both ends say that they take.
    pub full: u32,
    /// Of small packets, one after the other, how many arrived of how many.
    #[serde(default)]
    pub passed: Passed,
    /// How far the other's clock is ahead.
    pub clock: Option<Apart>,
}

/// Packets that were sent and that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// So many arrived, as far as is known.
    pub arrived: u32,
    /// So many were sent.
    pub sent: u32,
}

/// Why a probe was not even sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The node's own packet filter.
    Filter,
    /// Nothing at the other end takes tunnels, it says.
    Port,
    /// There is no route, or another node on the way says so.
    Route,
    /// Something else.
    Other(String),
}
