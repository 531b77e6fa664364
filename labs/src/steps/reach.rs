//! `reach`: an answer comes back, and the packet was seen to pass the hops of `via`.

use std::io::Write;
use std::time::{Duration, Instant};

use super::probe::{self, Flow};
use super::{ANSWER_WITHIN, Attempt, SEEN_WITHIN, until};
use crate::cancel::Cancel;
use crate::engine::Running;
use crate::observe::{self, Trace};

/// Nodes send what they saw at once; this covers the way to the engine, on a busy machine too.
const SETTLED: Duration = Duration::from_millis(250);

pub(super) fn run(
    running: &Running,
    flow: &Flow<'_>,
    via: &[String],
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    if via.is_empty() {
        return until(deadline, cancel, || answered(running, flow));
    }
    let within = deadline.saturating_duration_since(Instant::now());
    let mut trace: Option<Trace> = None;
    until(deadline, cancel, || {
        let trace = match &mut trace {
            Some(trace) => trace,
            none => none.insert(flow.trace(running, within)?),
        };
        trace.forget();
        let seen = answered(running, flow)?;
        // The first packet up to its delivery, so that its ladder is whole.
        let whole =
            |seen: &[observe::Observation]| observe::passed(seen, via) && observe::delivered(seen);
        trace.read_until(SEEN_WITHIN, whole);
        if !observe::passed(&trace.seen, via) {
            return Err(format!(
                "expected: the packet goes in and out of {}; seen: {seen}, but {}; \
                 look at: weft chain show, weft chain stats",
                via.join(", "),
                observe::words(&trace.seen)
            ));
        }
        keep_for_ladder(running, trace)?;
        Ok(format!("{seen}, {}", by_words(&trace.seen, via)))
    })
}

fn answered(running: &Running, flow: &Flow<'_>) -> Attempt {
    let answer = flow.send(running, ANSWER_WITHIN)?;
    let seen = probe::words(&answer);
    if answer.ok {
        return Ok(seen);
    }
    Err(format!(
        "expected: an answer from {} on {}; seen: {seen}; look at: weft trace live {} {} {}, weft drops",
        flow.to, flow.traffic, flow.from, flow.to, flow.traffic
    ))
}

fn by_words(seen: &[observe::Observation], via: &[String]) -> String {
    let by: Vec<String> = via
        .iter()
        .map(|hop| {
            let instance = seen
                .iter()
                .find(|o| &o.hop == hop && !o.instance.is_empty())
                .map_or("", |o| &o.instance);
            format!("through {hop} {instance}").trim_end().to_owned()
        })
        .collect();
    by.join(", ")
}

/// The first such packet of the lab is the one whose ladder is shown.
fn keep_for_ladder(running: &Running, trace: &mut Trace) -> Result<(), String> {
    let path = running.place.trace();
    if path.exists() {
        return Ok(());
    }
    // What another node saw earlier may come later.
    trace.read_until(SETTLED, |_| false);
    let cannot = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = std::fs::File::create(&path).map_err(cannot)?;
    for line in observe::first_packet(&trace.seen) {
        writeln!(file, "{line}").map_err(cannot)?;
    }
    Ok(())
}
