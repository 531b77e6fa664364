//! Snapshot files: the whole state at one log entry, checksummed, fsynced before they count.
//!
//! A file is made under a temporary name, fsynced, renamed, and its folder fsynced; older ones go only then. Layout: magic,
//! then blocks (length u32, CRC-32 u32, body): first the snapshot's meta as JSON, then records, last an empty record that holds their number.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;

use super::types::{Snapshot, SnapshotMeta};
use crate::mvcc::{Applied, Mvcc};
use crate::proto::weftpeer as peer;

const MAGIC: &[u8] = b"weft-snapshot-1\n";
/// No block is longer: a record is a request's worth at most.
const MAX_BLOCK: usize = 64 << 20;

/// A snapshot on disk. Holds the file open: it stays readable when a newer one replaces it.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
}

/// The folder of snapshots.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotDir {
    dir: PathBuf,
    next: Arc<AtomicU64>,
}

fn name(meta: &SnapshotMeta) -> String {
    let (term, index) = meta
        .last_log_id
        .map_or((0, 0), |id| (id.leader_id.term, id.index));
    format!("{index:016x}-{term:016x}.snap")
}

impl SnapshotDir {
    /// Opens the folder, made if missing; what was left half-done goes.
    pub(crate) fn open(dir: &Path) -> io::Result<SnapshotDir> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "part") {
                fs::remove_file(path)?;
            }
        }
        Ok(SnapshotDir {
            dir: dir.to_owned(),
            next: Arc::new(AtomicU64::new(0)),
        })
    }

    /// A new file under a temporary name.
    pub(crate) fn part(&self) -> io::Result<(PathBuf, File)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{number}.part"));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok((path, file))
    }

    /// Makes a complete temporary file the snapshot, lastingly; older ones go.
    pub(crate) fn keep(&self, meta: &SnapshotMeta, part: &Path) -> io::Result<SnapshotFile> {
        File::open(part)?.sync_all()?;
        let path = self.dir.join(name(meta));
        if path != part {
            fs::rename(part, &path)?;
        }
        File::open(&self.dir)?.sync_all()?;
        for older in self.list()? {
            if older < path {
                fs::remove_file(older)?;
            }
        }
        let file = Arc::new(File::open(&path)?);
        Ok(SnapshotFile { path, file })
    }

    fn list(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "snap") {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Bytes of the newest snapshot; 0 if there is none.
    pub(crate) fn newest_bytes(&self) -> io::Result<u64> {
        let newest = self.list()?.pop();
        newest.map_or(Ok(0), |path| Ok(fs::metadata(path)?.len()))
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> io::Result<Option<Snapshot>> {
        let Some(path) = self.list()?.pop() else {
            return Ok(None);
        };
        let file = Arc::new(File::open(&path)?);
        let meta = Reader::open(&path)?.meta;
        Ok(Some(Snapshot {
            meta,
            snapshot: SnapshotFile { path, file },
        }))
    }

    /// Writes the state as it is now.
    pub(crate) fn build(&self, mvcc: &Mvcc) -> io::Result<Snapshot> {
        let (part, file) = self.part()?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(MAGIC)?;
        let out = std::cell::RefCell::new(out);
        let mut count = 0u64;
        let applied = mvcc.export(
            |applied| {
                block(
                    &mut *out.borrow_mut(),
                    &serde_json::to_vec(&meta_json(applied))?,
                )
            },
            |(key, value)| {
                count += 1;
                let record = peer::Record {
                    key: key.into(),
                    value: value.into(),
                };
                block(&mut *out.borrow_mut(), &record.encode_to_vec())
            },
        )?;
        let mut out = out.into_inner();
        let end = peer::Record {
            key: bytes::Bytes::new(),
            value: count.to_be_bytes().to_vec().into(),
        };
        block(&mut out, &end.encode_to_vec())?;
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        let meta = meta_json(&applied);
        let snapshot = self.keep(&meta, &part)?;
        Ok(Snapshot { meta, snapshot })
    }
}

fn meta_json(applied: &Applied) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: applied.log,
        last_membership: applied.membership.clone(),
    }
}

fn block(out: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&crc32fast::hash(body).to_le_bytes())?;
    out.write_all(body)
}

/// Reads a snapshot's records; a file that is damaged or cut off ends in an error, never quietly.
pub(crate) struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    pub(crate) meta: SnapshotMeta,
    read: u64,
    ended: bool,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> io::Result<Reader> {
        let mut input = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged(path, "not a snapshot of this version"));
        }
        let meta = read_block(path, &mut input)?;
        let meta = serde_json::from_slice(&meta).map_err(|_| damaged(path, "meta"))?;
        Ok(Reader {
            path: path.to_owned(),
            input,
            meta,
            read: 0,
            ended: false,
        })
    }

    fn take(&mut self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let body = read_block(&self.path, &mut self.input)?;
        let record = peer::Record::decode(&body[..]).map_err(|_| damaged(&self.path, "record"))?;
        if !record.key.is_empty() {
            self.read += 1;
            return Ok(Some((record.key.to_vec(), record.value.to_vec())));
        }
        if record.value[..] != self.read.to_be_bytes() {
            return Err(damaged(&self.path, "number of records"));
        }
        Ok(None)
    }
}

impl Iterator for Reader {
    type Item = io::Result<(Vec<u8>, Vec<u8>)>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let taken = self.take().transpose();
        self.ended = !matches!(taken, Some(Ok(_)));
        taken
    }
}

fn read_block(path: &Path, input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = [0; 8];
    input
        .read_exact(&mut head)
        .map_err(|_| damaged(path, "cut off"))?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > MAX_BLOCK {
        return Err(damaged(path, "impossible length"));
    }
    let mut body = vec![0; length];
    input
        .read_exact(&mut body)
        .map_err(|_| damaged(path, "cut off"))?;
    if crc32fast::hash(&body).to_le_bytes() != head[4..] {
        return Err(damaged(path, "checksum differs"));
    }
    Ok(body)
}

fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "snapshot {} is damaged ({what}), and what it held may no longer be in the log; move this member's data folder away and start it once by `weft store run` with `--initial-cluster-state existing`, while all other members are up",
            path.display()
        ),
    )
}
