//! Moves frames between a hop's two interfaces, both ways, one thread, and asks about each.
//!
//! Reads batches without waiting and polls only when both sides are empty. Nothing is allocated per
//! packet.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::packet::{BATCH, Batch, PacketSocket};
use super::status::{Status, StatusFile};
use super::stop::Stop;
use super::{FunctionError, system};

/// How long an interface may take to appear or to come back.
const INTERFACE_LIMIT: Duration = Duration::from_secs(60);

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// In by the first interface.
    Forward,
    /// In by the second interface.
    Reverse,
}

/// Decides about frames, and counts what it decides.
pub(super) trait Judge {
    /// Whether an Ethernet frame goes on. Notes it in `status`.
    fn passes(&mut self, frame: &[u8], direction: Direction, status: &mut Status) -> bool;
    /// Called about once in 100 ms while frames come, and when it gets quiet.
    fn pause(&mut self, now: Instant);
}

/// A hop's two interfaces and its status.
struct Bridge<'a> {
    names: [&'a str; 2],
    sockets: [PacketSocket; 2],
    status: Status,
    stop: Stop,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(
    function: &str,
    interfaces: [&str; 2],
    status_file: &Path,
    judge: &mut dyn Judge,
) -> Result<(), FunctionError> {
    let stop = Stop::install()?;
    let [first, second] = interfaces;
    let status = Status {
        function: function.to_owned(),
        interfaces: interfaces.map(str::to_owned),
        ..Status::default()
    };
    let mut file = StatusFile::new(status_file);
    let sockets = [
        PacketSocket::open(first, INTERFACE_LIMIT, &stop)?,
        PacketSocket::open(second, INTERFACE_LIMIT, &stop)?,
    ];
    let mut bridge = Bridge {
        names: interfaces,
        sockets,
        status,
        stop,
    };
    eprintln!("{function}: {first} and {second} are joined");
    let mut batch = Batch::new();
    loop {
        let mut moved = 0;
        for direction in [Direction::Forward, Direction::Reverse] {
            moved += match bridge.step(direction, &mut batch, judge) {
                Ok(count) => count,
                Err(error) => {
                    // What was counted is worth more than why it ended.
                    let _ = file.write(&bridge.status, Instant::now());
                    return Err(error);
                }
            };
        }
        let now = Instant::now();
        let due = file.keep(&bridge.status, now)?;
        judge.pause(now);
        if bridge.wait(moved > 0, due)? {
            file.write(&bridge.status, Instant::now())?;
            return Ok(());
        }
    }
}

impl Bridge<'_> {
    /// Moves one batch and gives how many frames came.
    fn step(
        &mut self,
        direction: Direction,
        batch: &mut Batch,
        judge: &mut dyn Judge,
    ) -> Result<usize, FunctionError> {
        let (from, to) = match direction {
            Direction::Forward => (0, 1),
            Direction::Reverse => (1, 0),
        };
        match self.sockets[from].receive(batch) {
            Ok(_) => {}
            Err(error) => return self.failed(from, &error).map(|()| 0),
        }
        let mut keep = [0; BATCH];
        let (mut kept, mut bytes) = (0, 0);
        for at in 0..batch.len() {
            let Some(frame) = batch.frame(at) else {
                self.status.oversize += 1;
                continue;
            };
            if judge.passes(frame, direction, &mut self.status) {
                keep[kept] = at;
                kept += 1;
                bytes += frame.len() as u64;
            }
        }
        if kept > 0 {
            let sent = self.sockets[to].send(batch, &keep[..kept]);
            let (frames, sum) = match direction {
                Direction::Forward => (
                    &mut self.status.forwarded_in_to_out,
                    &mut self.status.bytes_in_to_out,
                ),
                Direction::Reverse => (
                    &mut self.status.forwarded_out_to_in,
                    &mut self.status.bytes_out_to_in,
                ),
            };
            *frames += sent as u64;
            *sum += bytes;
            self.status.send_errors += (kept - sent) as u64;
        }
        Ok(batch.len())
    }

    /// A read failed: nothing there is no failure, and an interface that went may come back.
    fn failed(&mut self, side: usize, error: &io::Error) -> Result<(), FunctionError> {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(()),
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
                eprintln!("{} went down, waiting for it", self.names[side]);
                self.sockets[side] =
                    PacketSocket::open(self.names[side], INTERFACE_LIMIT, &self.stop)?;
                Ok(())
            }
            // A packet that the header cannot describe (EINVAL), or a passing shortage.
            _ => {
                self.status.receive_errors += 1;
                Ok(())
            }
        }
    }

    /// Waits for frames, unless there were some just now, and for at most `due`. True: stop.
    fn wait(&self, busy: bool, due: Option<Duration>) -> Result<bool, FunctionError> {
        let timeout = match (busy, due) {
            (true, _) => PollTimeout::ZERO,
            (false, Some(due)) => {
                PollTimeout::try_from(due + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
            (false, None) => PollTimeout::NONE,
        };
        let mut fds = [
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.sockets[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(self.sockets[1].as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) => Ok(fds[0].any().unwrap_or(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(system("wait for frames")(error.into())),
        }
    }
}
