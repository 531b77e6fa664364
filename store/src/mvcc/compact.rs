//! Forgetting history, and the checksum by which members compare what they kept.

use std::io;

use super::disk::{self, COMPACTED};
use super::{Mvcc, Refusal, State};

impl State {
    pub(super) fn compact(
        &mut self,
        revision: i64,
        batch: &mut sled::Batch,
    ) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        for (main, sub) in self.index.compact(revision) {
            batch.remove(&disk::record_key(main, sub));
        }
        self.compacted = revision;
        batch.insert(COMPACTED, &revision.to_be_bytes());
        Ok(())
    }
}

/// Checksum of the history up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistoryHash {
    /// CRC-32 over all records up to the revision, in order.
    pub(crate) hash: u32,
    /// Compact revision it depends on.
    pub(crate) compacted: i64,
}

impl Mvcc {
    /// Checksum of the history up to `revision` (0: the current one). Members with the same compact revision agree.
    pub(crate) fn hash(&self, revision: i64) -> io::Result<Result<HistoryHash, Refusal>> {
        let _history = self.history.read().expect("history's holder panicked");
        let state = self.read();
        if revision > state.revision {
            return Ok(Err(Refusal::FutureRevision));
        }
        if revision > 0 && revision < state.compacted {
            return Ok(Err(Refusal::Compacted));
        }
        let upto = if revision > 0 {
            revision
        } else {
            state.revision
        };
        let compacted = state.compacted;
        let places = state.index.places_upto(upto);
        let tree = state.tree.clone();
        drop(state);
        let mut hasher = crc32fast::Hasher::new();
        for (main, sub) in places {
            let key = disk::record_key(main, sub);
            let Some(value) = tree.get(key)? else {
                return Err(disk::damaged("a record is missing"));
            };
            hasher.update(&key);
            hasher.update(&value);
        }
        Ok(Ok(HistoryHash {
            hash: hasher.finalize(),
            compacted,
        }))
    }
}
