//! A TAP device as a node's interface: the way for nodes that are namespaces.
//!
//! TAP and not a packet socket on a veth: the kernel segments and completes checksums before it hands
//! over a frame, so that what is lost, delayed and captured is what a wire would carry. Between two such
//! ends to whose frames nothing is done it may leave both undone, and hand over trains of segments. The
//! device is gone with the relay.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use weft_overlay::netns;
use weft_overlay::tap::{Tap, Undone};

use super::End;
use crate::error::LabError;

pub(super) struct TapEnd {
    tap: Tap,
    undone: Undone,
}

impl TapEnd {
    /// Makes the device; addresses, MTU and `up` are the engine's.
    pub(super) fn open(path: &Path, device: &str) -> Result<TapEnd, LabError> {
        let failed = |cause: String, help: &str| {
            let subject = format!("interface {device} in {}", path.display());
            LabError::failed(subject, cause, help)
        };
        let namespace = netns::open(path).map_err(|e| failed(e.to_string(), &e.help()))?;
        let made = netns::run_in_netns(&namespace, || Tap::create(device))
            .map_err(|e| failed(e.to_string(), &e.help()))?;
        let tap = made.map_err(|error: io::Error| {
            let help = "the kernel needs CONFIG_TUN, and the lab root and a free name";
            failed(error.to_string(), help)
        })?;
        Ok(TapEnd {
            tap,
            undone: Undone::default(),
        })
    }
}

impl End for TapEnd {
    fn reader(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }

    fn writer(&self) -> Option<BorrowedFd<'_>> {
        // The kernel takes every frame at once, or drops it.
        None
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (len, undone) = self.tap.receive(buffer)?;
        self.undone = undone;
        Ok(len)
    }

    fn send(&mut self, _now: Duration, frame: &[u8]) -> io::Result<()> {
        self.tap.send(frame, Undone::default())
    }

    fn can_leave_undone(&self) -> bool {
        true
    }

    fn leave_undone(&mut self, yes: bool) -> io::Result<()> {
        self.tap.leave_undone(yes)
    }

    fn undone(&self) -> Undone {
        self.undone
    }

    fn send_undone(&mut self, _now: Duration, frame: &[u8], undone: Undone) -> io::Result<()> {
        self.tap.send(frame, undone)
    }
}
