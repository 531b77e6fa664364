//! SIGTERM and SIGINT as a descriptor. As process 1 of a container a program gets neither unless it
//! asks for them.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{FunctionError, system};

/// Becomes readable when the function is to end.
pub(super) struct Stop(SignalFd);

impl Stop {
    /// Takes over both signals for this thread and those that it starts.
    pub(super) fn install() -> Result<Stop, FunctionError> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block()
            .map_err(|e| system("block signals")(e.into()))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let fd = SignalFd::with_flags(&set, flags);
        Ok(Stop(fd.map_err(|e| {
            system("make a signal descriptor")(e.into())
        })?))
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
