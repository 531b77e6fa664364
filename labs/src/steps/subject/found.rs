//! The processes of a step's subject, wherever its node is: an agent by the journal, a container's by their cgroup, a
//! node's by their descent from its keeper. Never: finds a process that is not of this lab.

use nix::sys::signal::Signal;

use crate::cgroups;
use crate::engine::{self, Running};
use crate::file::Subject;
use crate::node::Node;
use crate::processes::{self, Process, Seen, Whose};

/// Processes, and who can see and signal them.
pub(in crate::steps) struct Found<'a> {
    /// Nothing: they are this machine's, whatever the backend.
    on: Option<&'a Node>,
    whose: Whose,
    pub(in crate::steps) seen: Vec<Seen>,
}

impl<'a> Found<'a> {
    /// Looks again.
    pub(super) fn again(&self) -> Result<Found<'a>, String> {
        look(self.on, self.whose.clone())
    }

    /// Those of them that an earlier look found.
    pub(super) fn still(&self, earlier: &[Process]) -> usize {
        let there = |process: &&Process| self.seen.iter().any(|now| now.process == **process);
        earlier.iter().filter(there).count()
    }

    pub(super) fn signal(&self, process: Process, signal: Signal) -> Result<(), String> {
        match self.on {
            Some(node) => node.carrier.signal(process, signal).map_err(one_line),
            None => {
                process.signal(signal);
                Ok(())
            }
        }
    }

    /// A file below `/proc/PID` of one of them.
    pub(in crate::steps) fn proc(&self, process: Process, file: &str) -> Result<String, String> {
        match self.on {
            Some(node) => node.carrier.proc(process, file).map_err(one_line),
            None => std::fs::read_to_string(format!("/proc/{}/{file}", process.pid))
                .map_err(|e| format!("/proc/{}/{file}: {e}", process.pid)),
        }
    }

    /// Number 1 of the processes' namespace.
    pub(in crate::steps) fn first(&self) -> Option<Process> {
        let first = self.seen.iter().find(|seen| seen.first);
        first.map(|seen| seen.process)
    }

    pub(super) fn processes(&self) -> Vec<Process> {
        self.seen.iter().map(|seen| seen.process).collect()
    }
}

fn look(on: Option<&Node>, whose: Whose) -> Result<Found<'_>, String> {
    let seen = match on {
        Some(node) => node.carrier.look(&whose).map_err(one_line)?,
        None => processes::look(&whose),
    };
    Ok(Found { on, whose, seen })
}

fn one_line(error: crate::error::LabError) -> String {
    error.to_string().replace('\n', "; ")
}

/// All processes of a subject that are alive.
pub(in crate::steps) fn find<'a>(
    running: &'a Running,
    what: &Subject,
) -> Result<Found<'a>, String> {
    match what {
        Subject::Agent(name) => {
            let node = running.node(name.as_str());
            let agent = engine::agent_of(&running.place, name.as_str());
            let agent = agent.unwrap_or(Process { pid: 0, start: 0 });
            let up = node.filter(|node| node.carrier.keeper().is_alive());
            match up {
                Some(node) => look(Some(node), Whose::One(agent)),
                None => Ok(nothing()),
            }
        }
        Subject::Node(name) => {
            let keeper = running.node(name.as_str()).map(|n| n.carrier.keeper().pid);
            look(None, Whose::Below(keeper.unwrap_or_default()))
        }
        Subject::Container(name) => container(running, &name.to_string()),
    }
}

/// The process that a node lives and dies with.
pub(super) fn keeper<'a>(running: &'a Running, node: &str) -> Result<Found<'a>, String> {
    match running.node(node) {
        Some(node) => look(None, Whose::One(node.carrier.keeper())),
        None => Ok(nothing()),
    }
}

/// The processes of a container, on whatever node it is.
pub(in crate::steps) fn container<'a>(
    running: &'a Running,
    name: &str,
) -> Result<Found<'a>, String> {
    let known = running.container(name).map(|c| c.node.as_str());
    // Where it was last; elsewhere if it was placed anew.
    let (first, others): (Vec<&Node>, Vec<&Node>) = running
        .nodes
        .iter()
        .filter(|node| node.carrier.keeper().is_alive())
        .partition(|node| Some(node.name.as_str()) == known);
    let parent = cgroups::parent_of(&running.lab.name);
    let file = name.replace('/', ".");
    let mut silent = None;
    for node in first.into_iter().chain(others) {
        let end = format!("/{parent}/{}/{file}", node.name);
        match look(Some(node), Whose::Cgroup(end)) {
            Ok(found) if !found.seen.is_empty() => return Ok(found),
            Ok(_) => {}
            Err(error) => silent = Some(error),
        }
    }
    // Who cannot be asked may have it.
    silent.map_or_else(|| Ok(nothing()), Err)
}

fn nothing<'a>() -> Found<'a> {
    Found {
        on: None,
        whose: Whose::Cgroup("/".to_owned()),
        seen: Vec::new(),
    }
}
