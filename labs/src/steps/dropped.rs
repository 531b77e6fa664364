//! `dropped`: no answer, and a node said that it dropped the packet for this reason.

use std::time::Instant;

use super::probe::{self, Flow};
use super::{Attempt, SEEN_WITHIN, SILENCE, until};
use crate::cancel::Cancel;
use crate::engine::Running;
use crate::observe::{self, Trace};

pub(super) fn run(
    running: &Running,
    flow: &Flow<'_>,
    reason: &str,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let within = deadline.saturating_duration_since(Instant::now());
    let mut trace: Option<Trace> = None;
    until(deadline, cancel, || {
        let trace = match &mut trace {
            Some(trace) => trace,
            none => none.insert(flow.trace(running, within)?),
        };
        trace.forget();
        let answer = flow.send(running, SILENCE)?;
        let is_it = |o: &observe::Observation| o.point == "drop" && o.reason == reason;
        trace.read_until(SEEN_WITHIN, |seen| seen.iter().any(is_it));
        match trace.seen.iter().find(|o| is_it(o)) {
            Some(drop) if !answer.ok => Ok(format!("dropped on {}", drop.node)),
            _ => Err(format!(
                "expected: no answer, and a drop with reason {reason}; seen: {}, {}; \
                 look at: weft drops",
                probe::words(&answer),
                observe::words(&trace.seen)
            )),
        }
    })
}
