//! All documents, kept while somebody asks this node about the cluster: lists, applies, explanations. A node that nobody
//! asks does not hear of what does not concern it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use weft_overlay::keys::ROOT;
use weft_store::client::{Client, KeyRange};

use super::{Keeper, Mirror, State, ends};

/// How long they are kept after the last question: a person's next command comes within it.
const KEPT: Duration = Duration::from_secs(60);
/// How often it is looked whether the store is back, whose last words are kept until then.
const LOOK: Duration = Duration::from_secs(1);

/// All documents, on demand.
#[derive(Debug)]
pub struct Whole {
    client: Client,
    /// The cluster that the node remembers to belong to.
    cluster: Option<String>,
    kept: Arc<Mutex<Option<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    mirror: Mirror,
    asked: Instant,
    task: JoinHandle<()>,
}

impl Whole {
    /// Nothing is read before it is asked for. `cluster` is what the node remembers: an emptied store, or another
    /// cluster's, is shown to nobody, and nobody writes into it by what it says.
    pub fn new(client: Client, cluster: Option<String>) -> Whole {
        Whole {
            client,
            cluster,
            kept: Arc::default(),
        }
    }

    /// All documents from now on, at first perhaps not read yet; `cluster` is the one that the node belongs to, if it
    /// was not remembered.
    pub fn ask(&self, cluster: Option<String>) -> Mirror {
        let mut kept = lock(&self.kept);
        let mirror = match &*kept {
            Some(there) if !there.task.is_finished() => there.mirror.clone(),
            _ => {
                let cluster = self.cluster.clone().or(cluster);
                let (mirror, keeper) = ends(self.client.clone(), cluster);
                let task = tokio::spawn(keep(keeper, Arc::clone(&self.kept)));
                *kept = Some(Kept {
                    mirror: mirror.clone(),
                    asked: Instant::now(),
                    task,
                });
                mirror
            }
        };
        if let Some(there) = &mut *kept {
            there.asked = Instant::now();
        }
        mirror
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(kept) = lock(&self.kept).take() {
            kept.task.abort();
        }
    }
}

fn lock(kept: &Mutex<Option<Kept>>) -> MutexGuard<'_, Option<Kept>> {
    // It holds together after every step, so a panic elsewhere spoils nothing.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep(keeper: Keeper, kept: Arc<Mutex<Option<Kept>>>) {
    tokio::select! {
        () = keeper.keep(follow) => {}
        () = unasked(&kept) => {}
    }
}

/// Returns when nobody has asked for long, with nothing kept any more.
async fn unasked(kept: &Mutex<Option<Kept>>) {
    loop {
        let wait = {
            let mut kept = lock(kept);
            let Some(there) = &*kept else {
                return;
            };
            let left = KEPT.saturating_sub(there.asked.elapsed());
            match (left.is_zero(), there.mirror.health()) {
                (true, None) => {
                    *kept = None;
                    return;
                }
                (true, Some(_)) => LOOK,
                (false, _) => left,
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Takes in changes until the watch cannot go on; returns why.
async fn follow(keeper: &mut Keeper, read: State) -> String {
    let next = read.revision + 1;
    if let Err(error) = keeper.show(read) {
        return error;
    }
    let mut stream = keeper.client.watch(KeyRange::prefix(ROOT), next);
    loop {
        match stream.next().await {
            Some(Ok(batch)) => {
                let shown = keeper.state.borrow().as_deref().cloned();
                let mut changed = shown.unwrap_or_default();
                keeper.take(&mut changed, &batch.events);
                changed.revision = changed.revision.max(batch.revision);
                if let Err(error) = keeper.show(changed) {
                    return error;
                }
            }
            Some(Err(error)) => return error.to_string(),
            None => return "the watch of the documents ended".to_owned(),
        }
    }
}
