//! The write-ahead log: what a member has promised, on disk before it says so.
//!
//! Owns the segment files of one folder. One thread writes them: all requests that wait are written together and made
//! durable by one `fdatasync` (group commit), then their callbacks run in order. It knows frames and indices, nothing of Raft.
//!
//! Each frame carries a checksum and how many bytes of its file were known durable when it was written. So a damaged
//! frame at the end is told from one in the middle: if a later frame was written after the damaged place had been
//! fsynced, promised data is lost and opening refuses; otherwise the write was torn, nothing of it had been promised, and it is cut off.

mod frame;
mod recover;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

pub(crate) use frame::{Frame, Kind};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("log {path}: {doing}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Data that had been acknowledged is damaged.
    #[error(
        "log {path} is damaged at byte {offset} ({detail}), before data that had been acknowledged; do not repair it, and do not restore an older copy: what this member acknowledged since is missing there. Move its data folder away and start the member once by `weft store run` with `--initial-cluster-state existing`, while all other members are up"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        detail: String,
    },
    /// Written by another version of the program.
    #[error(
        "log {path} has format {found}, this program writes {known}; use the version that wrote it"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Format found.
        found: u64,
        /// Format known.
        known: u64,
    },
}

pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

enum Request {
    Write {
        frames: Vec<Frame>,
        /// Called after the frames are durable; `None`: no need to make them durable now.
        done: Option<Done>,
    },
    /// Whole segments with entries up to this index only may go.
    Drop {
        index: u64,
    },
    Stop,
}

/// Requests that may wait for the thread: a request holds at most one append of Raft, so this bounds memory, and is
/// far above what one group commit takes.
const WAITING: usize = 4096;

/// An open log.
pub(crate) struct Wal {
    requests: SyncSender<Request>,
    thread: Option<JoinHandle<()>>,
}

impl Wal {
    /// Opens the log in `dir`, made if missing, and returns all frames it holds in order.
    pub(crate) fn open(dir: &Path, segment_bytes: u64) -> Result<(Wal, Vec<Frame>), Error> {
        let recovered = recover::recover(dir)?;
        let writer = writer::Writer::start(dir, segment_bytes, &recovered)?;
        let (requests, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("store-wal".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| Error::Io {
                path: dir.to_owned(),
                doing: "start the writing thread",
                source,
            })?;
        let wal = Wal {
            requests,
            thread: Some(thread),
        };
        Ok((wal, recovered.frames))
    }

    /// Writes frames in order and calls `done` once they are durable.
    pub(crate) fn write(&self, frames: Vec<Frame>, done: Done) {
        let request = Request::Write {
            frames,
            done: Some(done),
        };
        if let Err(refused) = self.requests.send(request)
            && let Request::Write {
                done: Some(done), ..
            } = refused.0
        {
            done(Err(io::Error::other("the log's writing thread has ended")));
        }
    }

    /// Writes a frame that becomes durable with the next [`Wal::write`].
    pub(crate) fn note(&self, frame: Frame) {
        let _ = self.requests.send(Request::Write {
            frames: vec![frame],
            done: None,
        });
    }

    /// Lets whole segments go that hold only entries up to `index`.
    pub(crate) fn drop_upto(&self, index: u64) {
        let _ = self.requests.send(Request::Drop { index });
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        let _ = self.requests.send(Request::Stop);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
