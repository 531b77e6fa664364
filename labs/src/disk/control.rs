//! What the process of a disk is asked: one JSON object, one answer.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CONTROL;
use crate::error::LabError;

/// A cut writes at most the cache's size.
const PATIENCE: Duration = Duration::from_secs(20);
/// A whole image is written.
const SAVED_WITHIN: Duration = Duration::from_secs(120);

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    /// The power is cut: refused while a machine uses the disk.
    Cut {
        /// Of the choice of what is left.
        seed: u64,
    },
    /// All that was written is copied to a file; the machine that uses the disk stands.
    Save {
        /// The copy.
        file: PathBuf,
    },
}

/// What a power cut did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Sectors of 512 bytes that were written and not flushed.
    pub unflushed: u64,
    /// Those of them that hold something older than what was written last.
    pub lost: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Cut(Cut),
    Saved,
    Error(String),
}

/// Cuts the power of the disk in `folder`, whose machine has ended.
pub fn cut(folder: &Path, seed: u64) -> Result<Cut, LabError> {
    match ask(folder, &Ask::Cut { seed }, PATIENCE)? {
        Answer::Cut(cut) => Ok(cut),
        other => Err(failed(folder, unexpected(&other))),
    }
}

/// Copies the disk in `folder`, whose machine stands, to a file.
pub(crate) fn save(folder: &Path, file: &Path) -> Result<(), LabError> {
    let file = file.to_owned();
    match ask(folder, &Ask::Save { file }, SAVED_WITHIN)? {
        Answer::Saved => Ok(()),
        other => Err(failed(folder, unexpected(&other))),
    }
}

fn unexpected(answer: &Answer) -> String {
    match answer {
        Answer::Error(cause) => cause.clone(),
        other => format!("its answer {other:?} is not understood"),
    }
}

fn failed(folder: &Path, cause: impl ToString) -> LabError {
    let subject = format!("disk {}", folder.display());
    let help = "`weft lab inspect` tells whether the lab runs";
    LabError::failed(subject, cause, help)
}

fn ask(folder: &Path, ask: &Ask, within: Duration) -> Result<Answer, LabError> {
    let exchange = || -> std::io::Result<String> {
        // By the folder's descriptor: a socket's path is limited to 107 bytes (unix(7)).
        let dir = std::fs::File::open(folder)?;
        let path = format!("/proc/self/fd/{}/{CONTROL}", dir.as_raw_fd());
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(within))?;
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|e| failed(folder, e))?;
    serde_json::from_str(&answer)
        .map_err(|e| failed(folder, format!("its answer is not understood: {e}")))
}
