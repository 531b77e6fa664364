//! Runs a lab's steps: each is tried until it holds or its time is over, and says what it saw.
//!
//! Owns: attempts and deadlines. What a kind of step asserts stands in a file of its own.

use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::engine::Running;
use crate::file::{StepKind, Target};
use crate::options::Outcome;
use crate::report::Report;

mod blocked;
mod command;
mod dropped;
mod isolated;
mod link;
mod probe;
mod reach;

/// Pause between attempts.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long an answer that must come may take.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
/// How long to wait for an answer that must not come: answers here take under a millisecond.
const SILENCE: Duration = Duration::from_millis(500);
/// How long observations may take to arrive after the answer.
const SEEN_WITHIN: Duration = Duration::from_millis(1500);

/// One attempt: what was seen, or expected, seen and where to look.
type Attempt = Result<String, String>;

/// Runs all steps in order; a step that fails does not keep the next ones from being run.
pub(crate) fn run_all(running: &mut Running, report: &mut Report, cancel: &Cancel) -> Outcome {
    let mut outcome = Outcome {
        passed: 0,
        failed: 0,
    };
    for step in running.lab.steps.clone() {
        if cancel.is_set() {
            break;
        }
        let begun = Instant::now();
        let deadline = begun + step.within;
        let result = run_one(running, &step.kind, deadline, cancel).map_err(|why| {
            let (file, line) = (&running.lab.file, step.line);
            format!("{why}\nstep at {file}:{line}, tried for {:?}", step.within)
        });
        match &result {
            Ok(_) => outcome.passed += 1,
            Err(_) => outcome.failed += 1,
        }
        report.step(step.kind.to_string(), begun.elapsed(), result);
    }
    outcome
}

fn run_one(running: &mut Running, kind: &StepKind, deadline: Instant, cancel: &Cancel) -> Attempt {
    match kind {
        StepKind::Reach {
            from,
            to,
            traffic,
            via,
        } => reach::run(
            running,
            &probe::Flow {
                from,
                to,
                traffic: *traffic,
            },
            via,
            deadline,
            cancel,
        ),
        StepKind::Blocked {
            from,
            to,
            traffic,
            by,
        } => blocked::run(
            running,
            &probe::Flow {
                from,
                to,
                traffic: *traffic,
            },
            by,
            deadline,
            cancel,
        ),
        StepKind::Dropped {
            from,
            to,
            traffic,
            reason,
        } => {
            let flow = probe::Flow {
                from,
                to,
                traffic: *traffic,
            };
            dropped::run(running, &flow, reason, deadline, cancel)
        }
        StepKind::Isolated([a, b]) => isolated::run(running, a, b),
        StepKind::Link { between, state } => link::run(running, between, *state),
        StepKind::Run { node, command } => command::run(running, node, command, deadline, cancel),
    }
}

/// Tries until it holds or the deadline passes; the last attempt's words are the result.
fn until(deadline: Instant, cancel: &Cancel, mut attempt: impl FnMut() -> Attempt) -> Attempt {
    loop {
        let result = attempt();
        let over = Instant::now() + RETRY_EVERY >= deadline || cancel.is_set();
        if result.is_ok() || over {
            return result;
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

/// The address that a step's target has now.
pub(crate) fn address_of(running: &Running, target: &Target) -> Option<String> {
    match target {
        Target::Address(address) => Some(address.to_string()),
        Target::Container(name) => running
            .container(&name.to_string())
            .and_then(|container| container.addresses.first())
            .map(|address| address.split('/').next().unwrap_or(address).to_owned()),
    }
}

/// The ladder of the packet that the first `reach` with `via` captured, by `weft trace render`.
pub(crate) fn ladder(running: &Running) -> Option<Result<String, String>> {
    let file = running.place.trace();
    if !file.exists() {
        return None;
    }
    let path = match running.nodes[0].carrier.bring(&file) {
        Ok(path) => path,
        Err(error) => return Some(Err(error.to_string())),
    };
    let args = ["trace", "render", &path];
    Some(match running.nodes[0].weft(&args, Duration::from_secs(5)) {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => Err(output.words()),
        Err(error) => Err(error.to_string()),
    })
}
