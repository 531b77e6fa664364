//! The thread that writes: gathers what waits, writes it once, fsyncs once, answers in order.
//!
//! After any failed write or fsync the log is poisoned: what is on disk is then unknown, and every later request fails
//! (a second fsync may claim success for data that the kernel has already dropped).

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use super::frame::{Frame, Kind};
use super::recover::{FORMAT, Recovered, Segment, segment_path, sync_dir};
use super::{Done, Error, Request};

/// Bytes after which a group is written although more waits: bounds both memory and the latency of the first in it.
const GROUP_BYTES: usize = 8 << 20;

pub(super) struct Writer {
    dir: PathBuf,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    file: File,
    /// Bytes in the newest segment.
    written: u64,
    /// Of these, known to be durable.
    durable: u64,
    /// Newest of each kind that a new segment must repeat, so that older ones may go.
    vote: Option<Frame>,
    committed: Option<Frame>,
    purged: Option<Frame>,
    poisoned: bool,
}

impl Writer {
    pub(super) fn start(
        dir: &Path,
        segment_bytes: u64,
        recovered: &Recovered,
    ) -> Result<Writer, Error> {
        let newest = |kind| {
            recovered
                .frames
                .iter()
                .rev()
                .find(|f| f.kind == kind)
                .cloned()
        };
        let segments = recovered.segments.iter().map(|s| Segment {
            number: s.number,
            path: s.path.clone(),
            last: s.last,
        });
        let mut segments: VecDeque<Segment> = segments.collect();
        let (file, written) = match segments.back() {
            Some(segment) => {
                let file = OpenOptions::new().append(true).open(&segment.path);
                let file = file.map_err(|source| Error::Io {
                    path: segment.path.clone(),
                    doing: "open for writing",
                    source,
                })?;
                (file, recovered.tail)
            }
            None => {
                let (segment, file) = create(dir, 1)?;
                segments.push_back(segment);
                (file, 0)
            }
        };
        let mut writer = Writer {
            dir: dir.to_owned(),
            segment_bytes,
            segments,
            file,
            written,
            durable: 0,
            vote: newest(Kind::Vote),
            committed: newest(Kind::Committed),
            purged: newest(Kind::Purged),
            poisoned: false,
        };
        writer.begin().map_err(|source| Error::Io {
            path: dir.to_owned(),
            doing: "begin the segment",
            source,
        })?;
        Ok(writer)
    }

    /// Makes what was found durable (it may have been read from the page cache only), and heads an empty file.
    fn begin(&mut self) -> io::Result<()> {
        if self.written == 0 {
            let mut bytes = Vec::new();
            Frame::new(Kind::Header, FORMAT, Vec::new()).encode(0, &mut bytes);
            for frame in [&self.vote, &self.committed, &self.purged]
                .into_iter()
                .flatten()
            {
                frame.encode(0, &mut bytes);
            }
            self.file.write_all(&bytes)?;
            self.written = bytes.len() as u64;
        }
        self.file.sync_data()?;
        sync_dir(&self.dir)?;
        self.durable = self.written;
        Ok(())
    }

    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        let mut waiting: Option<Request> = None;
        loop {
            let Some(first) = waiting.take().or_else(|| requests.recv().ok()) else {
                return;
            };
            let mut bytes = Vec::new();
            let mut dones: Vec<Done> = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next.take() {
                match request {
                    Request::Write { frames, done } => {
                        for frame in frames {
                            self.note(&frame);
                            frame.encode(self.durable, &mut bytes);
                        }
                        dones.extend(done);
                    }
                    other => {
                        waiting = Some(other);
                        break;
                    }
                }
                if bytes.len() < GROUP_BYTES {
                    next = requests.try_recv().ok();
                }
            }
            let result = self.commit(&bytes, !dones.is_empty());
            for done in dones {
                done(match &result {
                    Ok(()) => Ok(()),
                    Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
                });
            }
            match waiting.take() {
                Some(Request::Drop { index }) => self.drop_upto(index),
                Some(Request::Stop) => return,
                other => waiting = other,
            }
        }
    }

    fn note(&mut self, frame: &Frame) {
        match frame.kind {
            Kind::Entry => {
                if let Some(segment) = self.segments.back_mut() {
                    segment.last = segment.last.max(frame.index);
                }
            }
            Kind::Vote => self.vote = Some(frame.clone()),
            Kind::Committed => self.committed = Some(frame.clone()),
            Kind::Purged => self.purged = Some(frame.clone()),
            Kind::Header | Kind::Truncate => {}
        }
    }

    fn commit(&mut self, bytes: &[u8], durable: bool) -> io::Result<()> {
        if self.poisoned {
            return Err(io::Error::other(
                "an earlier write of the log failed; restart the member after mending the disk",
            ));
        }
        let result = self.try_commit(bytes, durable);
        if let Err(error) = &result {
            tracing::error!(dir = %self.dir.display(), %error, "log write failed; this member takes no more writes");
            self.poisoned = true;
        }
        result
    }

    fn try_commit(&mut self, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        if durable {
            self.file.sync_data()?;
            self.durable = self.written;
            if self.written >= self.segment_bytes {
                self.rotate()?;
            }
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |s| s.number + 1);
        let (segment, file) = create(&self.dir, number).map_err(io::Error::other)?;
        self.segments.push_back(segment);
        self.file = file;
        self.written = 0;
        self.durable = 0;
        self.begin()
    }

    /// Oldest first, so that no hole appears; the newest always stays.
    fn drop_upto(&mut self, index: u64) {
        while self.segments.len() > 1 && self.segments[0].last <= index {
            let segment = &self.segments[0];
            if let Err(error) = std::fs::remove_file(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "cannot remove an old log segment");
                return;
            }
            self.segments.pop_front();
        }
    }
}

fn create(dir: &Path, number: u64) -> Result<(Segment, File), Error> {
    let path = segment_path(dir, number);
    let file = OpenOptions::new().append(true).create_new(true).open(&path);
    let file = file.map_err(|source| Error::Io {
        path: path.clone(),
        doing: "make the segment",
        source,
    })?;
    let segment = Segment {
        number,
        path,
        last: 0,
    };
    Ok((segment, file))
}
