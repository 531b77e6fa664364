//! Frames as datagrams of unix sockets, one each: QEMU's `-netdev dgram`.
//!
//! Two sockets: the bound one is connected to nobody, since the kernel lets only the peer send to a
//! connected one, and a machine that starts anew is another peer. The other one is connected, since
//! only then does the kernel tell when the machine has room again.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::End;
use crate::error::LabError;

/// How often a machine that is not there is looked for.
const AGAIN: Duration = Duration::from_millis(20);

pub(super) struct Unix {
    local: PathBuf,
    bound: UnixDatagram,
    out: UnixDatagram,
    remote: PathBuf,
    /// When to look for the machine; none while connected.
    look: Option<Duration>,
}

impl Unix {
    pub(super) fn open(local: &Path, remote: &Path) -> Result<Unix, LabError> {
        let failed = LabError::io("bind the relay's socket", local);
        let open = || {
            // What an earlier relay left; anything but a socket is somebody else's.
            if fs::symlink_metadata(local).is_ok_and(|file| file.file_type().is_socket()) {
                fs::remove_file(local)?;
            }
            let (bound, out) = (UnixDatagram::bind(local)?, UnixDatagram::unbound()?);
            bound.set_nonblocking(true)?;
            out.set_nonblocking(true)?;
            Ok((bound, out))
        };
        let (bound, out) = open().map_err(failed)?;
        Ok(Unix {
            local: local.to_owned(),
            bound,
            out,
            remote: remote.to_owned(),
            look: Some(Duration::ZERO),
        })
    }

    fn connect(&mut self, now: Duration) -> io::Result<()> {
        if self.look.is_some_and(|at| at > now) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.look = Some(now + AGAIN);
        self.out.connect(&self.remote)?;
        self.look = None;
        Ok(())
    }
}

impl End for Unix {
    fn reader(&self) -> BorrowedFd<'_> {
        self.bound.as_fd()
    }

    fn writer(&self) -> Option<BorrowedFd<'_>> {
        Some(self.out.as_fd())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bound.recv(buffer)
    }

    fn send(&mut self, now: Duration, frame: &[u8]) -> io::Result<()> {
        if self.look.is_some() {
            self.connect(now)?;
        }
        match self.out.send(frame) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) => {
                // Its socket is gone; one of the same name may be there.
                self.look = Some(Duration::ZERO);
                self.connect(now)?;
                self.out.send(frame).map(drop)
            }
        }
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        // Not there is as good.
        let _ = fs::remove_file(&self.local);
    }
}
