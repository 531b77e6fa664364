//! `weft lab up` of a lab that is up: brings it to the file, in the order chains, containers, links, networks.
//!
//! What cannot change while it is up is told before anything is touched. Nothing is made outside the nodes, so the
//! journal has nothing to learn. Never: decides; see `difference`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bring_up::wait_until;
use super::list::Found;
use super::{contents, lab_name, need_root, progress};
use crate::backend::{self, address};
use crate::builtin;
use crate::cancel::Cancel;
use crate::error::LabError;
use crate::file::LabFile;
use crate::node::Node;
use crate::options::{Host, RunOptions};
use crate::place::Place;
use crate::relay::{Client, process};
use crate::report::{self, table};

mod difference;

pub(crate) use difference::Made;
use difference::{Difference, difference};

/// How long an agent may take to answer.
const ASK_WITHIN: Duration = Duration::from_secs(20);
/// How long endpoints may stay after their container: a network goes only after them.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How often that is tried.
const AGAIN: Duration = Duration::from_millis(100);

/// Notes what the lab is made from.
pub(crate) fn note(place: &Place, lab: &LabFile, text: &str) -> Result<(), LabError> {
    let write = |path: std::path::PathBuf, text: &[u8]| {
        std::fs::write(&path, text).map_err(LabError::io("write", path))
    };
    write(place.source(), text.as_bytes())?;
    let made = serde_json::to_vec(&Made::of(lab)).unwrap_or_default();
    write(place.made(), &made)
}

/// Whether `up` is to converge: the lab is up.
pub(super) fn is_up(host: &Host, name: &str) -> bool {
    Found::read(host, name).is_ok_and(|lab| lab.is_up())
}

/// A lab that is up, and what it is to become.
struct Work {
    found: Found,
    place: Place,
    lab: LabFile,
    text: String,
    nodes: Vec<Node>,
    difference: Difference,
    /// What `weft diff` says, without what stays.
    applied: Vec<Value>,
}

impl Work {
    fn of(options: &RunOptions, cancel: &Cancel) -> Result<Work, LabError> {
        let host = &options.host;
        let name = lab_name(options)?;
        let found = Found::read(host, &name)?;
        need_root(&name, found.backend)?;
        // Not said: as it is.
        let backend = options.backend.clone();
        let backend = backend.unwrap_or_else(|| found.backend.to_string());
        let (mut lab, text) = builtin::read(&options.source, Some(&backend))?;
        lab.name = name;
        let place = Place::new(&host.root, &lab.name);
        let refused = |causes: &[String]| LabError::Refused {
            subject: format!("lab {}", lab.name),
            cause: format!("it is up and cannot become that: {}", causes.join("; ")),
            help: format!(
                "remove it with `weft lab down {0}` and bring it up anew, or give this one another name with --name",
                lab.name
            ),
        };
        let made = std::fs::read(place.made()).ok();
        let made: Option<Made> = made.and_then(|text| serde_json::from_slice(&text).ok());
        let Some(made) = made else {
            return Err(refused(&["what it was made from is not noted".to_owned()]));
        };
        let stats = report::ask_links(&place)?;
        let difference = difference(&made, &stats, &lab).map_err(|causes| refused(&causes))?;
        let nodes = nodes(host, &found, &lab, cancel)?;
        let applied = diff(&lab, &nodes)?;
        Ok(Work {
            found,
            place,
            lab,
            text,
            nodes,
            difference,
            applied,
        })
    }

    fn is_done(&self) -> bool {
        self.difference.is_empty() && self.applied.is_empty()
    }

    /// Action, kind, name, details.
    fn rows(&self) -> Vec<[String; 4]> {
        let own = self.difference.rows().into_iter();
        let own = own.map(|[action, kind, name]| [action, kind, name, String::new()]);
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let applied = self.applied.iter();
        own.chain(applied.map(|row| ["action", "kind", "name", "detail"].map(|key| text(row, key))))
            .collect()
    }

    fn print(&self, host: &Host, done: bool) {
        let rows = self.rows();
        let lab = &self.lab.name;
        if host.json {
            let changes: Vec<Value> = rows
                .iter()
                .map(|[action, kind, name, detail]| {
                    json!({"action": action, "kind": kind, "name": name, "detail": detail})
                })
                .collect();
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
}

/// `weft lab up --dry-run` of a lab that is up.
pub(super) fn plan(options: &RunOptions) -> Result<(), LabError> {
    let work = Work::of(options, &Cancel::never())?;
    work.print(&options.host, false);
    Ok(())
}

/// Brings the lab to the file.
pub(super) fn converge(options: &RunOptions) -> Result<(), LabError> {
    let host = &options.host;
    let cancel = Cancel::on_signals()?;
    let work = Work::of(options, &cancel)?;
    let _held = work.place.hold()?;
    if !work.is_done() {
        progress(host, "bringing the lab to the file");
        act(&work, &cancel)?;
    }
    note(&work.place, &work.lab, &work.text)?;
    work.print(host, true);
    Ok(())
}

fn act(work: &Work, cancel: &Cancel) -> Result<(), LabError> {
    let (lab, node) = (&work.lab, answering(&work.nodes, &work.lab)?);
    let difference = &work.difference;
    for chain in &difference.chains {
        weft(lab, node, &["chain", "rm", chain])?;
    }
    for container in &difference.containers {
        weft(lab, node, &["rm", container])?;
    }
    if !difference.links.is_empty() {
        let mut relay = Client::connect(&process::control(&work.place))?;
        for request in &difference.links {
            relay.ask(request)?;
        }
    }
    contents::apply(lab, &work.place, node)?;
    let deadline = Instant::now() + GONE_WITHIN * work.found.backend.patience();
    for network in &difference.networks {
        let mut last = None;
        let gone = wait_until(deadline, AGAIN, cancel, || {
            match weft(lab, node, &["network", "rm", network]) {
                Ok(()) => Ok(Some(())),
                Err(error) => {
                    last = Some(error);
                    Ok(None)
                }
            }
        })?;
        if let (None, Some(error)) = (gone, last) {
            return Err(error);
        }
    }
    contents::wait_running(lab, &work.place, &work.nodes, cancel).map(drop)
}

/// What `weft apply` would do, as the cluster says.
fn diff(lab: &LabFile, nodes: &[Node]) -> Result<Vec<Value>, LabError> {
    let node = answering(nodes, lab)?;
    let folder = tempfile::tempdir().map_err(LabError::io("make", std::env::temp_dir()))?;
    let site = contents::write(lab, folder.path(), node)?;
    let rows = node
        .weft_json(&["diff", "-f", &site, "--json"], ASK_WITHIN)
        .map_err(|cause| failed(lab, &cause))?;
    Ok(rows
        .into_iter()
        .filter(|row| row["action"] != "unchanged")
        .collect())
}

fn weft(lab: &LabFile, node: &Node, words: &[&str]) -> Result<(), LabError> {
    let line: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    node.weft_json(&line, ASK_WITHIN)
        .map(drop)
        .map_err(|cause| failed(lab, &cause))
}

fn failed(lab: &LabFile, cause: &str) -> LabError {
    LabError::failed(
        format!("lab {}", lab.name),
        cause,
        "correct the file as the message says, and run the command again",
    )
}

/// The first node whose agent is ready.
fn answering<'a>(nodes: &'a [Node], lab: &LabFile) -> Result<&'a Node, LabError> {
    let ready = |node: &&Node| {
        let status = node.weft_json(&["status", "--json"], ASK_WITHIN);
        status.is_ok_and(|status| status.iter().any(|one| one["ready"] == true))
    };
    nodes.iter().find(ready).ok_or_else(|| LabError::Refused {
        subject: format!("lab {}", lab.name),
        cause: "no node of it is ready".to_owned(),
        help: format!("`weft lab logs {}` shows what its nodes say", lab.name),
    })
}

/// The nodes as the lab's journal knows them, those that live.
fn nodes(
    host: &Host,
    found: &Found,
    lab: &LabFile,
    cancel: &Cancel,
) -> Result<Vec<Node>, LabError> {
    let place = Place::new(&host.root, &found.name);
    let mut nodes = Vec::new();
    for (index, name) in lab.nodes.iter().enumerate() {
        let Ok((name, keeper)) = found.node(name.as_str()) else {
            continue;
        };
        let exe = &host.weft_exe;
        let carrier = backend::attach(found.backend, &place, exe, &found.id, &name, keeper);
        nodes.push(Node {
            name,
            address: address(lab.underlay, index),
            carrier,
            cancel: cancel.clone(),
        });
    }
    Ok(nodes)
}
