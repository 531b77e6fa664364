//! What happened from a revision on: watches pull it, so that a slow one never holds up a write.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use prost::Message;

use super::Mvcc;
use super::disk;
use crate::proto::mvccpb::KeyValue;

/// Revisions kept in memory for watches that keep up; others read the database.
const RECENT: usize = 1024;
/// And at most so many bytes of them.
const RECENT_BYTES: usize = 16 << 20;
/// Bytes after which a page ends at the next revision: keeps messages well below the transport's limits.
const PAGE_BYTES: usize = 1 << 20;

/// One change of one key: the key-value after it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// For a deletion: key and mod revision only.
    pub(crate) kv: KeyValue,
}

impl Change {
    pub(super) fn new(kv: KeyValue) -> Change {
        Change { kv }
    }

    pub(crate) fn deleted(&self) -> bool {
        self.kv.version == 0
    }
}

/// Whole revisions in order.
#[derive(Debug)]
pub(crate) struct Page {
    /// Everything up to here is told by this page and those before it.
    pub(crate) upto: i64,
    /// Changes in order of revision and place.
    pub(crate) changes: Vec<Change>,
}

#[derive(Default)]
pub(super) struct Recent {
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    revisions: VecDeque<(i64, Arc<Vec<Change>>)>,
    bytes: usize,
}

fn size(changes: &[Change]) -> usize {
    changes
        .iter()
        .map(|c| c.kv.key.len() + c.kv.value.len() + 64)
        .sum()
}

impl Recent {
    pub(super) fn push(&self, main: i64, changes: Vec<Change>) {
        let mut ring = self.ring.lock().expect("nothing panics under this lock");
        ring.bytes += size(&changes);
        ring.revisions.push_back((main, Arc::new(changes)));
        while ring.revisions.len() > RECENT
            || (ring.bytes > RECENT_BYTES && ring.revisions.len() > 1)
        {
            if let Some((_, old)) = ring.revisions.pop_front() {
                ring.bytes -= size(&old);
            }
        }
    }

    pub(super) fn clear(&self) {
        *self.ring.lock().expect("nothing panics under this lock") = Ring::default();
    }

    /// The revisions from `from` on, if all of them are here.
    fn since(&self, from: i64) -> Option<Vec<Arc<Vec<Change>>>> {
        let ring = self.ring.lock().expect("nothing panics under this lock");
        let first = ring.revisions.front()?.0;
        if from < first {
            return None;
        }
        // Revisions are consecutive: each change of the state has the next one.
        let skip = usize::try_from(from - first).ok()?;
        Some(
            ring.revisions
                .iter()
                .skip(skip)
                .map(|(_, c)| c.clone())
                .collect(),
        )
    }
}

impl Mvcc {
    /// What happened from `from` on, up to about a megabyte; `Err` inside: the compact revision, if `from` is below it.
    pub(crate) fn changes(&self, from: i64) -> io::Result<Result<Page, i64>> {
        let state = self.read();
        if from < state.compacted {
            return Ok(Err(state.compacted));
        }
        let mut page = Page {
            upto: state.revision,
            changes: Vec::new(),
        };
        if from > state.revision {
            return Ok(Ok(page));
        }
        let mut bytes = 0;
        if let Some(recent) = self.recent.since(from) {
            for changes in recent {
                if bytes >= PAGE_BYTES {
                    break;
                }
                bytes += size(&changes);
                page.upto = changes.last().map_or(page.upto, |c| c.kv.mod_revision);
                page.changes.extend(changes.iter().cloned());
            }
            return Ok(Ok(page));
        }
        let records = disk::record_key(from, 0)..disk::record_key(state.revision + 1, 0);
        for pair in state.tree.range(records) {
            let value = bytes::Bytes::copy_from_slice(&pair?.1);
            let kv = KeyValue::decode(value).map_err(|_| disk::damaged("a record"))?;
            let ended = page
                .changes
                .last()
                .is_some_and(|c| c.kv.mod_revision != kv.mod_revision);
            if bytes >= PAGE_BYTES && ended {
                page.upto = kv.mod_revision - 1;
                break;
            }
            bytes += kv.key.len() + kv.value.len() + 64;
            page.changes.push(Change::new(kv));
        }
        Ok(Ok(page))
    }

    /// The key-value just before `revision`, unless it did not exist or is compacted away.
    pub(crate) fn before(&self, key: &[u8], revision: i64) -> io::Result<Option<KeyValue>> {
        let state = self.read();
        if revision - 1 < state.compacted {
            return Ok(None);
        }
        match state.index.get(key, revision - 1) {
            Some(version) => state.load(key, version).map(Some),
            None => Ok(None),
        }
    }
}
