//! Lets everything through and counts it by protocol: to see what a chain steers.

use std::path::PathBuf;
use std::time::Instant;

use super::FunctionError;
use super::bridge::{self, Direction, Judge};
use super::firewall::kind_of;
use super::status::Status;

/// How a counter is set up.
#[derive(Clone, Debug)]
pub struct CounterArgs {
    /// First interface, `in0`.
    pub input: String,
    /// Second interface, `out0`.
    pub output: String,
    /// Where the status goes.
    pub status: PathBuf,
}

impl Default for CounterArgs {
    fn default() -> Self {
        let status = super::DEFAULT_STATUS.into();
        CounterArgs {
            input: "in0".into(),
            output: "out0".into(),
            status,
        }
    }
}

struct Counter;

impl Judge for Counter {
    fn passes(&mut self, frame: &[u8], _: Direction, status: &mut Status) -> bool {
        let kind = kind_of(frame);
        if kind == "other" {
            status.other += 1;
        } else {
            status.allowed += 1;
        }
        match status.by_rule.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(status.by_rule.insert(kind.to_owned(), 1)),
        }
        true
    }
    fn pause(&mut self, _: Instant) {}
}

/// Runs until it is told to stop.
pub(super) fn run(args: &CounterArgs) -> Result<(), FunctionError> {
    bridge::run(
        "counter",
        [&args.input, &args.output],
        &args.status,
        &mut Counter,
    )
}
