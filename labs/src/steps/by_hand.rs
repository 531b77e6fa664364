//! `--step`: a person says when the next step runs, and looks into the lab meanwhile.

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cancel::Cancel;
use crate::file::Step;

/// How often Ctrl-C is looked for.
const LOOK_EVERY_MS: u16 = 100;

/// Whether a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByHand {
    /// Before each step.
    Asked,
    /// No more: the input has ended (Ctrl-D), or was not wanted.
    Not,
}

impl ByHand {
    /// Shows the step and waits for Enter. Ctrl-C ends the wait; the caller sees it by `cancel`.
    pub(super) fn confirm(&mut self, step: &Step, cancel: &Cancel) {
        if *self == ByHand::Not {
            return;
        }
        let mut err = io::stderr();
        // A terminal that is gone takes no words; then its input has ended too.
        let _ = write!(
            err,
            "next  {}. {}  [Enter: run it, Ctrl-D: run all] ",
            step.number, step.kind
        );
        let _ = err.flush();
        let mut input = io::stdin().lock();
        loop {
            if cancel.is_set() {
                return;
            }
            let mut waits = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
            // EINTR: the signal is seen by its mark.
            if poll(&mut waits, PollTimeout::from(LOOK_EVERY_MS)).is_ok_and(|ready| ready > 0) {
                break;
            }
        }
        let mut line = String::new();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            *self = ByHand::Not;
            let _ = writeln!(err);
        }
    }
}
