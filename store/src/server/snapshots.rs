//! When a snapshot is made: once the log has grown by a number of bytes, or by as much as the last snapshot holds.
//!
//! Entries say little of cost: a lease renewal's worth and a megabyte are one each. It looks when an append has become
//! durable, so an idle member does nothing.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use super::node::Node;
use crate::raft::log_store::LogStore;
use crate::raft::snapshot::SnapshotDir;

/// After this it is asked for again: one that is being made then goes on, one that had nothing applied yet begins.
const LONGEST: Duration = Duration::from_secs(60);

/// Bytes at which the next snapshot is due.
fn due_at(configured: u64, last_snapshot: u64) -> u64 {
    configured.max(last_snapshot)
}

pub(super) struct Policy {
    node: Arc<Node>,
    log: LogStore,
    dir: SnapshotDir,
    /// Index and size of the last snapshot.
    index: Option<u64>,
    bytes: u64,
    /// Bytes appended before it.
    before: u64,
}

impl Policy {
    pub(super) fn new(node: Arc<Node>, log: LogStore, dir: SnapshotDir) -> Policy {
        let mut policy = Policy {
            node,
            log,
            dir,
            index: None,
            bytes: 0,
            before: 0,
        };
        policy.note(policy.made());
        policy
    }

    /// Runs until the member stops.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.keep_short() => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    async fn keep_short(&mut self) {
        let mut durable = self.log.durable();
        loop {
            let made = self.made();
            if made != self.index {
                self.note(made);
            }
            let grown = self.log.appended_bytes().saturating_sub(self.before);
            if grown >= due_at(self.node.config.snapshot_bytes, self.bytes) {
                self.make().await;
            }
            if durable.changed().await.is_err() {
                return;
            }
        }
    }

    /// Index of the last snapshot, made here or received.
    fn made(&self) -> Option<u64> {
        let metrics = self.node.raft.metrics();
        metrics.borrow_watched().snapshot.map(|id| id.index)
    }

    fn note(&mut self, made: Option<u64>) {
        self.index = made;
        self.before = self.log.appended_bytes() - self.log.bytes_above(made);
        match self.dir.newest_bytes() {
            Ok(bytes) => self.bytes = bytes,
            Err(error) => tracing::warn!(%error, "the last snapshot's size cannot be read"),
        }
    }

    async fn make(&self) {
        if self.node.raft.trigger().snapshot().await.is_err() {
            return;
        }
        let wait = self.node.raft.wait(Some(LONGEST));
        let before = self.index;
        let made = wait.metrics(
            |m| m.snapshot.map(|id| id.index) > before,
            "a snapshot of the log so far",
        );
        if made.await.is_err() {
            tracing::warn!("no snapshot was made in time; the log goes on growing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_state_is_not_written_out_for_little_change() {
        assert_eq!(due_at(256, 0), 256);
        assert_eq!(due_at(256, 1000), 1000);
    }
}
