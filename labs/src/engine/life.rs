//! The agents of a lab that stays up: ended as a crash would, and started anew. Their containers go on meanwhile.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::list::Found;
use super::{check_name, need_root};
use crate::backend::{self, AnyCarrier};
use crate::error::LabError;
use crate::journal::{self, Entry, Journal};
use crate::options::Host;
use crate::place::Place;
use crate::processes::Process;

/// How long an agent may take to end after SIGKILL.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A node's agent by the journal.
struct Agent {
    process: Process,
    args: Vec<String>,
    carrier: AnyCarrier,
    place: Place,
}

impl Agent {
    fn of(host: &Host, lab: &str, node: &str) -> Result<Agent, LabError> {
        let lab = check_name(lab)?;
        let found = Found::read(host, &lab)?;
        need_root(&lab, found.backend)?;
        let place = Place::new(&host.root, &lab);
        let keeper = found.node(node)?.1;
        let carrier = backend::attach(
            found.backend,
            &place,
            &host.weft_exe,
            &found.id,
            node,
            keeper,
        );
        let last =
            journal::read(&place.journal())?
                .into_iter()
                .rev()
                .find_map(|entry| match entry {
                    Entry::Agent {
                        node: of,
                        pid,
                        start,
                        args,
                    } if of == node => Some((Process { pid, start }, args)),
                    _ => None,
                });
        let Some((process, args)) = last else {
            return Err(refused(node, "it never had an agent", &lab));
        };
        Ok(Agent {
            process,
            args,
            carrier,
            place,
        })
    }

    fn runs(&self) -> bool {
        self.carrier.runs(self.process)
    }
}

fn refused(node: &str, cause: &str, lab: &str) -> LabError {
    LabError::Refused {
        subject: format!("node {node}"),
        cause: cause.to_owned(),
        help: format!(
            "`weft lab kill {lab} {node}` ends an agent, `weft lab start {lab} {node}` starts it"
        ),
    }
}

/// `weft lab kill LAB NODE`: SIGKILL to the node's agent; it is gone when this returns.
pub fn kill(host: &Host, lab: &str, node: &str) -> Result<(), LabError> {
    let agent = Agent::of(host, lab, node)?;
    if !agent.runs() {
        return Err(refused(node, "its agent does not run", lab));
    }
    agent.carrier.signal(agent.process, Signal::SIGKILL)?;
    let deadline = Instant::now() + GONE_WITHIN;
    while agent.runs() {
        if Instant::now() >= deadline {
            return Err(LabError::failed(
                format!("node {node}"),
                "its agent does not end after SIGKILL",
                "it may wait for a disk that does not answer; try `weft lab down`",
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    say(host, lab, node, "killed");
    Ok(())
}

/// `weft lab start LAB NODE`: starts the node's agent with the arguments that it had. It is not waited for.
pub fn start(host: &Host, lab: &str, node: &str) -> Result<(), LabError> {
    let agent = Agent::of(host, lab, node)?;
    if agent.runs() {
        return Err(refused(node, "its agent runs already", lab));
    }
    let _held = agent.place.hold()?;
    let process = agent.carrier.spawn(&agent.args)?;
    Journal::open(&agent.place.journal())?.write(&Entry::Agent {
        node: node.to_owned(),
        pid: process.pid,
        start: process.start,
        args: agent.args,
    })?;
    say(host, lab, node, "started");
    Ok(())
}

fn say(host: &Host, lab: &str, node: &str, what: &str) {
    if host.json {
        println!("{}", json!({"lab": lab, "node": node, "agent": what}));
    } else {
        println!("lab {lab}: the agent of {node} is {what}");
    }
}
