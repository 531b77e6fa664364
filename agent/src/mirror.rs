//! The store's documents as this node knows them.
//!
//! One task reads everything at a revision, then watches from the next; after a compaction it reads
//! again. Until the first full read there is no [`State`] at all, so nobody can act on a part of it.
//! While the store cannot be reached the last state stays, and [`Health`] says so. So it does when the
//! store no longer is the cluster's that the node belongs to: an emptied store, or another one, is no
//! proof that anything is to go.

mod state;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weft_overlay::keys::ROOT;
use weft_store::client::{Client, Event, EventKind, KeyRange, RangeOptions};

pub use state::{ChainKey, Doc, InstanceKey, State, VersionKey};

/// Whether the store answers; `None` = it does.
pub type Health = Option<String>;

/// The reading end of the mirror.
#[derive(Clone, Debug)]
pub struct Mirror {
    state: watch::Receiver<Option<Arc<State>>>,
    health: watch::Receiver<Health>,
}

/// Pause before the store is tried again, and the most of it; the store's client adds jitter of its own.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(1);

impl Mirror {
    /// A mirror and the task that keeps it; the owner spawns and aborts it. `cluster` is the id of the
    /// cluster that the node belongs to, if it does yet.
    pub fn new(
        client: Client,
        cluster: Option<String>,
    ) -> (Mirror, impl Future<Output = ()> + Send + 'static) {
        let (state_tx, state) = watch::channel(None);
        let (health_tx, health) = watch::channel(Some("not read yet".to_owned()));
        let keep = keep(client, cluster, state_tx, health_tx);
        (Mirror { state, health }, keep)
    }

    /// A mirror that only shows `state`.
    #[cfg(test)]
    pub fn fixed(state: State) -> Mirror {
        let (_, state) = watch::channel(Some(Arc::new(state)));
        let (_, health) = watch::channel(None);
        Mirror { state, health }
    }

    /// The documents; `None` before the first full read.
    pub fn state(&self) -> Option<Arc<State>> {
        self.state.borrow().clone()
    }

    /// What keeps the store from answering, if anything.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
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

async fn keep(
    client: Client,
    mut cluster: Option<String>,
    state: watch::Sender<Option<Arc<State>>>,
    health: watch::Sender<Health>,
) {
    let mut pause = RETRY_FIRST;
    while !state.is_closed() {
        let old = state.borrow().clone();
        let read = read_all(&client, old.as_deref()).await;
        let error = match read.and_then(|read| same_cluster(&mut cluster, read)) {
            Ok(read) => {
                pause = RETRY_FIRST;
                health.send_replace(None);
                let next = read.revision + 1;
                state.send_replace(Some(Arc::new(read)));
                follow(&client, next, &mut cluster, &state).await
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "the store's documents are read anew");
        health.send_replace(Some(error));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

/// Everything at one revision; what cannot be read stays as `old` had it.
async fn read_all(client: &Client, old: Option<&State>) -> Result<State, String> {
    let options = RangeOptions::default();
    let reply = client
        .range(KeyRange::prefix(ROOT), options)
        .await
        .map_err(|e| e.to_string())?;
    let mut state = State {
        revision: reply.revision,
        ..State::default()
    };
    for kv in &reply.kvs {
        state.put(kv.key_str(), &kv.value, kv.mod_revision);
    }
    match old {
        Some(old) => state.keep_readable(old),
        None => state.first_reading(),
    }
    Ok(state)
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

/// Takes in changes from `next` on, until the watch cannot go on; returns why.
async fn follow(
    client: &Client,
    next: i64,
    cluster: &mut Option<String>,
    state: &watch::Sender<Option<Arc<State>>>,
) -> String {
    let mut stream = client.watch(KeyRange::prefix(ROOT), next);
    loop {
        match stream.next().await {
            Some(Ok(batch)) => {
                let mut changed = state.borrow().as_deref().cloned().unwrap_or_default();
                batch.events.iter().for_each(|e| take(&mut changed, e));
                changed.revision = changed.revision.max(batch.revision);
                match same_cluster(cluster, changed) {
                    Ok(changed) => state.send_replace(Some(Arc::new(changed))),
                    Err(error) => return error,
                };
            }
            Some(Err(error)) => return error.to_string(),
            None => return "the watch of the documents ended".to_owned(),
        }
    }
}

fn take(state: &mut State, event: &Event) {
    match event.kind {
        EventKind::Put => state.put(event.kv.key_str(), &event.kv.value, event.kv.mod_revision),
        EventKind::Delete => state.delete(event.kv.key_str()),
    }
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
