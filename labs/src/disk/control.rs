//! What the process of a disk is asked: one JSON object, one answer.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CONTROL;
use crate::error::LabError;

/// A cut writes at most the cache's size.
const PATIENCE: Duration = Duration::from_secs(20);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    /// The power is cut: refused while a machine uses the disk.
    Cut {
        /// Of the choice of what is left.
        seed: u64,
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
    Error(String),
}

/// Cuts the power of the disk in `folder`, whose machine has ended.
pub fn cut(folder: &Path, seed: u64) -> Result<Cut, LabError> {
    let failed = |cause: String| {
        let subject = format!("disk {}", folder.display());
        LabError::failed(
            subject,
            cause,
            "`weft lab inspect` tells whether the lab runs",
        )
    };
    let ask = || -> std::io::Result<String> {
        // By the folder's descriptor: a socket's path is limited to 107 bytes (unix(7)).
        let dir = std::fs::File::open(folder)?;
        let path = format!("/proc/self/fd/{}/{CONTROL}", dir.as_raw_fd());
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(&Ask::Cut { seed })?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|e| failed(e.to_string()))?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Cut(cut)) => Ok(cut),
        Ok(Answer::Error(cause)) => Err(failed(cause)),
        Err(error) => Err(failed(format!("its answer is not understood: {error}"))),
    }
}
