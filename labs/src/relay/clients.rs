//! The control socket's side of the loop: connections, lines in, lines out. Owns: their number and
//! the bounds of what they may say. Never: understands a request.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The engine and a few commands of its user.
const CLIENTS: usize = 16;
/// One request; the largest is a segment of hundreds of ends.
const LINE: usize = 1 << 20;

pub(crate) struct Clients {
    path: PathBuf,
    listener: UnixListener,
    streams: Vec<Option<Stream>>,
}

struct Stream {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Clients {
    pub(crate) fn listen(path: &Path) -> io::Result<Clients> {
        // A relay before this one that was killed.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Clients {
            path: path.to_owned(),
            listener,
            streams: Vec::new(),
        })
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The next connection with its number; one too many is closed at once.
    pub(crate) fn accept(&mut self) -> Option<(usize, BorrowedFd<'_>)> {
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        let free = self.streams.iter().position(Option::is_none);
        let number = free.unwrap_or(self.streams.len());
        if number >= CLIENTS {
            return None;
        }
        if number == self.streams.len() {
            self.streams.push(None);
        }
        let client = self.streams[number].insert(Stream {
            stream,
            read: Vec::new(),
        });
        Some((number, client.stream.as_fd()))
    }

    /// The lines that have come in. One that says too much or has gone is closed.
    pub(crate) fn lines(&mut self, number: usize) -> Vec<Vec<u8>> {
        let Some(client) = self.streams.get_mut(number).and_then(Option::as_mut) else {
            return Vec::new();
        };
        let mut chunk = [0; 4096];
        let open = loop {
            match client.stream.read(&mut chunk) {
                Ok(0) => break false,
                Ok(len) if client.read.len() + len > LINE => break false,
                Ok(len) => client.read.extend_from_slice(&chunk[..len]),
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        let end = client.read.iter().rposition(|byte| *byte == b'\n');
        let whole: Vec<u8> = client.read.drain(..end.map_or(0, |at| at + 1)).collect();
        if !open {
            self.streams[number] = None;
        }
        let lines = whole.split(|byte| *byte == b'\n');
        lines
            .filter(|l| !l.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// Whether that connection is open.
    pub(crate) fn is_open(&self, number: usize) -> bool {
        self.streams.get(number).is_some_and(Option::is_some)
    }

    /// Answers. A client that does not read its answers is closed; the loop does not wait for it.
    pub(crate) fn answer(&mut self, number: usize, line: &[u8]) {
        if let Some(slot) = self.streams.get_mut(number)
            && let Some(client) = slot
            && client.stream.write_all(line).is_err()
        {
            *slot = None;
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Not there is as good.
        let _ = fs::remove_file(&self.path);
    }
}
