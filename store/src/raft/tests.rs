//! openraft's own suite over our log and state machine, and restarts, which it knows nothing of.

use std::sync::Arc;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{RaftLogReader, StorageError};

use super::log_store::LogStore;
use super::snapshot::SnapshotDir;
use super::state_machine::StateMachine;
use super::types::{Command, Entry, LeaderId, LogId, Payload, TypeConfig, Vote};
use crate::lease::Deadlines;
use crate::mvcc::Mvcc;
use crate::proto::etcdserverpb as pb;
use crate::proto::weftpeer as peer;

struct Builder;

fn open(dir: &std::path::Path) -> (LogStore, StateMachine) {
    let log = LogStore::open(&dir.join("wal"), 4096).expect("log opens");
    let mvcc = Mvcc::open(&dir.join("state"), 1 << 20).expect("state opens");
    let snapshots = SnapshotDir::open(&dir.join("snapshots")).expect("snapshots open");
    let machine = StateMachine::new(Arc::new(mvcc), Arc::new(Deadlines::default()), snapshots);
    (log, machine)
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("tempdir");
        let (log, machine) = open(dir.path());
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn openraft_suite() {
    Suite::<TypeConfig, LogStore, StateMachine, Builder, tempfile::TempDir>::test_all(Builder)
        .await
        .expect("the suite passes");
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: 1 }, index)
}

fn put(index: u64) -> Entry {
    let request = pb::PutRequest {
        key: format!("k{}", index % 3).into(),
        value: format!("v{index}").into(),
        ..Default::default()
    };
    Entry {
        log_id: id(1, index),
        payload: Payload::Normal(Command(peer::Command {
            op: Some(peer::command::Op::Put(request)),
        })),
    }
}

#[tokio::test]
async fn the_log_survives_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let vote = Vote::new_committed(3, 1);
    {
        let (mut log, _) = open(dir.path());
        log.save_vote(&vote).await.expect("vote");
        log.blocking_append((0..100).map(put))
            .await
            .expect("append");
        log.truncate_after(Some(id(1, 80))).await.expect("truncate");
        log.blocking_append([put(81)]).await.expect("append");
        log.purge(id(1, 60)).await.expect("purge");
        log.save_committed(Some(id(1, 70)))
            .await
            .expect("committed");
        log.blocking_append([put(82)]).await.expect("append");
    }
    let (mut log, _) = open(dir.path());
    assert_eq!(log.read_vote().await.expect("vote"), Some(vote));
    assert_eq!(
        log.read_committed().await.expect("committed"),
        Some(id(1, 70))
    );
    let state = log.get_log_state().await.expect("state");
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(id(1, 60)), Some(id(1, 82)))
    );
    let entries = log.try_get_log_entries(0..1000).await.expect("entries");
    assert_eq!(entries.len(), 22);
    assert_eq!(entries[0], put(61));
    assert_eq!(entries[21], put(82));
}

#[tokio::test]
async fn a_state_that_cannot_be_trusted_is_rebuilt_from_its_snapshot() {
    use openraft::storage::RaftSnapshotBuilder;
    let dir = tempfile::tempdir().expect("tempdir");
    let revision;
    {
        let mvcc = Arc::new(Mvcc::open(&dir.path().join("state"), 1 << 20).expect("opens"));
        for index in 0..20 {
            let Payload::Normal(command) = put(index).payload else {
                panic!("a put");
            };
            mvcc.apply(id(1, index), None, Some(&command.0))
                .expect("applies")
                .expect("taken");
        }
        revision = mvcc.revision();
        let snapshots = SnapshotDir::open(&dir.path().join("snapshots")).expect("opens");
        let mut machine = StateMachine::new(mvcc, Arc::new(Deadlines::default()), snapshots);
        machine.build_snapshot().await.expect("snapshot");
    }
    // As after a crash of the machine in the middle of anything.
    std::fs::remove_dir_all(dir.path().join("state")).expect("removed");
    std::fs::create_dir(dir.path().join("state")).expect("made");
    std::fs::write(dir.path().join("state/db"), b"torn").expect("written");
    let (_, mut machine) = open(dir.path());
    assert_eq!(machine.applied_state().await.expect("state").0, None);
    let snapshot = machine
        .get_current_snapshot()
        .await
        .expect("read")
        .expect("there");
    machine
        .install_snapshot(&snapshot.meta, snapshot.snapshot)
        .await
        .expect("installs");
    assert_eq!(
        machine.applied_state().await.expect("state").0,
        Some(id(1, 19))
    );
    drop(machine);
    let mvcc = Mvcc::open(&dir.path().join("state"), 1 << 20).expect("opens");
    assert_eq!(mvcc.revision(), revision);
    assert_eq!(
        mvcc.changes(2)
            .expect("read")
            .expect("not compacted")
            .changes
            .len(),
        20
    );
}

#[tokio::test]
async fn a_damaged_snapshot_costs_nothing() {
    use openraft::storage::RaftSnapshotBuilder;
    let dir = tempfile::tempdir().expect("tempdir");
    let (_, mut machine) = open(dir.path());
    let snapshot = machine.build_snapshot().await.expect("snapshot");
    let mut bytes = std::fs::read(&snapshot.snapshot.path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let part = dir.path().join("snapshots/9.part");
    std::fs::write(&part, &bytes).expect("written");
    let file = Arc::new(std::fs::File::open(&part).expect("opens"));
    let damaged = super::snapshot::SnapshotFile { path: part, file };
    let refused = machine.install_snapshot(&snapshot.meta, damaged).await;
    assert!(refused.is_err_and(|e| e.to_string().contains("damaged")));
    assert!(
        machine
            .get_current_snapshot()
            .await
            .expect("read")
            .is_some()
    );
}
