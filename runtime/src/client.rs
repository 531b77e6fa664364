//! The runtime's side of a shim's socket: one request, one answer, with a deadline. Knows no containers' lives.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::protocol::{LINE, Reply, Request, SOCKET, VERSION, Verb};

/// How long a shim may think: it makes at most one process meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A connection to a shim.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    /// What came after the last line: the answer to a short command's end comes with that to its start.
    rest: Vec<u8>,
}

impl Client {
    /// An error means that no shim lives there.
    pub(crate) fn connect(dir: &Path) -> io::Result<Client> {
        // A socket's address holds 108 bytes; this one is short however deep the folder lies.
        let folder = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(SOCKET);
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream,
            rest: Vec::new(),
        })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(
        &mut self,
        verb: Verb,
        fds: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> io::Result<Reply> {
        let mut line = serde_json::to_vec(&Request {
            version: VERSION,
            verb,
        })?;
        line.push(b'\n');
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() {
            &[][..]
        } else {
            &control[..]
        };
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(&line)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        self.stream.write_all(&line[sent..])?;
        self.answer(patience)
    }

    /// Waits for one more answer.
    pub(crate) fn answer(&mut self, patience: Duration) -> io::Result<Reply> {
        self.stream
            .set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let after = self.rest.split_off(end + 1);
                let line = std::mem::replace(&mut self.rest, after);
                return Ok(serde_json::from_slice(&line)?);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if self.rest.len() > LINE => return Err(io::ErrorKind::InvalidData.into()),
                Ok(length) => self.rest.extend_from_slice(&buffer[..length]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits until the shim itself has gone.
    pub(crate) fn until_gone(&mut self) {
        let _ = self.stream.set_read_timeout(Some(PATIENCE));
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    /// The connection and what came on it already, for the answer that comes when a command ends.
    pub(crate) fn into_parts(self) -> (UnixStream, Vec<u8>) {
        (self.stream, self.rest)
    }
}
