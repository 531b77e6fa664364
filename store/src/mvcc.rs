//! The replicated state: every version of every key above the compact revision, leases, and who the members are.
//!
//! One apply path: [`Mvcc::apply`] takes a committed command and its log id; what it changes is one atomic sled batch
//! with the applied id inside. Commands hold all they need, so applying reads no clock and no chance and gives the same on each member.
//!
//! On disk (one sled tree): `r` revision sub -> record, `l` lease -> TTL, `p` member -> what it published, `m` names -> small
//! values. sled is a cache: it is trusted only with the right format and boot id (its pages are not fsynced), else it is
//! thrown away and rebuilt from snapshot and log. In memory: the index of versions by key, leases with their keys.

mod compact;
mod disk;
mod history;
mod index;
mod lease;
mod load;
mod range;
mod txn;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use crate::proto::weftpeer as peer;
use crate::raft::types::{LogId, StoredMembership};

pub(crate) use history::Change;
pub(crate) use index::Keys;
pub(crate) use txn::{check_txn, read_only};

/// A refusal of the state machine: etcd's code and message; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The revision is below the compact revision.
    Compacted,
    /// The revision is above the current one.
    FutureRevision,
    /// The lease does not exist.
    LeaseNotFound,
    /// The lease exists already.
    LeaseExists,
    /// The key of a put that keeps value or lease does not exist.
    KeyNotFound,
}

/// Small values of the state beside the versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    /// Last applied log entry.
    pub(crate) log: Option<LogId>,
    /// Last applied membership.
    pub(crate) membership: StoredMembership,
}

pub(crate) struct State {
    tree: sled::Tree,
    index: index::Index,
    /// Current revision; 1 when empty.
    revision: i64,
    compacted: i64,
    leases: BTreeMap<i64, lease::Lease>,
    published: BTreeMap<u64, peer::Publish>,
    applied: Applied,
}

/// The state with its database.
pub(crate) struct Mvcc {
    db: sled::Db,
    state: RwLock<State>,
    /// Held for reading while a snapshot is read, for writing while history is removed.
    history: RwLock<()>,
    recent: history::Recent,
    revision: watch::Sender<i64>,
}

impl Mvcc {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while applying is a bug that must stop the member, not spread half a change.
        self.state.read().expect("the state's writer panicked")
    }

    /// Current revision.
    pub(crate) fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Tells each new revision.
    pub(crate) fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// Bytes of the state on disk.
    pub(crate) fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    /// Last applied entry and membership.
    pub(crate) fn applied(&self) -> Applied {
        self.read().applied.clone()
    }

    /// What members published, by id.
    pub(crate) fn published(&self) -> BTreeMap<u64, peer::Publish> {
        self.read().published.clone()
    }

    /// Writes what sled holds in memory; only makes the next start faster.
    pub(crate) fn flush(&self) {
        if let Err(error) = self.db.flush() {
            tracing::warn!(%error, "state not flushed; the next start replays more of the log");
        }
    }
}

/// The state, shared by all parts of a member.
pub(crate) type Shared = Arc<Mvcc>;

#[cfg(test)]
mod tests;
