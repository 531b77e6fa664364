//! What a node is made of, and its life from start to SIGTERM.
//!
//! Owns: the configuration, the order in which the parts start and stop. Never: stops containers or
//! detaches the datapath; both outlive the agent.

mod lease;
pub(crate) mod nodes;
pub(crate) mod overlay_device;
mod register;
mod run;
mod store;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use weft_overlay::NodeName;
use weft_store::server::InitialClusterState;

pub use run::{run, run_until};

/// The API's socket in the run directory.
const SOCKET: &str = "weft.sock";

/// Everything `weft node run` is told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name.
    pub name: NodeName,
    /// Its address on the underlay: VTEP, store and API are reached there.
    pub advertise: IpAddr,
    /// The underlay's interfaces; the smallest of their MTUs bounds the networks'.
    pub underlay: Vec<String>,
    /// What survives a reboot, e.g. `/var/lib/weft`.
    pub state_dir: PathBuf,
    /// Sockets and the containers' run state, e.g. `/run/weft`.
    pub run_dir: PathBuf,
    /// Pins, e.g. `/sys/fs/bpf/weft/n1`.
    pub bpf_dir: PathBuf,
    /// Parent of the containers' cgroups, e.g. `weft/n1`.
    pub cgroup_parent: String,
    /// The store.
    pub store: StoreConfig,
    /// How long the node counts as alive without a keep-alive.
    pub lease_ttl: Duration,
    /// TCP port of the API for other agents.
    pub api_port: u16,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// How long subnets of a node that is gone are kept for it.
    pub hold: Duration,
}

/// Where the store is.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// This process runs a member.
    Embedded {
        /// `(name, peer URL)` of all first members; empty: a single member.
        initial_cluster: Vec<(String, String)>,
        /// Whether this member founds the cluster with them, or lost its data and is filled from them.
        initial_cluster_state: InitialClusterState,
        /// Port for clients.
        client_port: u16,
        /// Port for other members.
        peer_port: u16,
    },
    /// Members elsewhere.
    External {
        /// `http://host:port` each.
        endpoints: Vec<String>,
    },
}

/// Why a node could not start or go on.
#[derive(Debug, thiserror::Error)]
#[error("{subject}: {cause}\nhelp: {help}")]
pub struct NodeError {
    /// What it is about.
    pub subject: String,
    /// What happened.
    pub cause: String,
    /// The next step.
    pub help: String,
}

impl NodeConfig {
    /// Where the API listens for other agents.
    pub fn api_address(&self) -> SocketAddr {
        SocketAddr::new(self.advertise, self.api_port)
    }
    /// The API's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET)
    }
}

impl NodeError {
    fn new(subject: impl ToString, cause: impl ToString, help: impl ToString) -> NodeError {
        NodeError {
            subject: subject.to_string(),
            cause: cause.to_string(),
            help: help.to_string(),
        }
    }
}

/// An error with what it came from: "this: that: the cause".
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}

/// A pause that grows with the attempts and differs between nodes, so that they do not meet again.
pub(crate) fn jitter(first: Duration, attempt: u32) -> Duration {
    // Version 4 UUIDs are random; no other source of randomness is needed here.
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    let most = first.saturating_mul(1 << attempt.min(6));
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
        .max(first / 2)
}
