//! Opening the state, reading it for a snapshot, replacing it by one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::RwLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use super::disk::{self, APPLIED, COMPACTED, MEMBERSHIP, REVISION, TREE, TRUST};
use super::history::Recent;
use super::index::Index;
use super::lease::Lease;
use super::{Applied, Mvcc, State};
use crate::proto::weftpeer as peer;
use crate::raft::codec;

/// Records put into one sled batch while a snapshot is loaded: keeps the batch in cache, and few enough commits.
const LOAD_BATCH: usize = 1000;

/// How long sled's threads of a state just closed may still hold its lock.
const LOCK_HELD: Duration = Duration::from_secs(10);

/// One stored pair.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// sled tells a lock that is held by its text only.
fn lock_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

/// Opens the database. Waits for its lock: closing one returns before sled's own threads have let go of it.
fn open_database(dir: &Path, cache_bytes: u64) -> sled::Result<sled::Db> {
    let deadline = Instant::now() + LOCK_HELD;
    loop {
        let opened = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .open();
        match opened {
            Err(error) if lock_held(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}

impl Mvcc {
    /// Opens the state in `dir`. What cannot be trusted is emptied; Raft then rebuilds it.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> io::Result<Mvcc> {
        let mark = disk::boot_id()?;
        let trusted = |db: &sled::Db| -> sled::Result<bool> {
            Ok(db.open_tree(TREE)?.get(TRUST)?.is_some_and(|m| m == mark))
        };
        let mut db = open_database(dir, cache_bytes);
        let held = matches!(&db, Err(error) if lock_held(error));
        if !held && !matches!(&db, Ok(db) if trusted(db).unwrap_or(false)) {
            drop(db);
            if dir.exists() {
                std::fs::remove_dir_all(dir)?;
            }
            db = open_database(dir, cache_bytes);
        }
        let db = db?;
        let tree = db.open_tree(TREE)?;
        tree.insert(TRUST, mark)?;
        let state = load(tree)?;
        let (revision, _) = watch::channel(state.revision);
        Ok(Mvcc {
            db,
            state: RwLock::new(state),
            history: RwLock::new(()),
            recent: Recent::default(),
            revision,
        })
    }

    /// Reads the state of one moment: `begin` gets what was applied then, `take` each pair of it.
    pub(crate) fn export(
        &self,
        begin: impl FnOnce(&Applied) -> io::Result<()>,
        mut take: impl FnMut(Pair) -> io::Result<()>,
    ) -> io::Result<Applied> {
        // No history goes while its records are read; new ones are above `revision` and left out.
        let _history = self.history.read().expect("history's holder panicked");
        let (tree, revision, small, applied) = {
            let state = self.read();
            (
                state.tree.clone(),
                state.revision,
                state.small_values(),
                state.applied.clone(),
            )
        };
        begin(&applied)?;
        for pair in small {
            take(pair)?;
        }
        let records = disk::record_key(0, 0)..disk::record_key(revision + 1, 0);
        for pair in tree.range(records) {
            let (key, value) = pair?;
            take((key.to_vec(), value.to_vec()))?;
        }
        Ok(applied)
    }

    /// Replaces the state. A crash meanwhile leaves a state that is not trusted at the next start.
    pub(crate) fn import(
        &self,
        applied: &Applied,
        pairs: impl Iterator<Item = io::Result<Pair>>,
    ) -> io::Result<()> {
        // After any snapshot that is being read has been read.
        let _history = self.history.write().expect("history's holder panicked");
        let mut state = self.state.write().expect("the state's writer panicked");
        self.db.drop_tree(TREE)?;
        let tree = self.db.open_tree(TREE)?;
        let mut batch = sled::Batch::default();
        let mut waiting = 0;
        for pair in pairs {
            let (key, value) = pair?;
            batch.insert(key, value);
            waiting += 1;
            if waiting == LOAD_BATCH {
                tree.apply_batch(std::mem::take(&mut batch))?;
                waiting = 0;
            }
        }
        put_applied(&mut batch, applied)?;
        batch.insert(TRUST, disk::boot_id()?);
        tree.apply_batch(batch)?;
        *state = load(tree)?;
        self.recent.clear();
        self.revision.send_replace(state.revision);
        Ok(())
    }
}

pub(super) fn put_applied(batch: &mut sled::Batch, applied: &Applied) -> io::Result<()> {
    if let Some(log) = &applied.log {
        batch.insert(APPLIED, codec::log_id_to(log).encode_to_vec());
    }
    batch.insert(MEMBERSHIP, serde_json::to_vec(&applied.membership)?);
    Ok(())
}

impl State {
    fn small_values(&self) -> Vec<Pair> {
        let mut pairs = vec![
            (REVISION.to_vec(), self.revision.to_be_bytes().to_vec()),
            (COMPACTED.to_vec(), self.compacted.to_be_bytes().to_vec()),
        ];
        for (id, lease) in &self.leases {
            pairs.push((
                disk::lease_key(*id).to_vec(),
                lease.ttl.to_be_bytes().to_vec(),
            ));
        }
        for (id, publish) in &self.published {
            pairs.push((disk::publish_key(*id).to_vec(), publish.encode_to_vec()));
        }
        pairs
    }
}

fn load(tree: sled::Tree) -> io::Result<State> {
    let small = |key: &[u8]| -> io::Result<Option<i64>> {
        tree.get(key)?.map(|v| disk::number(&v)).transpose()
    };
    let mut applied = Applied::default();
    if let Some(bytes) = tree.get(APPLIED)? {
        let id = peer::LogId::decode(&bytes[..]).map_err(|_| disk::damaged("the applied id"))?;
        applied.log = Some(codec::log_id_from(id));
    }
    if let Some(bytes) = tree.get(MEMBERSHIP)? {
        applied.membership = serde_json::from_slice(&bytes)?;
    }
    let mut leases = BTreeMap::new();
    for pair in tree.scan_prefix(b"l") {
        let (key, value) = pair?;
        leases.insert(disk::number(&key[1..])?, Lease::new(disk::number(&value)?));
    }
    let mut published = BTreeMap::new();
    for pair in tree.scan_prefix(b"p") {
        let publish = peer::Publish::decode(&pair?.1[..]);
        let publish = publish.map_err(|_| disk::damaged("a member"))?;
        published.insert(publish.id, publish);
    }
    let mut index = Index::default();
    for pair in tree.scan_prefix(b"r") {
        let (key, value) = pair?;
        let (kv, version) = disk::decode_record(&key, &value)?;
        index.push(Bytes::copy_from_slice(&kv.key), version);
    }
    for (key, version) in index.range(
        &super::Keys::new(Bytes::from_static(&[0]), Bytes::from_static(&[0])),
        i64::MAX,
    ) {
        if let Some(lease) = leases.get_mut(&version.lease) {
            Lease::attach(lease, key.clone());
        }
    }
    Ok(State {
        revision: small(REVISION)?.unwrap_or(1),
        compacted: small(COMPACTED)?.unwrap_or(0),
        tree,
        index,
        leases,
        published,
        applied,
    })
}
