//! A lab as its journal tells of it: what was made, and what of that is still there.

use std::collections::BTreeMap;
use std::path::Path;

use super::agents::{FOUNDING, UNDERLAY};
use crate::backend;
use crate::cancel::Cancel;
use crate::error::LabError;
use crate::journal::{self, Entry, Object, SWITCH, Settings};
use crate::node::Node;
use crate::place::Place;
use crate::processes::Process;
use crate::underlay::Wire;

/// A lab by its journal.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) id: String,
    pub(super) up: bool,
    pub(super) settings: Settings,
    /// All that ever were; the place of each is its number.
    pub(super) names: Vec<String>,
    pub(super) lives: BTreeMap<String, Process>,
    pub(super) agents: BTreeMap<String, (Process, Vec<String>)>,
    /// Those with a member of a store that is not the agents' own.
    pub(super) stores: Vec<String>,
    pub(super) links: Vec<Slot>,
    pub(super) objects: Vec<Object>,
    pub(super) switch: Option<Process>,
}

/// A link that is or was.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) between: Vec<String>,
    pub(super) mtu: u32,
    pub(super) relayed: bool,
    pub(super) up: bool,
    pub(super) whole: bool,
    pub(super) gone: bool,
}

impl Ledger {
    pub(super) fn read(place: &Place) -> Result<Ledger, LabError> {
        let mut ledger = Ledger::default();
        for entry in journal::read(&place.journal())? {
            ledger.add(entry);
        }
        Ok(ledger)
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Lab { id, .. } => self.id = id,
            Entry::Settings(settings) => self.settings = settings,
            Entry::Up => self.up = true,
            Entry::Holder { node } if journal::is_node(&node) && !self.names.contains(&node) => {
                self.names.push(node);
            }
            Entry::Holder { .. } | Entry::Cgroup { .. } => {}
            Entry::Started { node, pid, start } => {
                let process = Process { pid, start };
                if journal::is_node(&node) {
                    self.lives.insert(node, process);
                } else if node == SWITCH {
                    self.switch = Some(process);
                }
            }
            Entry::Agent {
                node,
                pid,
                start,
                args,
            } => {
                self.agents.insert(node, (Process { pid, start }, args));
            }
            Entry::Store { node, .. } => self.stores.push(node),
            Entry::Left { node } => {
                self.lives.remove(&node);
                self.agents.remove(&node);
            }
            Entry::Link {
                slot,
                between,
                mtu,
                relayed,
            } => self.link(slot, between, mtu, relayed),
            Entry::Linked { slot } => self.slot(slot, |link| link.whole = true),
            Entry::LinkState { slot, up } => self.slot(slot, |link| link.up = up),
            Entry::Unlinked { slot } => self.slot(slot, |link| link.gone = true),
            Entry::Owns { objects } => {
                let new = objects.into_iter().filter(|o| !self.objects.contains(o));
                let new: Vec<Object> = new.collect();
                self.objects.extend(new);
            }
            Entry::Dropped { object } => self.objects.retain(|known| *known != object),
        }
    }

    /// Written before it is made, and again before it is changed.
    fn link(&mut self, slot: usize, between: Vec<String>, mtu: u32, relayed: bool) {
        let link = Slot {
            between,
            mtu,
            relayed,
            up: true,
            whole: false,
            gone: false,
        };
        match self.links.get_mut(slot) {
            Some(known) => *known = link,
            None => self.links.push(link),
        }
    }

    fn slot(&mut self, slot: usize, change: impl FnOnce(&mut Slot)) {
        if let Some(link) = self.links.get_mut(slot) {
            change(link);
        }
    }

    pub(super) fn is_member(&self, node: &str) -> bool {
        let founding = |(_, args): &(Process, Vec<String>)| args.iter().any(|arg| arg == FOUNDING);
        self.agents.get(node).is_some_and(founding) || self.stores.iter().any(|name| name == node)
    }

    /// The number of a node that is, was or comes next.
    pub(super) fn number(&self, node: &str) -> usize {
        let known = self.names.iter().position(|name| name == node);
        known.unwrap_or(self.names.len())
    }

    /// The links by the indices of these nodes. Of one that is half made or half removed no device can be relied on.
    pub(super) fn wires(&self, nodes: &[Node]) -> Vec<Wire> {
        let index = |name: &String| nodes.iter().position(|node| node.name == *name);
        let wire = |link: &Slot| Wire {
            ends: link.between.iter().filter_map(index).collect(),
            up: link.up && link.whole && !link.gone,
            mtu: link.mtu,
            relayed: link.relayed,
            gone: link.gone || !link.whole,
        };
        self.links.iter().map(wire).collect()
    }

    /// The slot of the link at which this device of a node is.
    fn slot_of(&self, node: &str, device: &str) -> Option<usize> {
        let number: usize = device.strip_prefix("eth")?.parse().ok()?;
        let own = self.links.iter().enumerate();
        let mut own = own.filter(|(_, link)| link.between.iter().any(|name| name == node));
        own.nth(number).map(|(slot, _)| slot)
    }

    /// The slots of the links whose devices the agent of a node was told of.
    pub(super) fn underlay_of(&self, node: &str) -> Vec<usize> {
        let args = self.agents.get(node).map_or(&[][..], |(_, args)| args);
        let at = args.iter().position(|arg| arg == UNDERLAY);
        let devices = at
            .and_then(|at| args.get(at + 1))
            .map_or("", String::as_str);
        let slots = devices
            .split(',')
            .filter_map(|device| self.slot_of(node, device));
        slots.collect()
    }

    /// The nodes that are made to the end and live.
    pub(super) fn nodes(&self, place: &Place, exe: &Path, cancel: &Cancel) -> Vec<Node> {
        let names = self.names.iter().enumerate();
        let living = names.filter_map(|(number, name)| {
            let keeper = *self.lives.get(name)?;
            let backend = self.settings.backend;
            let node = Node {
                name: name.clone(),
                number,
                address: backend::address(self.settings.underlay, number),
                carrier: backend::attach(backend, place, exe, &self.id, name, keeper),
                cancel: cancel.clone(),
            };
            (keeper.is_alive() && self.agents.contains_key(name)).then_some(node)
        });
        living.collect()
    }
}
