//! A container's log: its output as it came, kept to a size by turning to a new file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::private;

/// Bytes of one file; there are two.
pub(crate) const LIMIT: u64 = 10 << 20;

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    limit: u64,
}

impl Log {
    pub(crate) fn open(path: &Path, limit: u64) -> io::Result<Log> {
        let file = private::appended(path)?;
        let length = file.metadata()?.len();
        Ok(Log {
            path: path.to_owned(),
            file,
            length,
            limit,
        })
    }

    /// Appends; turns first if the file is full.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length >= self.limit {
            match fs::rename(&self.path, previous(&self.path)) {
                // Somebody took it away, to have the space or to keep it elsewhere.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            *self = Log::open(&self.path, self.limit)?;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Where the full file goes: `log` -> `log.1`.
pub(crate) fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_taken_away_is_begun_anew_when_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, 4).unwrap();
        log.write(b"one\n").unwrap();
        fs::remove_file(&path).unwrap();
        log.write(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_full_log_turns_and_keeps_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::open(&path, 4).unwrap();
        for part in ["one\n", "two\n", "three\n"] {
            log.write(part.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(fs::read_to_string(previous(&path)).unwrap(), "two\n");
    }
}
