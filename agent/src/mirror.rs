//! The store's documents as this node knows them.
//!
//! One task reads everything at a revision, then watches from the next; after a compaction it reads
//! again. Until the first full read there is no [`State`] at all, so nobody can act on a part of it.
//! While the store cannot be reached the last state stays, and [`Health`] says so.

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
    /// A mirror and the task that keeps it; the owner spawns and aborts it.
    pub fn new(client: Client) -> (Mirror, impl Future<Output = ()> + Send + 'static) {
        let (state_tx, state) = watch::channel(None);
        let (health_tx, health) = watch::channel(Some("not read yet".to_owned()));
        (Mirror { state, health }, keep(client, state_tx, health_tx))
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
    state: watch::Sender<Option<Arc<State>>>,
    health: watch::Sender<Health>,
) {
    let mut pause = RETRY_FIRST;
    while !state.is_closed() {
        let error = match read_all(&client).await {
            Ok(read) => {
                pause = RETRY_FIRST;
                health.send_replace(None);
                let next = read.revision + 1;
                state.send_replace(Some(Arc::new(read)));
                follow(&client, next, &state).await
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "the store's documents are read anew");
        health.send_replace(Some(error));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

async fn read_all(client: &Client) -> Result<State, String> {
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
    Ok(state)
}

/// Takes in changes from `next` on, until the watch cannot go on; returns why.
async fn follow(client: &Client, next: i64, state: &watch::Sender<Option<Arc<State>>>) -> String {
    let mut stream = client.watch(KeyRange::prefix(ROOT), next);
    loop {
        match stream.next().await {
            Some(Ok(batch)) => {
                state.send_modify(|state| {
                    let state = Arc::make_mut(state.get_or_insert_default());
                    batch.events.iter().for_each(|event| take(state, event));
                    state.revision = state.revision.max(batch.revision);
                });
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
