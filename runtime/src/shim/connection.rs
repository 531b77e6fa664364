//! One caller of a shim: its bytes until a line is whole, the descriptors that came with them, and what it waits for.

use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;

use crate::protocol::{LINE, Reply};
use crate::sys;

/// What a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Nothing,
    /// The end of process 1.
    Container,
    /// The end of its command.
    Command(Pid),
}

/// One caller.
#[derive(Debug)]
pub(super) struct Connection {
    pub stream: UnixStream,
    bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
    pub waits: Waits,
    pub closed: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            bytes: Vec::new(),
            fds: Vec::new(),
            waits: Waits::Nothing,
            closed: false,
        })
    }

    /// Takes what has come; `closed` is set at the end or on nonsense.
    pub(super) fn read(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        let mut space = nix::cmsg_space!([RawFd; 3]);
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let got = recvmsg::<()>(
                self.stream.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            );
            let length = match got {
                Ok(message) => {
                    for control in message.cmsgs().into_iter().flatten() {
                        if let ControlMessageOwned::ScmRights(fds) = control {
                            self.fds.extend(sys::adopt(fds));
                        }
                    }
                    message.bytes
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return,
                Err(_) => 0,
            };
            if length == 0 || self.bytes.len() + length > LINE {
                self.closed = true;
                return;
            }
            self.bytes.extend_from_slice(&buffer[..length]);
        }
    }

    /// The next whole line.
    pub(super) fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes.iter().position(|b| *b == b'\n')?;
        let rest = self.bytes.split_off(end + 1);
        Some(std::mem::replace(&mut self.bytes, rest))
    }

    /// Answers. A caller that does not read what it asked for is let go.
    pub(super) fn answer(&mut self, reply: &Reply) {
        if self.stream.write_all(&reply.line()).is_err() {
            self.closed = true;
        }
    }
}
