//! Runs a lab's steps: each is tried until it holds or its time is over, and says what it saw.
//!
//! Owns: attempts and deadlines. What a kind of step asserts stands in a file of its own.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use weft_overlay::ContainerRef;

use crate::cancel::Cancel;
use crate::engine::Running;
use crate::file::{Step, StepKind, Subject, Target};
use crate::options::Outcome;
use crate::report::Report;

mod apply;
mod blocked;
mod by_hand;
mod capture;
mod command;
mod dropped;
mod isolated;
mod link;
mod power;
mod probe;
mod reach;
mod stream;
mod subject;
mod wait;

pub(crate) use by_hand::ByHand;

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
pub(crate) fn run_all(
    running: &mut Running,
    report: &mut Report,
    mut by_hand: ByHand,
    cancel: &Cancel,
) -> Outcome {
    let mut outcome = Outcome {
        passed: 0,
        failed: 0,
    };
    let mut past = Past::default();
    for step in running.lab.steps.clone() {
        by_hand.confirm(&step, cancel);
        if cancel.is_set() {
            break;
        }
        let begun = Instant::now();
        let at = SystemTime::now();
        let deadline = begun + step.within;
        let result = run_one(running, &mut past, &step, deadline, cancel).map_err(|why| {
            let (file, line) = (&running.lab.file, step.line);
            let (number, within) = (step.number, step.within);
            format!("{why}\nstep {number} at {file}:{line}, tried for {within:?}")
        });
        past.begun = Some(at);
        match &result {
            Ok(_) => outcome.passed += 1,
            Err(_) => outcome.failed += 1,
        }
        report.step(&step, begun.elapsed(), result);
    }
    outcome
}

/// What earlier steps began and did.
#[derive(Debug, Default)]
struct Past {
    streams: stream::Streams,
    hurt: subject::Hurt,
    /// When the step before began.
    begun: Option<SystemTime>,
}

fn run_one(
    running: &mut Running,
    past: &mut Past,
    step: &Step,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    match &step.kind {
        StepKind::Reach {
            from,
            to,
            traffic,
            via,
        } => {
            let flow = probe::Flow {
                from,
                to,
                traffic: *traffic,
            };
            reach::run(running, &flow, via, deadline, cancel)
        }
        StepKind::Blocked {
            from,
            to,
            traffic,
            by,
        } => {
            let flow = probe::Flow {
                from,
                to,
                traffic: *traffic,
            };
            blocked::run(running, &flow, by, deadline, cancel)
        }
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
        StepKind::Link { between, change } => link::run(running, between, change),
        StepKind::Capture(wanted) => {
            let since = past.begun.unwrap_or(SystemTime::UNIX_EPOCH);
            capture::run(running, wanted, since, deadline, cancel)
        }
        StepKind::Run {
            on,
            command,
            exit,
            text,
        } => {
            let expected = command::Expected {
                on,
                command,
                exit: *exit,
                text: text.as_deref(),
            };
            command::run(running, &expected, deadline, cancel)
        }
        StepKind::Kill {
            what,
            signal,
            power,
        } => {
            let ended = subject::kill(running, &mut past.hurt, what, *signal, deadline, cancel)?;
            match what {
                Subject::Node(name) if *power => power::cut(running, name, step.number),
                _ => Ok(ended),
            }
        }
        StepKind::Start(Subject::Node(name)) => {
            power::start(running, &mut past.hurt, name, deadline, cancel)
        }
        StepKind::Start(what) => subject::start(running, &past.hurt, what, deadline, cancel),
        StepKind::Pause(what) => subject::pause(running, what, deadline, cancel),
        StepKind::Resume(what) => subject::resume(running, what, deadline, cancel),
        StepKind::Wait(condition) => wait::until_holds(running, condition, deadline, cancel),
        StepKind::Apply(file) => apply::run(running, file, step.number, deadline, cancel),
        StepKind::Stream(stream) => {
            stream::begin(running, &mut past.streams, stream, deadline, cancel)
        }
        StepKind::Judge { name, lost, gap } => {
            stream::judge(&mut past.streams, name, *lost, *gap, deadline, cancel)
        }
    }
}

/// Lets a time pass, unless the lab is to stop.
fn pass(deadline: Instant, cancel: &Cancel) {
    while !cancel.is_set() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(RETRY_EVERY));
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
        Target::Container(name) => address(running, name, |_| true),
        Target::Family(name, family) => address(running, name, |one| family.has(one)),
    }
}

/// The first address of a container that will do.
fn address(
    running: &Running,
    name: &ContainerRef,
    will_do: impl Fn(IpAddr) -> bool,
) -> Option<String> {
    let container = running.container(&name.to_string())?;
    let mut all = container.addresses.iter();
    let found = all.find_map(|text| {
        let address = text.split('/').next()?.parse::<IpAddr>().ok()?;
        will_do(address).then_some(address)
    });
    found.map(|address| address.to_string())
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
