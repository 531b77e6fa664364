//! The documents that concern this node, each part of them by a watch of its own on one stream, so that a change in a
//! network wakes the nodes that are in it and no other.
//!
//! A part that comes is read, then watched from the next revision on; documents are shown only with all parts that they
//! make necessary, so a container is never seen before its network. Parts are at revisions of their own: a write is
//! fenced by the revisions of what it was planned from ([`State::revision_of`] of a network).
//!
//! After a compaction everything is read again.

use std::collections::BTreeMap;

use tokio::sync::watch;
use weft_overlay::NodeName;
use weft_overlay::keys::Key;
use weft_store::client::{Client, Told, WatchSet};

use super::{Here, Keeper, Mirror, Part, State, ends, interest, read};

impl Mirror {
    /// A mirror of what concerns node `me`, and the task that keeps it; the owner spawns and aborts it. `here` is what
    /// the node has, whatever the documents say. `cluster` is the id of the cluster that the node belongs to, if it
    /// does yet.
    pub fn own(
        client: Client,
        cluster: Option<String>,
        me: NodeName,
        here: watch::Receiver<Here>,
    ) -> (Mirror, impl Future<Output = ()> + Send + 'static) {
        let (mirror, keeper) = ends(client, cluster);
        let keep = keeper.keep(async move |keeper, read| {
            let here = here.clone();
            let mut own = Own::begin(keeper, &me, here, read);
            own.follow(keeper).await
        });
        (mirror, keep)
    }
}

struct Own<'a> {
    me: &'a NodeName,
    here: watch::Receiver<Here>,
    state: State,
    watches: WatchSet,
    /// The watch of each part.
    parts: BTreeMap<Part, u32>,
    last: u32,
}

impl<'a> Own<'a> {
    /// What concerns the node of everything there is.
    fn begin(
        keeper: &Keeper,
        me: &'a NodeName,
        mut here: watch::Receiver<Here>,
        read: State,
    ) -> Own<'a> {
        let wanted = interest(&read, &here.borrow_and_update(), me);
        let mut own = Own {
            me,
            here,
            state: read,
            watches: keeper.client.watch_set(),
            parts: BTreeMap::new(),
            last: 0,
        };
        let revision = own.state.revision;
        for part in wanted {
            own.watch(part, revision);
        }
        own.leave_out();
        own
    }

    /// Takes in changes until the watches cannot go on; returns why.
    async fn follow(&mut self, keeper: &mut Keeper) -> String {
        loop {
            if let Err(error) = self.settle(keeper).await {
                return error;
            }
            if let Err(error) = keeper.show(self.state.clone()) {
                return error;
            }
            tokio::select! {
                told = self.watches.next() => {
                    let Some(told) = told else {
                        return "the watches of the documents ended".to_owned();
                    };
                    if let Err(error) = self.take(keeper, told) {
                        return error;
                    }
                }
                changed = self.here.changed() => if changed.is_err() {
                    return "the node ended".to_owned();
                },
            }
        }
    }

    fn take(&mut self, keeper: &Keeper, told: Told) -> Result<(), String> {
        // What was left meanwhile concerns nobody.
        let Some((part, _)) = self.parts.iter().find(|(_, id)| **id == told.id) else {
            return Ok(());
        };
        let batch = told.events.map_err(|e| e.to_string())?;
        keeper.take(&mut self.state, &batch.events);
        self.state.revision = self.state.revision.max(batch.revision);
        if let Part::Network(network) = part {
            self.state.seen.insert(network.clone(), batch.revision);
        }
        Ok(())
    }

    /// Comes to the parts that the documents, and what is here, make necessary.
    async fn settle(&mut self, keeper: &Keeper) -> Result<(), String> {
        loop {
            let wanted = interest(&self.state, &self.here.borrow_and_update(), self.me);
            let new: Vec<Part> = wanted
                .iter()
                .filter(|part| !self.parts.contains_key(part))
                .cloned()
                .collect();
            if new.is_empty() {
                let old = self.parts.extract_if(.., |part, _| !wanted.contains(part));
                let old: Vec<(Part, u32)> = old.collect();
                for (_, id) in &old {
                    self.watches.remove(*id);
                }
                if !old.is_empty() {
                    self.leave_out();
                }
                return Ok(());
            }
            for part in new {
                let revision = read(&keeper.client, part.range(), &mut self.state).await?;
                self.state.revision = self.state.revision.max(revision);
                self.watch(part, revision);
            }
        }
    }

    /// Watches a part that was read at a revision.
    fn watch(&mut self, part: Part, revision: i64) {
        self.last += 1;
        self.watches.add(self.last, part.range(), revision + 1);
        if let Part::Network(network) = &part {
            self.state.seen.insert(network.clone(), revision);
        }
        self.parts.insert(part, self.last);
    }

    /// Leaves out what is in no part.
    fn leave_out(&mut self) {
        let parts = &self.parts;
        let wanted = |key: &Key| Part::of(key).is_some_and(|part| parts.contains_key(&part));
        self.state.retain(wanted);
    }
}
