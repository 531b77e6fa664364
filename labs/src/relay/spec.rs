//! What a relay joins, as it is told at its start and over its control socket. Owns: the form in JSON
//! and what of it cannot be. Never: opens anything.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::impairment::Impairment;

/// A relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySpec {
    /// Of all chance. The same seed and frames lose the same frames.
    pub seed: u64,
    /// Where the control socket is made.
    pub control: PathBuf,
    /// Datagrams that a unix socket holds (net.unix.max_dgram_qlen, 10 at boot): written before
    /// sockets are made, so only for a relay in a network namespace of its own.
    #[serde(default)]
    pub socket_queue: Option<u32>,
    /// What is joined.
    #[serde(default)]
    pub links: Vec<LinkSpec>,
    /// The file of [`Request::Save`](super::Request::Save) to go on from; its links come before `links`. The relay then
    /// stands until it is told to go.
    #[serde(default)]
    pub state: Option<PathBuf>,
}

/// A link or a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// Unique in the relay.
    pub name: String,
    /// How frames find their way.
    pub kind: LinkKind,
    /// Who is joined.
    pub ends: Vec<EndSpec>,
    /// For what each end sends.
    #[serde(default)]
    pub impairment: Impairment,
}

/// How frames find their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// Two ends, each hears the other.
    Wire,
    /// Any number of ends at a learning switch.
    Segment,
}

/// One end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSpec {
    /// The node's name, unique in the link: how control requests call this end.
    pub node: String,
    /// What is read and written.
    pub port: PortSpec,
}

/// What is read and written at an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PortSpec {
    /// Datagrams of one frame each, as QEMU's `-netdev dgram,local.type=unix,remote.type=unix` has
    /// them. The names are the relay's: QEMU's local is the relay's remote.
    Unix {
        /// Bound by the relay.
        local: PathBuf,
        /// Sent to; it need not be there yet, and may come again.
        remote: PathBuf,
    },
    /// A TAP device, made in a network namespace. The kernel hands over whole frames: no offloads.
    Tap {
        /// A namespace's path, as /proc/PID/ns/net.
        netns: PathBuf,
        /// The device's name in it.
        device: String,
    },
}

impl LinkSpec {
    /// The first thing that is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let subject = format!("link {}", self.name);
        if self.kind == LinkKind::Wire && self.ends.len() != 2 {
            let count = self.ends.len();
            return Err(format!("{subject}: a wire has two ends, not {count}"));
        }
        for (index, end) in self.ends.iter().enumerate() {
            if self.ends[..index].iter().any(|e| e.node == end.node) {
                return Err(format!("{subject}: {} is at two of its ends", end.node));
            }
        }
        self.impairment
            .check()
            .map_err(|cause| format!("{subject}: {cause}"))
    }
}
