//! `kill`, `start`, `pause`, `resume`: the processes of an agent, a container or a node.
//!
//! Owns: what is done to them and what must be seen then. `found` finds them. Never: asks them for anything.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::{Attempt, until, wait};
use crate::backend::Backend;
use crate::cancel::Cancel;
use crate::engine::{self, Running};
use crate::file::{Condition, Subject};
use crate::journal::{Entry, Journal};
use crate::processes::Process;
use crate::underlay;

mod found;

pub(super) use found::container;
use found::{Found, find, keeper};

/// What earlier steps did to the lab, for the steps that undo it.
#[derive(Debug, Default)]
pub(super) struct Hurt {
    /// Nodes that ended, with all that ran on them.
    ended: Vec<String>,
}

impl Hurt {
    /// It runs again.
    pub(super) fn mended(&mut self, node: &str) {
        self.ended.retain(|ended| ended != node);
    }
}

/// How much of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    alive: usize,
    stopped: usize,
}

pub(super) fn kill(
    running: &Running,
    hurt: &mut Hurt,
    what: &Subject,
    signal: Signal,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let found = match what {
        Subject::Node(name) => keeper(running, name.as_str())?,
        _ => find(running, what)?,
    };
    let processes = match what {
        // With the first process of a namespace end all others.
        Subject::Container(_) => found.first().into_iter().collect(),
        _ => found.processes(),
    };
    if processes.is_empty() {
        return Err(not_there(running, what));
    }
    for process in &processes {
        found.signal(*process, signal)?;
    }
    if let Subject::Node(name) = what {
        hurt.ended.push(name.to_string());
    }
    let numbers = numbers(&processes);
    if !ends(signal) {
        return Ok(format!("{signal} sent to {numbers}"));
    }
    let ended = until(deadline, cancel, || {
        let alive = found.again()?.still(&processes);
        gone(running, what, signal, alive).map(|()| format!("{numbers} ended"))
    })?;
    if let (Subject::Node(name), Backend::Netns) = (what, running.lab.backend) {
        // A machine's sockets stay for its next life; namespaces have none.
        let left = underlay::leave_relay(&running.place, name.as_str());
        left.map_err(|error| error.to_string().replace('\n', "; "))?;
    }
    Ok(ended)
}

/// Whether a signal is sent so that its receiver ends.
fn ends(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::SIGKILL | Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT
    )
}

fn gone(running: &Running, what: &Subject, signal: Signal, alive: usize) -> Result<(), String> {
    judge_gone(what, signal, alive, &look(running, what))
}

fn judge_gone(what: &Subject, signal: Signal, alive: usize, look: &str) -> Result<(), String> {
    if alive == 0 {
        return Ok(());
    }
    Err(format!(
        "expected: {what} ends by {signal}; seen: it goes on; look at: {look}"
    ))
}

pub(super) fn start(
    running: &mut Running,
    hurt: &Hurt,
    what: &Subject,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    match what {
        Subject::Agent(name) | Subject::Node(name) => {
            let alive = find(running, what)?.seen.len();
            let lost = hurt.ended.iter().any(|ended| ended == name.as_str());
            may_start(what, alive, lost, &look(running, what))?;
            let index = running.nodes.iter().position(|n| n.name == name.as_str());
            let index = index.ok_or_else(|| not_there(running, what))?;
            start_agent(running, index)?;
            wait::until_holds(running, &Condition::Ready(name.clone()), deadline, cancel)
        }
        Subject::Container(name) => {
            let running_already = find(running, what)?.first().is_some();
            may_start(
                what,
                usize::from(running_already),
                false,
                &look(running, what),
            )?;
            wait::start_container(running, name, deadline, cancel)
        }
    }
}

/// Only what does not run can be started.
fn may_start(what: &Subject, alive: usize, node_ended: bool, look: &str) -> Result<(), String> {
    let seen = match (alive, node_ended) {
        (0, false) => return Ok(()),
        (0, true) => "its node has ended",
        _ => "it runs",
    };
    Err(format!(
        "expected: {what} does not run and can be started; seen: {seen}; look at: {look}"
    ))
}

pub(super) fn start_agent(running: &Running, index: usize) -> Result<(), String> {
    let node = &running.nodes[index];
    let args = engine::agent_arguments(&running.lab, &running.nodes, index);
    let process = node.carrier.spawn(&args).map_err(|e| e.to_string())?;
    Journal::open(&running.place.journal())
        .and_then(|mut journal| {
            journal.write(&Entry::Agent {
                node: node.name.clone(),
                pid: process.pid,
                start: process.start,
                args,
            })
        })
        .map_err(|e| e.to_string())
}

pub(super) fn pause(
    running: &Running,
    what: &Subject,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    signal_all(running, what, Signal::SIGSTOP, deadline, cancel)
}

pub(super) fn resume(
    running: &Running,
    what: &Subject,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let before = count(&find(running, what)?);
    if before.alive > 0 && before.stopped == 0 {
        return Err(format!(
            "expected: {what} is paused; seen: all its {} processes go on; look at: {}",
            before.alive,
            look(running, what)
        ));
    }
    signal_all(running, what, Signal::SIGCONT, deadline, cancel)
}

/// Again and again, since a process may have made another meanwhile.
fn signal_all(
    running: &Running,
    what: &Subject,
    signal: Signal,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    until(deadline, cancel, || {
        let found = find(running, what)?;
        if found.seen.is_empty() {
            return Err(not_there(running, what));
        }
        for process in found.processes() {
            found.signal(process, signal)?;
        }
        let count = count(&found.again()?);
        judge_pause(what, signal, count, &look(running, what))
    })
}

fn judge_pause(what: &Subject, signal: Signal, count: Count, look: &str) -> Attempt {
    let Count { alive, stopped } = count;
    let stops = signal == Signal::SIGSTOP;
    if alive > 0 && stopped == if stops { alive } else { 0 } {
        let done = if stops { "stopped" } else { "go on" };
        return Ok(format!("{alive} processes {done}"));
    }
    let all = if stops { "all" } else { "none" };
    Err(format!(
        "expected: {all} of {what}'s processes stopped; seen: {stopped} of {alive}; look at: {look}"
    ))
}

fn count(found: &Found<'_>) -> Count {
    Count {
        alive: found.seen.len(),
        stopped: found.seen.iter().filter(|seen| seen.stopped).count(),
    }
}

fn not_there(running: &Running, what: &Subject) -> String {
    format!(
        "expected: {what} runs; seen: no process of it; look at: {}",
        look(running, what)
    )
}

fn numbers(processes: &[Process]) -> String {
    let numbers: Vec<String> = processes.iter().map(|p| p.pid.to_string()).collect();
    format!("process {}", numbers.join(", "))
}

/// Where a person looks when a subject does not do as told.
pub(super) fn look(running: &Running, what: &Subject) -> String {
    match what {
        Subject::Agent(name) | Subject::Node(name) => {
            running.place.log(name.as_str()).display().to_string()
        }
        Subject::Container(name) => format!("weft ps, weft logs {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> Subject {
        Subject::Container("red/a".parse().unwrap())
    }

    fn agent() -> Subject {
        Subject::Agent("n1".parse().unwrap())
    }

    #[test]
    fn what_goes_on_after_its_signal_is_told() {
        assert_eq!(judge_gone(&agent(), Signal::SIGTERM, 0, "x"), Ok(()));
        assert_eq!(
            judge_gone(&agent(), Signal::SIGTERM, 1, "log").unwrap_err(),
            "expected: agent n1 ends by SIGTERM; seen: it goes on; look at: log"
        );
        assert!(ends(Signal::SIGKILL) && !ends(Signal::SIGHUP));
    }

    #[test]
    fn only_what_does_not_run_is_started() {
        assert_eq!(may_start(&agent(), 0, false, "log"), Ok(()));
        assert_eq!(
            may_start(&agent(), 1, false, "log").unwrap_err(),
            "expected: agent n1 does not run and can be started; seen: it runs; look at: log"
        );
        let ended = may_start(&agent(), 0, true, "log").unwrap_err();
        assert!(ended.contains("seen: its node has ended"), "{ended}");
    }

    #[test]
    fn a_pause_holds_only_if_every_process_stopped_and_its_end_if_none_is() {
        let judge = |signal, alive, stopped| {
            judge_pause(&container(), signal, Count { alive, stopped }, "weft ps")
        };
        assert_eq!(
            judge(Signal::SIGSTOP, 2, 2),
            Ok("2 processes stopped".into())
        );
        assert_eq!(judge(Signal::SIGCONT, 2, 0), Ok("2 processes go on".into()));
        assert_eq!(
            judge(Signal::SIGSTOP, 2, 1).unwrap_err(),
            "expected: all of container red/a's processes stopped; seen: 1 of 2; look at: weft ps"
        );
        assert_eq!(
            judge(Signal::SIGCONT, 2, 1).unwrap_err(),
            "expected: none of container red/a's processes stopped; seen: 1 of 2; look at: weft ps"
        );
        assert!(judge(Signal::SIGSTOP, 0, 0).is_err());
    }
}
