//! A TAP device as a node's interface: the way for nodes that are namespaces.
//!
//! TAP and not a packet socket on a veth: the kernel segments and completes checksums before it hands
//! over a frame, so that what is lost, delayed and captured is what a wire would carry. The device
//! is gone with the relay.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use tappers::Interface;
use tappers::linux::Tap;
use weft_overlay::netns;

use super::End;
use crate::error::LabError;

pub(super) struct TapEnd(Tap);

impl TapEnd {
    /// Makes the device; addresses, MTU and `up` are the engine's.
    pub(super) fn open(path: &Path, device: &str) -> Result<TapEnd, LabError> {
        let failed = |cause: String, help: &str| {
            let subject = format!("interface {device} in {}", path.display());
            LabError::failed(subject, cause, help)
        };
        let namespace = netns::open(path).map_err(|e| failed(e.to_string(), &e.help()))?;
        let made = netns::run_in_netns(&namespace, || {
            let tap = Tap::create_named(Interface::new(device)?)?;
            tap.set_nonblocking(true)?;
            Ok(tap)
        })
        .map_err(|e| failed(e.to_string(), &e.help()))?;
        made.map(TapEnd).map_err(|error: io::Error| {
            let help = "the kernel needs CONFIG_TUN, and the lab root and a free name";
            failed(error.to_string(), help)
        })
    }
}

impl End for TapEnd {
    fn reader(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn writer(&self) -> Option<BorrowedFd<'_>> {
        // The kernel takes every frame at once, or drops it.
        None
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }

    fn send(&mut self, _now: Duration, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }
}
