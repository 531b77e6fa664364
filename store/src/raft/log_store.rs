//! openraft's log on the write-ahead log. Entries not yet purged are also held in memory, from where they are read.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;
use tokio::sync::{oneshot, watch};

use super::codec;
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::proto::weftpeer as peer;
use crate::wal::{Frame, Kind, Wal};

/// Bytes of entries sent to another member in one call, unless one entry alone is larger.
const READ_BYTES: usize = 2 << 20;

/// Version of the bytes of entries, votes and ids in the log.
const VERSION: u8 = 1;

/// The log of one member; clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    memory: Mutex<Memory>,
    wal: Wal,
    /// Bytes of all entries appended or found at the start.
    appended: AtomicU64,
    /// Index of the last entry that is on disk.
    durable: Arc<watch::Sender<Option<u64>>>,
}

#[derive(Default)]
struct Memory {
    entries: BTreeMap<u64, Stored>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

struct Stored {
    entry: Entry,
    bytes: usize,
}

fn versioned(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.encoded_len() + 1);
    bytes.push(VERSION);
    message.encode(&mut bytes).expect("a vector grows");
    bytes
}

fn decode<M: Message + Default>(payload: Vec<u8>) -> io::Result<M> {
    let bytes = bytes::Bytes::from(payload);
    if bytes.first() != Some(&VERSION) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the log was written by another version of this program; use that one",
        ));
    }
    M::decode(bytes.slice(1..)).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

impl Memory {
    fn replay(frames: Vec<Frame>) -> io::Result<Memory> {
        let mut memory = Memory::default();
        for frame in frames {
            match frame.kind {
                Kind::Header => {}
                Kind::Entry => {
                    let bytes = frame.payload.len();
                    let entry = codec::entry_from(decode::<peer::Entry>(frame.payload)?);
                    let entry = entry.map_err(io::Error::other)?;
                    memory.entries.insert(frame.index, Stored { entry, bytes });
                }
                Kind::Truncate => {
                    memory.entries.split_off(&frame.index);
                }
                Kind::Vote => memory.vote = Some(codec::vote_from(decode(frame.payload)?)),
                Kind::Committed => {
                    memory.committed = Some(codec::log_id_from(decode(frame.payload)?));
                }
                Kind::Purged => {
                    memory.purged = Some(codec::log_id_from(decode(frame.payload)?));
                    memory.entries = memory.entries.split_off(&(frame.index + 1));
                }
            }
        }
        memory.check()?;
        Ok(memory)
    }

    /// Entries follow each other from the purged one on.
    fn check(&self) -> io::Result<()> {
        let first = self.purged.map_or(0, |p| p.index + 1);
        for (expected, found) in (first..).zip(self.entries.keys()) {
            if *found != expected {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "the log lacks entry {expected} (found {found}), so what this member acknowledged is missing; move its data folder away and start it once by `weft store run` with `--initial-cluster-state existing`, while all other members are up"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn last(&self) -> Option<LogId> {
        self.entries
            .last_key_value()
            .map(|(_, s)| s.entry.log_id)
            .or(self.purged)
    }
}

impl LogStore {
    /// Opens the log in `dir`.
    pub(crate) fn open(dir: &Path, segment_bytes: u64) -> Result<LogStore, OpenError> {
        let (wal, frames) = Wal::open(dir, segment_bytes)?;
        let memory = Memory::replay(frames).map_err(|source| OpenError::Replay {
            path: dir.to_owned(),
            source,
        })?;
        let (durable, _) = watch::channel(memory.last().map(|id| id.index));
        let found: usize = memory.entries.values().map(|s| s.bytes).sum();
        Ok(LogStore {
            shared: Arc::new(Shared {
                appended: AtomicU64::new(found as u64),
                memory: Mutex::new(memory),
                wal,
                durable: Arc::new(durable),
            }),
        })
    }

    /// Whether this member ever voted or took an entry.
    pub(crate) fn used(&self) -> bool {
        let memory = self.memory();
        memory.vote.is_some() || memory.last().is_some()
    }

    /// Bytes of all entries appended or found at the start.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.shared.appended.load(Ordering::Relaxed)
    }

    /// Bytes of the entries above `index`, which are all that a start from a snapshot there replays.
    pub(crate) fn bytes_above(&self, index: Option<u64>) -> u64 {
        let from = index.map_or(0, |i| i + 1);
        let memory = self.memory();
        let above = memory.entries.range(from..).map(|(_, s)| s.bytes as u64);
        above.sum()
    }

    /// Changes with each append that has become durable.
    pub(crate) fn durable(&self) -> watch::Receiver<Option<u64>> {
        self.shared.durable.subscribe()
    }

    /// Returns once the entry at `index` is on disk, in the log or in a snapshot.
    pub(crate) async fn wait_durable(&self, index: u64) {
        let mut durable = self.shared.durable.subscribe();
        // The sender lives as long as `self`.
        let _ = durable.wait_for(|last| *last >= Some(index)).await;
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared
            .memory
            .lock()
            .expect("nothing panics under this lock")
    }

    async fn write(&self, frames: Vec<Frame>) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done = move |result| drop(sender.send(result));
        self.shared.wal.write(frames, Box::new(done));
        receiver
            .await
            .map_err(|_| io::Error::other("the log's writing thread has ended"))?
    }

    fn entries<RB: RangeBounds<u64>>(&self, range: RB, limit: usize) -> Vec<Entry> {
        let memory = self.memory();
        let mut bytes = 0;
        let mut entries = Vec::new();
        for (_, stored) in memory.entries.range(range) {
            if bytes > 0 && bytes + stored.bytes > limit {
                break;
            }
            bytes += stored.bytes;
            entries.push(stored.entry.clone());
        }
        entries
    }
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The files.
    #[error(transparent)]
    Wal(#[from] crate::wal::Error),
    /// Their contents.
    #[error("log {path}: {source}")]
    Replay {
        /// The folder.
        path: std::path::PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.entries(range, usize::MAX))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.entries(start..end, READ_BYTES))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let memory = self.memory();
        Ok(LogState {
            last_purged_log_id: memory.purged,
            last_log_id: memory.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let frame = Frame::new(Kind::Vote, 0, versioned(&codec::vote_to(vote)));
        self.write(vec![frame]).await?;
        self.memory().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // Not fsynced by itself: it only makes a restart see what was applied before; the next append carries it.
        if let Some(id) = committed {
            let frame = Frame::new(Kind::Committed, id.index, versioned(&codec::log_id_to(&id)));
            self.shared.wal.note(frame);
            self.memory().committed = Some(id);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let memory = self.memory();
        Ok(memory.committed.min(memory.last()))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut frames = Vec::new();
        let mut last = None;
        {
            let mut memory = self.memory();
            for entry in entries {
                let index = entry.log_id.index;
                let frame = Frame::new(Kind::Entry, index, versioned(&codec::entry_to(&entry)));
                let bytes = frame.payload.len();
                memory.entries.insert(index, Stored { entry, bytes });
                self.shared
                    .appended
                    .fetch_add(bytes as u64, Ordering::Relaxed);
                frames.push(frame);
                last = Some(index);
            }
        }
        let durable = self.shared.durable.clone();
        let done = move |result: io::Result<()>| {
            if result.is_ok() {
                durable.send_replace(last);
            }
            callback.io_completed(result);
        };
        self.shared.wal.write(frames, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.memory().entries.split_off(&from);
        let last = last.map(|id| id.index);
        self.shared.durable.send_if_modified(|durable| {
            let shorter = *durable > last;
            *durable = (*durable).min(last);
            shorter
        });
        self.write(vec![Frame::new(Kind::Truncate, from, Vec::new())])
            .await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let bytes = versioned(&codec::log_id_to(&upto));
        {
            let mut memory = self.memory();
            if memory.purged >= Some(upto) {
                return Ok(());
            }
            memory.purged = Some(upto);
            memory.entries = memory.entries.split_off(&(upto.index + 1));
        }
        self.write(vec![Frame::new(Kind::Purged, upto.index, bytes)])
            .await?;
        let upto_index = Some(upto.index);
        self.shared
            .durable
            .send_modify(|d| *d = (*d).max(upto_index));
        self.shared.wal.drop_upto(upto.index);
        Ok(())
    }
}
