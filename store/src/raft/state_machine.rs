//! openraft's state machine on our state: one entry, one batch; deadlines of leases follow.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use super::snapshot::{Reader, SnapshotDir, SnapshotFile};
use super::types::{LogId, Outcome, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::lease::Deadlines;
use crate::mvcc::{Applied, Shared};
use crate::proto::weftpeer::outcome::Result as Done;

/// The state machine of one member.
#[derive(Clone)]
pub(crate) struct StateMachine {
    mvcc: Shared,
    deadlines: Arc<Deadlines>,
    snapshots: SnapshotDir,
}

impl StateMachine {
    pub(crate) fn new(mvcc: Shared, deadlines: Arc<Deadlines>, snapshots: SnapshotDir) -> Self {
        deadlines.reset(&mvcc.leases());
        StateMachine {
            mvcc,
            deadlines,
            snapshots,
        }
    }

    fn follow_leases(&self, outcome: &Outcome, revoked: Option<i64>) {
        match &outcome.0 {
            Ok(Done::Grant(grant)) => self.deadlines.granted(grant.id, grant.ttl),
            Ok(Done::Revoke(_)) => {
                if let Some(id) = revoked {
                    self.deadlines.revoked(id);
                }
            }
            _ => {}
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = StateMachine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.mvcc.applied();
        Ok((applied.log, applied.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let log = entry.log_id;
            let outcome = match entry.payload {
                EntryPayload::Blank => self.mvcc.apply(log, None, None)?,
                EntryPayload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(log), membership);
                    self.mvcc.apply(log, Some(stored), None)?
                }
                EntryPayload::Normal(command) => {
                    let outcome = Outcome(self.mvcc.apply(log, None, Some(&command.0))?);
                    use crate::proto::weftpeer::command::Op;
                    let revoked = match &command.0.op {
                        Some(Op::Revoke(revoke)) => Some(revoke.id),
                        _ => None,
                    };
                    self.follow_leases(&outcome, revoked);
                    outcome.0
                }
            };
            if let Some(responder) = responder {
                responder.send(Outcome(outcome));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let (mvcc, snapshots, meta) = (self.mvcc.clone(), self.snapshots.clone(), meta.clone());
        let work = move || {
            // Read once before anything is replaced: a damaged file must not cost the old state.
            for record in Reader::open(&snapshot.path)? {
                record?;
            }
            let kept = snapshots.keep(&meta, &snapshot.path)?;
            let applied = Applied {
                log: meta.last_log_id,
                membership: meta.last_membership,
            };
            mvcc.import(&applied, Reader::open(&kept.path)?)
        };
        blocking(work).await?;
        self.deadlines.reset(&self.mvcc.leases());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.snapshots.current()
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (mvcc, snapshots) = (self.mvcc.clone(), self.snapshots.clone());
        blocking(move || snapshots.build(&mvcc)).await
    }
}

/// Runs file work aside, so that heartbeats go on.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
