//! What every request can reach. The node fills in its parts as it starts; a request that needs one
//! which is not there yet is told what the node waits for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tonic::{Code, Status};
use weft_ebpf::Datapath;
use weft_overlay::NodeId;
use weft_runtime::Runtime;
use weft_store::client::Client;

use super::fault::{fault, unreachable_store};
use super::tracer::Tracer;
use crate::local::LocalState;
use crate::mirror::{Here, Mirror, State, Whole};
use crate::node::NodeConfig;
use crate::storage;

/// How long a request waits for the mirror to see what the store already has.
const CATCH_UP: Duration = Duration::from_secs(5);
/// How long a request that can do with less waits for all documents.
const KNOWN: Duration = Duration::from_secs(2);

/// The datapath; locked for single calls, never across an await.
#[derive(Clone)]
pub struct SharedDatapath(Arc<Mutex<Datapath>>);

impl std::fmt::Debug for SharedDatapath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedDatapath")
    }
}

impl SharedDatapath {
    /// Shares a datapath.
    pub fn new(datapath: Datapath) -> Self {
        Self(Arc::new(Mutex::new(datapath)))
    }
    /// The datapath for one call. Its state is the kernel's, so a panic elsewhere spoils nothing.
    pub fn lock(&self) -> MutexGuard<'_, Datapath> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What exists once the node is registered.
#[derive(Debug)]
pub struct Parts {
    /// The node's id.
    pub node_id: NodeId,
    /// Containers.
    pub runtime: Arc<Runtime>,
    /// Maps and programs.
    pub datapath: SharedDatapath,
    /// Packet events.
    pub tracer: Tracer,
    /// The VXLAN device: its index and name.
    pub overlay: (u32, String),
}

/// What the reconciler tells of its last pass.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A full pass over the store's documents is done.
    pub ready: bool,
    /// What could not be done, by subject.
    pub problems: BTreeMap<String, String>,
    /// What was put back, latest last.
    pub repairs: Vec<Repair>,
    /// The node's memory.
    pub local: Arc<LocalState>,
}

/// Something that somebody had taken away, and that was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// When, Unix ms.
    pub at: u64,
    /// Of what.
    pub subject: String,
    /// What was gone.
    pub lost: String,
}

/// What every request can reach.
#[derive(Debug)]
pub struct Shared {
    /// As told at the start.
    pub config: NodeConfig,
    /// The store.
    pub client: Client,
    /// Its documents that concern this node.
    pub mirror: Mirror,
    /// All of its documents, for whoever asks about the cluster.
    pub whole: Whole,
    /// What is on this node, whatever the documents say.
    pub here: watch::Sender<Here>,
    /// What hinders the node's lease, if anything.
    pub lease: watch::Receiver<Option<String>>,
    /// The last pass.
    pub report: watch::Receiver<Report>,
    /// What exists once the node is registered.
    pub parts: OnceLock<Parts>,
}

impl Shared {
    /// The parts of a started node.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub fn parts(&self) -> Result<&Parts, Status> {
        self.parts.get().ok_or_else(|| {
            let cause = self.mirror.health().unwrap_or_else(|| "not registered yet".to_owned());
            fault(
                Code::Unavailable,
                format!("node {}", self.config.name),
                format!("is starting: {cause}"),
                "wait until `weft status` says ready; a new cluster needs a majority of its members",
            )
        })
    }

    /// All documents, while somebody asks for them.
    fn all(&self) -> Mirror {
        let own = self.mirror.state();
        let cluster = own.and_then(|state| Some(state.cluster.as_ref()?.value.id.clone()));
        self.whole.ask(cluster)
    }

    /// What the store said last; good for reading even when it does not answer now, if need be only what concerns this
    /// node.
    pub async fn known(&self) -> Result<Arc<State>, Status> {
        let all = self.all();
        if let Some(state) = all.state() {
            return Ok(state);
        }
        let read = match self.mirror.health() {
            None => all.wait_for(0, KNOWN).await,
            Some(_) => None,
        };
        read.or_else(|| self.mirror.state()).ok_or_else(|| {
            unreachable_store(
                &self
                    .mirror
                    .health()
                    .unwrap_or_else(|| "not read yet".to_owned()),
            )
        })
    }

    /// What the store says now: everything acknowledged before this call is in it.
    pub async fn fresh(&self) -> Result<Arc<State>, Status> {
        let revision = storage::revision(&self.client)
            .await
            .map_err(|e| super::fault::store(&e))?;
        self.caught_up(revision).await
    }

    /// The documents at `revision` or later.
    pub async fn caught_up(&self, revision: i64) -> Result<Arc<State>, Status> {
        let reached = self.all().wait_for(revision, CATCH_UP).await;
        reached.ok_or_else(|| {
            unreachable_store(&format!(
                "its changes up to revision {revision} did not arrive in {CATCH_UP:?}"
            ))
        })
    }

    /// What keeps the store from answering, if anything.
    pub fn store_error(&self) -> Option<String> {
        self.mirror.health().or_else(|| self.lease.borrow().clone())
    }
}
