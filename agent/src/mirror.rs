//! The store's documents as this node knows them.
//!
//! - `interest`: which of them a node must know. `own`: keeps those, by a watch for each network, container and tenant's
//!   chains; it is what the node acts on. `whole`: keeps all of them while somebody asks this node about the cluster.
//! - `state`: documents, parsed.
//!
//! Until the first full read there is no [`State`] at all, so nobody can act on a part of it. While the store cannot be
//! reached the last state stays, and [`Health`] says so. So it does when the store no longer is the cluster's that the
//! node belongs to: an emptied store, or another one, is no proof that anything is to go.

mod interest;
mod own;
mod state;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use weft_overlay::keys::ROOT;
use weft_store::client::{Client, Event, EventKind, KeyRange, RangeOptions};

pub use interest::{Here, Part, interest};
pub use state::{ChainKey, Doc, InstanceKey, State, VersionKey};
pub use whole::Whole;

/// Whether the store answers; `None` = it does.
pub type Health = Option<String>;

/// The reading end of documents that are kept up to date.
#[derive(Clone, Debug)]
pub struct Mirror {
    state: watch::Receiver<Option<Arc<State>>>,
    health: watch::Receiver<Health>,
    told: Arc<AtomicU64>,
}

/// The writing end.
#[derive(Debug)]
struct Keeper {
    client: Client,
    /// The id of the cluster that the node belongs to, if it does yet.
    cluster: Option<String>,
    state: watch::Sender<Option<Arc<State>>>,
    health: watch::Sender<Health>,
    told: Arc<AtomicU64>,
}

/// Pause before the store is tried again, and the most of it; the store's client adds jitter of its own.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// Both ends; nothing is read yet.
fn ends(client: Client, cluster: Option<String>) -> (Mirror, Keeper) {
    let (state_tx, state) = watch::channel(None);
    let (health_tx, health) = watch::channel(Some("not read yet".to_owned()));
    let told = Arc::new(AtomicU64::new(0));
    let mirror = Mirror {
        state,
        health,
        told: Arc::clone(&told),
    };
    let keeper = Keeper {
        client,
        cluster,
        state: state_tx,
        health: health_tx,
        told,
    };
    (mirror, keeper)
}

impl Mirror {
    /// A mirror that only shows `state`.
    #[cfg(test)]
    pub fn fixed(state: State) -> Mirror {
        let (_, state) = watch::channel(Some(Arc::new(state)));
        let (_, health) = watch::channel(None);
        let told = Arc::default();
        Mirror {
            state,
            health,
            told,
        }
    }

    /// The documents; `None` before the first full read.
    pub fn state(&self) -> Option<Arc<State>> {
        self.state.borrow().clone()
    }

    /// What keeps the store from answering, if anything.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// How many changes of documents it was told of.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Returns when the documents change; `false` when the mirror has ended.
    pub async fn changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    /// Waits until the mirror has reached `revision`; `None` after `limit`.
    pub async fn wait_for(&self, revision: i64, limit: Duration) -> Option<Arc<State>> {
        let mut state = self.state.clone();
        let reached = state.wait_for(|s| s.as_ref().is_some_and(|s| s.revision >= revision));
        tokio::time::timeout(limit, reached)
            .await
            .ok()?
            .ok()?
            .clone()
    }
}

impl Keeper {
    /// Reads everything and follows it, again and again: `follow` returns why it could not go on.
    async fn keep(mut self, mut follow: impl AsyncFnMut(&mut Keeper, State) -> String) {
        let mut pause = RETRY_FIRST;
        while !self.state.is_closed() {
            let old = self.state.borrow().clone();
            let read = read_all(&self.client, old.as_deref()).await;
            let error = match read.and_then(|read| same_cluster(&mut self.cluster, read)) {
                Ok(read) => {
                    pause = RETRY_FIRST;
                    follow(&mut self, read).await
                }
                Err(error) => error,
            };
            tracing::warn!(%error, "the store's documents are read anew");
            self.health.send_replace(Some(error));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }

    /// Shows documents of the node's cluster.
    fn show(&mut self, state: State) -> Result<(), String> {
        let state = same_cluster(&mut self.cluster, state)?;
        self.state.send_replace(Some(Arc::new(state)));
        self.health
            .send_if_modified(|health| health.take().is_some());
        Ok(())
    }

    /// Takes changes into documents.
    fn take(&self, state: &mut State, events: &[Event]) {
        self.told.fetch_add(events.len() as u64, Ordering::Relaxed);
        for event in events {
            let key = event.kv.key_str();
            match event.kind {
                EventKind::Put => state.put(key, &event.kv.value, event.kv.mod_revision),
                EventKind::Delete => state.delete(key),
            }
        }
    }
}

/// All documents as they are now, for once.
pub async fn everything(client: &Client) -> Result<State, String> {
    read_all(client, None).await
}

/// Everything at one revision; what cannot be read stays as `old` had it.
async fn read_all(client: &Client, old: Option<&State>) -> Result<State, String> {
    let mut state = State::default();
    state.revision = read(client, KeyRange::prefix(ROOT), &mut state).await?;
    match old {
        Some(old) => state.keep_readable(old),
        None => state.first_reading(),
    }
    Ok(state)
}

/// Reads a range into documents; the revision that it was read at.
async fn read(client: &Client, range: KeyRange, state: &mut State) -> Result<i64, String> {
    let options = RangeOptions::default();
    let reply = client.range(range, options).await;
    let reply = reply.map_err(|e| e.to_string())?;
    for kv in &reply.kvs {
        state.put(kv.key_str(), &kv.value, kv.mod_revision);
    }
    Ok(reply.revision)
}

/// Passes a state of the node's cluster on; the first cluster that is seen is the node's from then on.
fn same_cluster(cluster: &mut Option<String>, state: State) -> Result<State, String> {
    let there = state.cluster.as_ref().map(|doc| &doc.value.id);
    match (&*cluster, there) {
        (Some(mine), _) if there != Some(mine) => {
            let seen = there.map_or("no cluster document".to_owned(), |c| format!("cluster {c}"));
            return Err(format!(
                "it holds {seen}, and this node belongs to cluster {mine}; everything stays as it is \
                 until the cluster's own data is back"
            ));
        }
        (None, Some(there)) => *cluster = Some(there.clone()),
        _ => {}
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cluster: Option<&str>) -> State {
        let mut state = State::default();
        if let Some(id) = cluster {
            let json = format!(r#"{{"id":"{id}","format":{{"min":1,"max":1}},"next_node":2}}"#);
            state.put("/weft/v1/cluster", json.as_bytes(), 1);
        }
        state
    }

    #[test]
    fn a_node_follows_its_own_cluster_alone() {
        let mut cluster = None;
        assert!(
            same_cluster(&mut cluster, of(None)).is_ok(),
            "nobody registered yet"
        );
        assert!(same_cluster(&mut cluster, of(Some("a"))).is_ok());
        assert_eq!(cluster.as_deref(), Some("a"));
        for other in [None, Some("b")] {
            let error = same_cluster(&mut cluster, of(other)).unwrap_err();
            assert!(error.contains("belongs to cluster a"), "{error}");
        }
        assert!(same_cluster(&mut cluster, of(Some("a"))).is_ok());
    }
}
