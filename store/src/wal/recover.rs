//! Reading a log at its start: every segment in order, the torn end cut off, damage refused.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::Error;
use super::frame::{Frame, Kind, read_at};

/// Format of the files written by this program.
pub(super) const FORMAT: u64 = 1;

/// A segment file and what matters of it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Greatest entry index in it; 0 if none.
    pub(super) last: u64,
}

/// What a folder held.
pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    /// Good bytes of the last segment.
    pub(super) tail: u64,
    pub(super) frames: Vec<Frame>,
}

pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.wal"))
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn recover(dir: &Path) -> Result<Recovered, Error> {
    let io = |doing, source| Error::Io {
        path: dir.to_owned(),
        doing,
        source,
    };
    fs::create_dir_all(dir).map_err(|e| io("make the folder", e))?;
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| io("list the folder", e))? {
        let name = entry.map_err(|e| io("list the folder", e))?.file_name();
        let name = name.to_string_lossy();
        if let Some(number) = name.strip_suffix(".wal")
            && let Ok(number) = u64::from_str_radix(number, 16)
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let mut recovered = Recovered {
        segments: Vec::new(),
        tail: 0,
        frames: Vec::new(),
    };
    for (at, &number) in numbers.iter().enumerate() {
        let newest = at + 1 == numbers.len();
        if at > 0 && number != numbers[at - 1] + 1 {
            return Err(Error::Damaged {
                path: segment_path(dir, numbers[at - 1] + 1),
                offset: 0,
                detail: "the file is missing".to_owned(),
            });
        }
        read_segment(dir, number, newest, &mut recovered)?;
    }
    Ok(recovered)
}

fn read_segment(
    dir: &Path,
    number: u64,
    newest: bool,
    recovered: &mut Recovered,
) -> Result<(), Error> {
    let path = segment_path(dir, number);
    let io = |doing, source| Error::Io {
        path: path.clone(),
        doing,
        source,
    };
    let bytes = fs::read(&path).map_err(|e| io("read", e))?;
    let mut last = 0;
    let mut offset = 0;
    while offset < bytes.len() {
        let read = match read_at(&bytes, offset) {
            Ok(read) => read,
            Err(detail) => {
                if !newest || promised_after(&bytes, offset) {
                    return Err(Error::Damaged {
                        path,
                        offset: offset as u64,
                        detail: detail.to_owned(),
                    });
                }
                cut(&path, offset as u64).map_err(|e| io("cut off the torn end", e))?;
                break;
            }
        };
        match read.frame.kind {
            Kind::Header if read.frame.index != FORMAT => {
                return Err(Error::Format {
                    path,
                    found: read.frame.index,
                    known: FORMAT,
                });
            }
            Kind::Header => {}
            Kind::Entry => last = last.max(read.frame.index),
            _ => {}
        }
        if read.frame.kind != Kind::Header {
            recovered.frames.push(read.frame);
        }
        offset += read.size;
    }
    recovered.tail = offset as u64;
    recovered.segments.push(Segment { number, path, last });
    Ok(())
}

/// Whether a later frame proves that the place at `offset` had been made durable.
fn promised_after(bytes: &[u8], offset: usize) -> bool {
    (offset + 1..bytes.len())
        .any(|at| read_at(bytes, at).is_ok_and(|read| read.durable > offset as u64))
}

fn cut(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}
