//! One member of the store: opens its files, joins Raft, serves clients and peers, and stops in order.

mod admission;
pub mod config;
pub(crate) mod identity;
pub(crate) mod node;
mod snapshots;
pub(crate) mod standing;
mod start;
mod tasks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use config::{Config, InitialClusterState, parse_initial_cluster};
use node::Node;

/// Why a member could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("store configuration: {0}")]
    Config(String),
    /// A folder or file.
    #[error("store data {path}: {doing}: {source}")]
    Data {
        /// Folder or file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process uses the data folder.
    #[error(
        "store data {path} is in use by another process; stop it, or give this member its own folder"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder belongs to another member or cluster.
    #[error(
        "store data {path} belongs to {found}, not to {wanted}; give the right folder; another member's folder is never emptied to make room"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who came.
        wanted: String,
    },
    /// The folder is empty, but the cluster knows this member: what it had acknowledged is gone.
    #[error(
        "store member {name}: data {path} is gone: {detail}; it must not vote with an empty folder. Bring the folder back if it exists. If it is lost, move what is left of it away and start this member with `--initial-cluster-state existing` while all the others are up: it is filled from them before it votes again. Empty no other member's folder meanwhile"
    )]
    Emptied {
        /// The member.
        name: String,
        /// The folder.
        path: PathBuf,
        /// How it shows.
        detail: String,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] crate::raft::log_store::OpenError),
    /// An address cannot be listened at.
    #[error("store: listen at {address} for {what}: {source}; is another member running here?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Clients or peers.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// Raft refused to start or stopped.
    #[error("store member {name}: {doing}: {detail}")]
    Raft {
        /// The member.
        name: String,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        detail: String,
    },
    /// No leader in time.
    #[error(
        "store member {name} found no leader within {seconds} s; are {quorum} of {members} members up and reachable at their peer URLs?"
    )]
    NoLeader {
        /// The member.
        name: String,
        /// Time waited.
        seconds: u64,
        /// Members needed.
        quorum: usize,
        /// Members there should be.
        members: usize,
    },
}

/// How long connections may take to end at a stop.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// A running member. Dropping it ends its tasks; [`Server::shutdown`] also waits for them and closes the files.
pub struct Server {
    node: Arc<Node>,
    client_addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// Held locked while the member runs.
    _lock: std::fs::File,
}

impl Server {
    /// Starts the member; returns once it serves. A cluster without a quorum serves too, and says that it has no leader.
    pub async fn start(config: Config) -> Result<Server, Error> {
        start::start(config).await
    }

    /// The member's id, as `member list` shows it.
    pub fn id(&self) -> u64 {
        self.node.id
    }

    /// Addresses at which clients are served (with the real port where 0 was asked for).
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// Whether this member leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.node.raft.is_leader()
    }

    /// Why this member may never take part with its folder, if that is so.
    fn refused(&self) -> Result<(), Error> {
        match self.node.standing.gate() {
            standing::Gate::Refused(detail) => Err(Error::Emptied {
                name: self.node.config.name.clone(),
                path: self.node.config.data_dir.clone(),
                detail,
            }),
            _ => Ok(()),
        }
    }

    /// Whether this member votes and acknowledges: not while its folder is new and the others have not answered.
    pub fn is_member(&self) -> bool {
        self.node.standing.open()
    }

    /// Waits until a leader is known and this member has applied what was committed before.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<(), Error> {
        let ready = async {
            while self.node.read_barrier().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(timeout, ready).await.is_ok() {
            return Ok(());
        }
        self.refused()?;
        let members = self.node.config.initial_cluster.len();
        Err(Error::NoLeader {
            name: self.node.config.name.clone(),
            seconds: timeout.as_secs(),
            quorum: members / 2 + 1,
            members,
        })
    }

    /// Stops serving and closes the files.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        let _ = self.stop.send(true);
        let stopped = self.node.raft.shutdown().await;
        for mut task in self.tasks.drain(..) {
            // Streams have been told to end; a client that does not read its last answers is not waited for.
            if tokio::time::timeout(LAST_ANSWERS, &mut task).await.is_err() {
                task.abort();
                let _ = task.await;
            }
        }
        let node = self.node.clone();
        let _ = tokio::task::spawn_blocking(move || node.mvcc.flush()).await;
        stopped.map_err(|e| Error::Raft {
            name: self.node.config.name.clone(),
            doing: "stop",
            detail: e.to_string(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        for task in &self.tasks {
            task.abort();
        }
        // Raft's own tasks end when its last handle goes; asked for here so that it does not wait for open streams.
        let raft = self.node.raft.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { raft.shutdown().await });
        }
    }
}
