//! Labs as their journals tell of them: for `ls`, `inspect` and `exec`.

use std::path::Path;

use serde_json::json;

use super::links;
use crate::backend::Backend;
use crate::error::LabError;
use crate::journal::{self, Entry};
use crate::options::{DEFAULT_ROOT, Host};
use crate::place::Place;
use crate::processes::Process;

/// A lab that is there.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) backend: Backend,
    file: String,
    up: bool,
    nodes: Vec<(String, Process)>,
}

impl Found {
    pub(super) fn read(host: &Host, name: &str) -> Result<Found, LabError> {
        let place = Place::new(&host.root, name);
        if !place.dir().is_dir() {
            return Err(LabError::NotFound {
                subject: format!("lab {name}"),
                cause: "there is none of that name".to_owned(),
                help: if Place::new(Path::new(DEFAULT_ROOT), name).dir().is_dir() {
                    "root has one: run the same command with sudo".to_owned()
                } else {
                    "`weft lab ls` lists the labs".to_owned()
                },
            });
        }
        let mut found = Found {
            name: name.to_owned(),
            id: String::new(),
            backend: Backend::default(),
            file: String::new(),
            up: false,
            nodes: Vec::new(),
        };
        for entry in journal::read(&place.journal())? {
            match entry {
                Entry::Lab { id, file, backend } => {
                    (found.id, found.file, found.backend) = (id, file, backend);
                }
                Entry::Started { node, pid, start } if journal::is_node(&node) => {
                    // A node that was started anew has its last life.
                    found.nodes.retain(|(known, _)| *known != node);
                    found.nodes.push((node, Process { pid, start }));
                }
                Entry::Left { node } => found.nodes.retain(|(known, _)| *known != node),
                Entry::Up => found.up = true,
                _ => {}
            }
        }
        Ok(found)
    }

    fn state(&self) -> &'static str {
        let alive = self.nodes.iter().filter(|(_, p)| p.is_alive()).count();
        match (self.up, alive) {
            (_, 0) => "dead",
            (true, n) if n == self.nodes.len() => "up",
            _ => "partial",
        }
    }

    /// The nodes, in the file's order.
    pub(super) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|(node, _)| node.clone()).collect()
    }

    /// This node, dead or alive.
    pub(super) fn known(&self, name: &str) -> Result<String, LabError> {
        self.find(name).map(|(node, _)| node.clone())
    }

    /// The holder of a node.
    pub(super) fn node(&self, name: &str) -> Result<(String, Process), LabError> {
        let (_, holder) = self.find(name)?;
        self.alive(name, *holder)
            .map(|holder| (name.to_owned(), holder))
    }

    fn find(&self, name: &str) -> Result<&(String, Process), LabError> {
        let found = self.nodes.iter().find(|(node, _)| node == name);
        found.ok_or_else(|| LabError::NotFound {
            subject: format!("node {name}"),
            cause: format!("lab {} has no such node", self.name),
            help: format!(
                "its nodes are {}; a container is written TENANT/NAME",
                self.names().join(", ")
            ),
        })
    }

    /// The holder of the first node.
    pub(super) fn first(&self) -> Result<(String, Process), LabError> {
        match self.nodes.first() {
            Some((name, _)) => self.node(name),
            None => Err(self.dead("any node")),
        }
    }

    fn alive(&self, name: &str, holder: Process) -> Result<Process, LabError> {
        if holder.is_alive() {
            Ok(holder)
        } else {
            Err(self.dead(name))
        }
    }

    fn dead(&self, what: &str) -> LabError {
        LabError::Refused {
            subject: format!("lab {}", self.name),
            cause: format!("{what} is not running any more"),
            help: format!("remove the lab with `weft lab down {}`", self.name),
        }
    }
}

pub(super) fn print(host: &Host) -> Result<(), LabError> {
    let mut rows = Vec::new();
    for name in Place::all(&host.root)? {
        let lab = Found::read(host, &name)?;
        let nodes: Vec<&str> = lab.nodes.iter().map(|(node, _)| node.as_str()).collect();
        if host.json {
            let line = json!({
                "lab": lab.name, "state": lab.state(), "backend": lab.backend, "nodes": nodes,
                "file": lab.file,
            });
            println!("{line}");
        } else {
            let backend = lab.backend.to_string();
            let row = [
                &lab.name,
                lab.state(),
                &backend,
                &nodes.join(" "),
                &lab.file,
            ];
            rows.push(row.map(str::to_owned));
        }
    }
    if !host.json {
        let head = ["LAB", "STATE", "BACKEND", "NODES", "FILE"].map(str::to_owned);
        print!("{}", crate::report::table(&head, &rows));
    }
    Ok(())
}

/// Where everything of one lab is: nodes with their processes, sockets and logs.
pub(super) fn inspect(host: &Host, name: &str) -> Result<(), LabError> {
    let lab = Found::read(host, name)?;
    let place = Place::new(&host.root, name);
    let links = links::all(host, &lab)?;
    if host.json {
        let nodes = lab.nodes.iter().map(|(node, holder)| {
            json!({
                "node": node, "holder": holder.pid, "alive": holder.is_alive(),
                "host": format!("unix:{}", place.socket(node).display()),
                "log": place.log(node), "state": place.state(node),
            })
        });
        let whole = json!({
            "lab": lab.name, "state": lab.state(), "backend": lab.backend, "file": lab.file,
            "source": place.source(),
            "folder": place.dir(), "snapshots": super::snapshot::all(&place),
            "links": links.iter().map(links::Joined::object).collect::<Vec<_>>(), "nodes": nodes.collect::<Vec<_>>(),
        });
        println!("{whole}");
        return Ok(());
    }
    println!("lab {}: {}, backend {}", lab.name, lab.state(), lab.backend);
    println!(
        "file    {}, as it was run: {}",
        lab.file,
        place.source().display()
    );
    println!("folder  {}", place.dir().display());
    let snapshots = super::snapshot::all(&place);
    if !snapshots.is_empty() {
        println!("snapshots  {}", snapshots.join(" "));
    }
    println!();
    let rows: Vec<[String; 5]> = lab
        .nodes
        .iter()
        .map(|(node, holder)| {
            [
                node.clone(),
                holder.pid.to_string(),
                if holder.is_alive() { "yes" } else { "no" }.to_owned(),
                format!("unix:{}", place.socket(node).display()),
                place.log(node).display().to_string(),
            ]
        })
        .collect();
    let head = ["NODE", "HOLDER", "ALIVE", "--host", "LOG"].map(str::to_owned);
    print!("{}", crate::report::table(&head, &rows));
    println!();
    let rows: Vec<[String; 5]> = links.iter().map(link_row).collect();
    let head = ["LINK", "NODES", "STATE", "PASSED", "LOST"].map(str::to_owned);
    print!("{}", crate::report::table(&head, &rows));
    Ok(())
}

/// Frames are counted only where they pass the relay.
fn link_row(link: &links::Joined) -> [String; 5] {
    let words = link.words();
    let state = if words.is_empty() {
        "good".to_owned()
    } else {
        words.join(", ")
    };
    let (passed, lost) = match link.frames() {
        Some((passed, lost)) => (passed.to_string(), lost.to_string()),
        None => ("-".to_owned(), "-".to_owned()),
    };
    [link.name.clone(), link.nodes.join(" "), state, passed, lost]
}
