//! `weft lab up` of a lab that runs: it becomes what the file says now.
//!
//! Owns: what is done for each action of the plan, each in the journal before it is made, so that `down` finds it and
//! `up` goes on where a killed one ended. Never: decides; see `plan`. Takes nothing down on failure: the lab is in use.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::agents;
use super::bring_up::wait_until;
use super::ledger::Ledger;
use super::{contents, need_root, progress};
use crate::backend::{self, Start};
use crate::builtin;
use crate::cancel::Cancel;
use crate::cgroups;
use crate::error::LabError;
use crate::file::LabFile;
use crate::journal::{Entry, Journal, Object};
use crate::node::Node;
use crate::options::{Host, RunOptions};
use crate::place::Place;
use crate::processes::{self, Process};
use crate::report::table;

mod have;
mod links;
mod plan;

use plan::Action;

/// How long something may take to be removed.
const REMOVED_WITHIN: Duration = Duration::from_secs(20);
/// How often that is tried.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Whether a lab of that name is up, so that `up` changes it.
pub(super) fn is_up(place: &Place) -> Result<bool, LabError> {
    Ok(place.dir().is_dir() && Ledger::read(place)?.up)
}

/// A lab that is being changed.
struct Work<'a> {
    host: &'a Host,
    lab: &'a LabFile,
    place: &'a Place,
    cancel: &'a Cancel,
    ledger: Ledger,
    nodes: Vec<Node>,
    journal: Journal,
}

/// Brings a running lab to what the file says. Prints what was done.
pub(super) fn up(options: &RunOptions, lab: &LabFile, text: &str) -> Result<(), LabError> {
    need_root(&lab.name, lab.backend)?;
    let cancel = Cancel::on_signals()?;
    let place = Place::new(&options.host.root, &lab.name);
    let _held = place.hold()?;
    let (ledger, nodes, actions) = look(&options.host, lab, &place, &cancel)?;
    let mut work = Work {
        host: &options.host,
        lab,
        place: &place,
        cancel: &cancel,
        ledger,
        nodes,
        journal: Journal::open(&place.journal())?,
    };
    let mut configured = false;
    for action in &actions {
        if cancel.is_set() {
            return Err(LabError::Interrupted(lab.name.clone()));
        }
        // Agents need the whole underlay; nothing before them does.
        if matches!(action, Action::StartAgent(_)) && !configured {
            work.configure()?;
            configured = true;
        }
        progress(&options.host, &action.to_string());
        work.act(action)?;
    }
    if !actions.is_empty() {
        work.settle(&actions)?;
    }
    std::fs::write(place.source(), text)
        .map_err(LabError::io("write the lab's file", place.source()))?;
    print(&options.host, &lab.name, &actions, true);
    Ok(())
}

/// `weft lab up --dry-run` of a running lab: what would be done.
pub(super) fn dry_run(options: &RunOptions, lab: &LabFile) -> Result<(), LabError> {
    need_root(&lab.name, lab.backend)?;
    let place = Place::new(&options.host.root, &lab.name);
    let (_, _, actions) = look(&options.host, lab, &place, &Cancel::never())?;
    print(&options.host, &lab.name, &actions, false);
    Ok(())
}

type Looked = (Ledger, Vec<Node>, Vec<Action>);

fn look(host: &Host, lab: &LabFile, place: &Place, cancel: &Cancel) -> Result<Looked, LabError> {
    let ledger = Ledger::read(place)?;
    let nodes = ledger.nodes(place, &host.weft_exe, cancel);
    // Judged first: of a lab on another backend nothing below can be asked.
    let want = have::want(lab, place);
    let have = ledger.have(place, &nodes, lab)?;
    let actions = plan::plan(&have, &want).map_err(|refusal| refusal.told(&lab.name))?;
    let leaves = actions.iter().any(|a| matches!(a, Action::RemoveNode(_)));
    if leaves && let Some(node) = nodes.iter().find(|node| want.nodes.contains(&node.name)) {
        let stranded = have::stranded(lab, node, &want);
        if let Some(cause) =
            stranded.map_err(|e| LabError::failed("containers", e, "run it again"))?
        {
            return Err(LabError::Refused {
                subject: format!("lab {}", lab.name),
                cause: format!("{cause}, which the file has no more"),
                help: "nothing was touched; name a node for it in the file (`node = ...`)"
                    .to_owned(),
            });
        }
    }
    Ok((ledger, nodes, actions))
}

impl Work<'_> {
    fn start(&self) -> Start<'_> {
        Start {
            lab: self.lab,
            place: self.place,
            exe: &self.host.weft_exe,
            id: &self.ledger.id,
            cancel: self.cancel,
            progress: &|_: &str| {},
        }
    }

    /// Reads the journal anew, which is what was done so far.
    fn again(&mut self) -> Result<(), LabError> {
        self.ledger = Ledger::read(self.place)?;
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<(), LabError> {
        match action {
            Action::Remove(object) => self.remove(object)?,
            Action::AddNode(name) => self.add_node(name)?,
            Action::AddLink { slot, link } => self.add_link(*slot, link)?,
            Action::ChangeLink { slot, link } => self.change_link(*slot, link)?,
            Action::StartAgent(name) => self.start_agent(name)?,
            Action::Apply(_) => self.apply()?,
            Action::RemoveLink { slot, link } => self.remove_link(*slot, link)?,
            Action::RemoveNode(name) => self.remove_node(name)?,
        }
        self.again()
    }

    fn asked(&self) -> Result<&Node, LabError> {
        self.nodes
            .iter()
            .find(|node| self.ledger.agents.contains_key(&node.name))
            .ok_or_else(|| {
                LabError::failed(
                    format!("lab {}", self.lab.name),
                    "none of its nodes lives",
                    format!("remove it with `weft lab down {}`", self.lab.name),
                )
            })
    }

    /// What is still in use is tried again: its users go by themselves.
    fn remove(&mut self, object: &Object) -> Result<(), LabError> {
        let Object { kind, name } = object;
        let words: &[&str] = match kind.as_str() {
            "network" => &["network", "rm", name, "--json"],
            "chain" => &["chain", "rm", name, "--json"],
            _ => &["rm", name, "--json"],
        };
        let node = self.asked()?;
        let mut last = String::new();
        let done = wait_until(
            Instant::now() + REMOVED_WITHIN,
            TRY_EVERY,
            self.cancel,
            || {
                let output = node.weft(words, agents::ASK_WITHIN);
                let output =
                    output.map_err(|e| LabError::failed(object, e, "run the command again"))?;
                // Exit code 3: it is not there, which is as good.
                if output.status.success() || output.status.code() == Some(3) {
                    return Ok(Some(()));
                }
                last = output.words();
                Ok(None)
            },
        )?;
        done.ok_or_else(|| LabError::failed(object, &last, "run the command again"))?;
        let object = object.clone();
        self.journal.write(&Entry::Dropped { object })
    }

    fn apply(&mut self) -> Result<(), LabError> {
        self.ready()?;
        let objects = contents::objects(&self.lab.site);
        self.journal.write(&Entry::Owns { objects })?;
        contents::apply(self.lab, self.place, self.asked()?)
    }

    fn ready(&self) -> Result<(), LabError> {
        agents::wait_ready(self.lab, self.place, &self.nodes, self.cancel)
    }

    fn add_node(&mut self, name: &str) -> Result<(), LabError> {
        let known = self.ledger.lives.get(name).filter(|life| life.is_alive());
        let carrier = if let Some(&life) = known {
            // An engine that was killed made it, and maybe some of its links.
            let (exe, id) = (&self.host.weft_exe, &self.ledger.id);
            backend::attach(self.lab.backend, self.place, exe, id, name, life)
        } else {
            // A life that an engine began and did not live to note.
            processes::end_holder(&self.ledger.id, name, Instant::now() + REMOVED_WITHIN);
            let mut journal = Journal::open(&self.place.journal())?;
            backend::add(&self.start(), name, &mut journal)?
        };
        let number = self.ledger.number(name);
        let node = Node {
            name: name.to_owned(),
            number,
            address: backend::address(self.lab.underlay, number),
            carrier,
            cancel: self.cancel.clone(),
        };
        self.nodes.retain(|known| known.name != name);
        self.nodes.push(node);
        if self.ledger.links.is_empty() && self.lab.links.is_empty() {
            self.join_segment(name)?;
        }
        Ok(())
    }

    fn start_agent(&mut self, name: &str) -> Result<(), LabError> {
        let index = self.nodes.iter().position(|node| node.name == name);
        let node = &self.nodes
            [index.ok_or_else(|| LabError::failed(name, "no such node", "run it again"))?];
        let devices = self.devices(name);
        let args = match self.ledger.agents.get(name) {
            Some((agent, args)) => {
                end(node, *agent)?;
                let at = args.iter().position(|arg| arg == agents::UNDERLAY);
                let mut args = args.clone();
                if let Some(told) = at.and_then(|at| args.get_mut(at + 1)) {
                    *told = devices;
                }
                args
            }
            None => {
                self.wait_forgotten(name)?;
                let members = self
                    .nodes
                    .iter()
                    .filter(|node| self.ledger.is_member(&node.name));
                agents::later(self.lab, node, &devices, members)
            }
        };
        let process = node.carrier.spawn(&args)?;
        self.journal.write(&Entry::Agent {
            node: name.to_owned(),
            pid: process.pid,
            start: process.start,
            args,
        })
    }

    /// A node that was removed counts as alive until its lease runs out, and two of one name are refused.
    fn wait_forgotten(&self, name: &str) -> Result<(), LabError> {
        let node = self.asked()?;
        let within = agents::READY_WITHIN + self.lab.lease_ttl.unwrap_or_default();
        let gone = wait_until(
            Instant::now() + within,
            agents::ASK_EVERY,
            self.cancel,
            || {
                let status = node.weft_json(&["status", "--json"], agents::ASK_WITHIN);
                let status = status.unwrap_or_default();
                let mut nodes = status.iter().filter_map(|one| one["nodes"].as_array());
                let alive =
                    |all: &Vec<Value>| all.iter().any(|n| n["name"] == name && n["alive"] == true);
                Ok(nodes.next().filter(|all| !alive(all)).map(drop))
            },
        )?;
        gone.ok_or_else(|| {
            let cause = "another of this name is still alive for the cluster";
            LabError::failed(format!("node {name}"), cause, "run the command again")
        })
    }

    /// Its processes end with its first one; its containers' cgroups and its folder are removed.
    fn remove_node(&mut self, name: &str) -> Result<(), LabError> {
        let deadline = Instant::now() + REMOVED_WITHIN;
        let failed = |cause: String| {
            LabError::failed(format!("node {name}"), cause, "run the command again")
        };
        if let Some(keeper) = self.ledger.lives.get(name) {
            let inside = processes::in_namespace_of(*keeper);
            keeper.signal(Signal::SIGKILL);
            for process in inside.into_iter().chain([*keeper]) {
                if !process.ending_by(deadline) {
                    return Err(failed(format!("process {} does not end", process.pid)));
                }
            }
        }
        let group = format!("{}/{name}", cgroups::parent_of(&self.lab.name));
        let (_, left) = cgroups::remove(&group, deadline);
        if !left.is_empty() {
            return Err(failed(left.join("; ")));
        }
        let folder = self.place.node(name);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LabError::io("remove", folder)(error));
            }
            _ => {}
        }
        self.nodes.retain(|node| node.name != name);
        self.journal.write(&Entry::Left {
            node: name.to_owned(),
        })
    }

    /// Waits until the lab is what the file says.
    fn settle(&mut self, actions: &[Action]) -> Result<(), LabError> {
        let nodes = actions.iter().any(|a| matches!(a, Action::StartAgent(_)));
        self.configure()?;
        if nodes {
            self.ready()?;
        }
        contents::wait_running(self.lab, self.place, &self.nodes, self.cancel).map(drop)
    }
}

/// Ends an agent that runs, as a crash would: its containers and their packets go on.
fn end(node: &Node, agent: Process) -> Result<(), LabError> {
    if node.carrier.runs(agent) {
        node.carrier.signal(agent, Signal::SIGKILL)?;
    }
    let deadline = Instant::now() + REMOVED_WITHIN;
    let gone = wait_until(deadline, TRY_EVERY, &Cancel::never(), || {
        Ok((!node.carrier.runs(agent)).then_some(()))
    })?;
    gone.ok_or_else(|| {
        let subject = format!("agent of {}", node.name);
        LabError::failed(
            subject,
            "it does not end after SIGKILL",
            "try `weft lab down`",
        )
    })
}

fn print(host: &Host, lab: &str, actions: &[Action], done: bool) {
    let rows: Vec<[String; 4]> = actions.iter().flat_map(Action::rows).collect();
    if host.json {
        let change = |[action, kind, name, detail]: &[String; 4]| json!({"action": action, "kind": kind, "name": name, "detail": detail});
        let changes: Vec<Value> = rows.iter().map(change).collect();
        println!(
            "{}",
            json!({"lab": lab, "up": true, "done": done, "changes": changes})
        );
        return;
    }
    if rows.is_empty() {
        println!("lab {lab} is up, and all as the file says");
        return;
    }
    let head = ["ACTION", "KIND", "NAME", "DETAIL"].map(str::to_owned);
    print!("{}", table(&head, &rows));
    if done {
        println!("\nlab {lab} is up, and now as the file says");
    } else {
        println!("\nlab {lab} is up: nothing was changed yet");
    }
}

/// The file of these options, with its name. A lab that is up stays on its backend, unless another is said.
pub(super) fn read(options: &RunOptions) -> Result<(LabFile, String), LabError> {
    let (mut lab, text) = builtin::read(&options.source, options.backend.as_deref())?;
    if let Some(name) = &options.name {
        lab.name = super::check_name(name)?;
    }
    let place = Place::new(&options.host.root, &lab.name);
    if options.backend.is_none() && is_up(&place)? {
        let backend = Ledger::read(&place)?.settings.backend.to_string();
        let name = std::mem::take(&mut lab.name);
        let (lab, text) = builtin::read(&options.source, Some(&backend))?;
        return Ok((LabFile { name, ..lab }, text));
    }
    Ok((lab, text))
}
