//! An end of a link as the loop sees it: frames in, frames out, and a small store of those that the
//! other side does not take yet.
//!
//! Owns: the bound of that store; a node that reads nothing must not hold up the others. Never:
//! waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use weft_overlay::tap::Undone;

use super::spec::PortSpec;
use crate::error::LabError;

mod tap;
mod unix;

/// The largest frame that is read: a packet of 64 KiB with headers and two VLAN tags.
pub(crate) const LARGEST: usize = 65_536 + 22;
/// What waits for a node at most: a few times what its own socket holds, 12 ms of 1 Gbit/s.
const BACKLOG: usize = 1024;
/// The other end of a wire is held from here on, and goes on from half of it.
const BEHIND: usize = BACKLOG / 2;
/// A node that takes nothing for this long is not slow but stopped; its links then drop, as a wire to
/// a machine that is off.
const STOPPED: Duration = Duration::from_millis(50);

/// Something that frames are read from and written to, never blocking.
pub(crate) trait End: Send {
    /// Readable when a frame is there.
    fn reader(&self) -> BorrowedFd<'_>;
    /// Writable when one is taken again after `WouldBlock`; none if that never comes.
    fn writer(&self) -> Option<BorrowedFd<'_>>;
    /// One frame.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// One frame.
    fn send(&mut self, now: Duration, frame: &[u8]) -> io::Result<()>;

    /// Whether work may be left undone on frames between such ends.
    fn can_leave_undone(&self) -> bool {
        false
    }
    /// Lets the node leave work undone on what it sends from now on, or not.
    fn leave_undone(&mut self, _yes: bool) -> io::Result<()> {
        Ok(())
    }
    /// What is undone on the frame that was received last.
    fn undone(&self) -> Undone {
        Undone::default()
    }
    /// A frame on which work is undone.
    fn send_undone(&mut self, now: Duration, frame: &[u8], _undone: Undone) -> io::Result<()> {
        self.send(now, frame)
    }
}

/// An open end.
pub(crate) struct Port {
    end: Box<dyn End>,
    backlog: VecDeque<Box<[u8]>>,
    /// When a frame last left the backlog, or entered an empty one.
    moved: Duration,
    refused: u64,
    /// Whether frames are passed on on which work is undone.
    trains: bool,
    /// Where its frames are captured: the capture's slot and its interface there.
    pub(crate) watched: Option<(usize, u32)>,
}

impl Port {
    pub(crate) fn open(spec: &PortSpec) -> Result<Port, LabError> {
        let end: Box<dyn End> = match spec {
            PortSpec::Unix { local, remote } => Box::new(unix::Unix::open(local, remote)?),
            PortSpec::Tap { netns, device } => Box::new(tap::TapEnd::open(netns, device)?),
        };
        Ok(Port {
            end,
            backlog: VecDeque::new(),
            moved: Duration::ZERO,
            refused: 0,
            trains: false,
            watched: None,
        })
    }

    pub(crate) fn end(&self) -> &dyn End {
        &*self.end
    }

    /// Frames that the node did not take: not there, down, or too slow.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// What waits for the node.
    pub(crate) fn waiting(&self) -> Vec<Box<[u8]>> {
        self.backlog.iter().cloned().collect()
    }

    /// As another relay's end was.
    pub(crate) fn go_on_with(&mut self, waiting: Vec<Box<[u8]>>, refused: u64) {
        self.backlog = waiting.into();
        self.refused = refused;
    }

    /// The length of the next frame; none if there is none now.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.end.receive(buffer) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether work may be left undone between this end and another one that can.
    pub(crate) fn can_leave_undone(&self) -> bool {
        self.end.can_leave_undone()
    }

    /// Lets the node send trains, if it can.
    pub(crate) fn couple(&mut self) {
        self.trains = self.trains || self.end.leave_undone(true).is_ok();
    }

    /// Lets the node send frames only; trains that it has sent are there to be received.
    pub(crate) fn slow_down(&mut self) {
        // Refused only for a device that is gone.
        let _ = self.end.leave_undone(false);
    }

    /// No train is passed on any more.
    pub(crate) fn uncouple(&mut self) {
        self.trains = false;
    }

    /// Whether trains are passed on.
    pub(crate) fn lets_trains(&self) -> bool {
        self.trains
    }

    /// What is undone on the frame that was received last.
    pub(crate) fn undone(&self) -> Undone {
        self.end.undone()
    }

    /// A frame that was not passed on.
    pub(crate) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// A frame on which the work is left to this end, which can.
    pub(crate) fn send_undone(&mut self, now: Duration, frame: &[u8], undone: Undone) {
        if self.end.send_undone(now, frame, undone).is_err() {
            self.refused += 1;
        }
    }

    pub(crate) fn send(&mut self, now: Duration, frame: &[u8]) {
        if self.backlog.is_empty() {
            match self.end.send(now, frame) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.refused += 1;
                    return;
                }
            }
        }
        if self.backlog.is_empty() {
            self.moved = now;
        }
        if self.end.writer().is_some() && self.backlog.len() < BACKLOG {
            self.backlog.push_back(frame.into());
        } else {
            self.refused += 1;
        }
    }

    /// Slow, but at work: whoever sends to it should wait rather than lose frames.
    pub(crate) fn is_behind(&self, now: Duration) -> bool {
        self.backlog.len() >= BEHIND && now < self.moved + STOPPED
    }

    /// Whoever waited may go on.
    pub(crate) fn has_room(&self, now: Duration) -> bool {
        self.backlog.len() < BEHIND / 2 || now >= self.moved + STOPPED
    }

    /// The end takes frames again.
    pub(crate) fn flush(&mut self, now: Duration) {
        while let Some(frame) = self.backlog.front() {
            match self.end.send(now, frame) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.refused += 1,
            }
            self.moved = now;
            self.backlog.pop_front();
        }
    }
}
