//! `blocked`: no answer; the packet was seen to enter the hop and not to leave it, and the hop's own
//! counter of denials rose.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::probe::{self, Flow};
use super::{Attempt, SEEN_WITHIN, SILENCE, until};
use crate::cancel::Cancel;
use crate::engine::Running;
use crate::observe::{self, Trace};

/// How long the function's status file may lag behind (it is written at most every 100 ms).
const STATUS_WITHIN: Duration = Duration::from_millis(600);
/// How often it is read.
const STATUS_EVERY: Duration = Duration::from_millis(50);

pub(super) fn run(
    running: &Running,
    flow: &Flow<'_>,
    by: &str,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let instances = instances(running, by);
    let within = deadline.saturating_duration_since(Instant::now());
    let mut trace: Option<Trace> = None;
    until(deadline, cancel, || {
        let trace = match &mut trace {
            Some(trace) => trace,
            none => none.insert(flow.trace(running, within)?),
        };
        trace.forget();
        let before = denied(running, &instances)?;
        let answer = flow.send(running, SILENCE)?;
        trace.read_until(SEEN_WITHIN, |seen| observe::entered(seen, by));
        let expected = format!("expected: {by} takes the packet in and keeps it");
        if answer.ok {
            return Err(format!(
                "{expected}; seen: {}, {}; look at: weft chain show, the rules of {by}",
                probe::words(&answer),
                observe::words(&trace.seen)
            ));
        }
        if !observe::entered(&trace.seen, by) || observe::left(&trace.seen, by) {
            return Err(format!(
                "{expected}; seen: {}; look at: weft chain show, weft chain stats",
                observe::words(&trace.seen)
            ));
        }
        let until_when = Instant::now() + STATUS_WITHIN;
        let mut after = denied(running, &instances)?;
        while after <= before && Instant::now() < until_when {
            std::thread::sleep(STATUS_EVERY);
            after = denied(running, &instances)?;
        }
        if after <= before {
            return Err(format!(
                "{expected} and counts it; seen: its counter of denials stays at {before}; \
                 look at: weft exec {} -- /.weft function status",
                instances.join(" ")
            ));
        }
        Ok(format!(
            "no answer; {} denied {} packets",
            instances.join(", "),
            after - before
        ))
    })
}

/// The containers that serve a hop, by the chain's selector.
fn instances(running: &Running, hop: &str) -> Vec<String> {
    let site = &running.lab.site;
    let mut found = Vec::new();
    for chain in &site.chains {
        let tenant = &chain.parsed.chain.tenant;
        for one in chain.parsed.hops.iter().filter(|h| h.name == hop) {
            let serves = site.containers.iter().filter(|container| {
                &container.name.tenant == tenant && one.selects(&container.labels)
            });
            found.extend(serves.map(|container| container.name.to_string()));
        }
    }
    found
}

/// Packets that these instances denied so far.
fn denied(running: &Running, instances: &[String]) -> Result<u64, String> {
    let mut sum = 0;
    for instance in instances {
        let args = ["exec", instance, "--", "/.weft", "function", "status"];
        let objects = running.nodes[0].weft_json(&args, Duration::from_secs(5))?;
        sum += objects
            .iter()
            .filter_map(|status| status.get("denied").and_then(Value::as_u64))
            .sum::<u64>();
    }
    Ok(sum)
}
