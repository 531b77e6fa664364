//! Links of a running lab: made, changed and removed under its nodes.

use super::Work;
use super::plan::Link;
use crate::backend;
use crate::error::LabError;
use crate::file;
use crate::journal::{Entry, Journal};
use crate::relay::{EndSpec, LinkKind, LinkSpec};
use crate::underlay::{self, NetOp, Wire};

impl Work<'_> {
    fn wires(&self) -> Vec<Wire> {
        self.ledger.wires(&self.nodes)
    }

    /// Gives all nodes their addresses, devices and routes; what they have already stays.
    pub(super) fn configure(&self) -> Result<(), LabError> {
        underlay::configure(&self.nodes, &self.wires())
    }

    /// The devices of a node at the links that stay; on a segment it has one.
    pub(super) fn devices(&self, name: &str) -> String {
        let wires = self.wires();
        let index = self.nodes.iter().position(|node| node.name == name);
        let stays = |slot: usize| {
            let names = &self.ledger.links[slot].between;
            let names: Vec<_> = names.iter().filter_map(|n| n.parse().ok()).collect();
            self.lab.links.iter().any(|link| link.joins(&names))
        };
        let Some(index) = index.filter(|_| !wires.is_empty()) else {
            return "eth0".to_owned();
        };
        let own = wires.iter().enumerate();
        let own =
            own.filter(|(slot, wire)| !wire.gone && wire.ends.contains(&index) && stays(*slot));
        let devices: Vec<String> = own
            .map(|(slot, _)| underlay::interface(&wires, index, slot))
            .collect();
        devices.join(",")
    }

    /// The ends of a link: number, process and device of each node.
    fn ends(&self, slot: usize) -> Vec<(usize, i32, String)> {
        let wires = self.wires();
        let ends = wires[slot].ends.iter();
        let ends = ends.map(|&index| {
            let node = &self.nodes[index];
            let device = underlay::interface(&wires, index, slot);
            (node.number, node.carrier.keeper().pid, device)
        });
        ends.collect()
    }

    pub(super) fn join_segment(&self, name: &str) -> Result<(), LabError> {
        let node = self.nodes.iter().find(|node| node.name == name);
        let end = node.map(|n| (n.number, n.carrier.keeper().pid, "eth0".to_owned()));
        let ends: Vec<_> = end.into_iter().collect();
        underlay::bridge(self.switch()?, underlay::BRIDGE, underlay::MTU, &ends)
    }

    fn switch(&self) -> Result<i32, LabError> {
        match self.ledger.switch.filter(|switch| switch.is_alive()) {
            Some(switch) => Ok(switch.pid),
            None => {
                let mut journal = Journal::open(&self.place.journal())?;
                backend::switch(&self.start(), &mut journal).map(|switch| switch.pid)
            }
        }
    }

    fn of_file(&self, link: &Link) -> Result<&file::Link, LabError> {
        let names: Vec<_> = link.between.iter().filter_map(|n| n.parse().ok()).collect();
        let mut links = self.lab.links.iter();
        let found = links.find(|one| one.joins(&names));
        found
            .ok_or_else(|| LabError::failed(link.name(), "the file has it no more", "run it again"))
    }

    /// From here on it is not whole, whatever becomes of us.
    fn note(&mut self, slot: usize, link: &Link) -> Result<(), LabError> {
        self.journal.write(&Entry::Link {
            slot,
            between: link.between.clone(),
            mtu: link.mtu,
            relayed: link.relayed,
        })
    }

    pub(super) fn add_link(&mut self, slot: usize, link: &Link) -> Result<(), LabError> {
        self.note(slot, link)?;
        self.again()?;
        let ends = self.ends(slot);
        if link.relayed {
            self.add_relayed(&ends, link)?;
        } else if let [near, far] = ends.as_slice() {
            underlay::pair((near.1, &near.2), (far.1, &far.2), link.mtu)?;
        } else {
            let switch = self.switch()?;
            underlay::bridge(switch, &backend::bridge_name(slot), link.mtu, &ends)?;
        }
        let mut wires = self.wires();
        (wires[slot].gone, wires[slot].up) = (false, true);
        underlay::configure(&self.nodes, &wires)?;
        self.journal.write(&Entry::Linked { slot })
    }

    fn add_relayed(&self, ends: &[(usize, i32, String)], link: &Link) -> Result<(), LabError> {
        let of_file = self.of_file(link)?;
        let ends = link
            .between
            .iter()
            .zip(ends)
            .map(|(node, (_, holder, device))| EndSpec {
                node: node.clone(),
                port: backend::tap(*holder, device.clone()),
            });
        let spec = LinkSpec {
            name: link.name(),
            kind: if link.between.len() == 2 {
                LinkKind::Wire
            } else {
                LinkKind::Segment
            },
            ends: ends.collect(),
            impairment: of_file.impairment.clone(),
        };
        let mut journal = Journal::open(&self.place.journal())?;
        underlay::add_to_relay(&self.start(), spec, of_file, &mut journal)
    }

    /// The journal has it only when all of it is done.
    pub(super) fn change_link(&mut self, slot: usize, link: &Link) -> Result<(), LabError> {
        if link.relayed {
            let of_file = self.of_file(link)?;
            underlay::change_in_relay(self.place, &link.name(), of_file)?;
        }
        let mut wires = self.wires();
        (wires[slot].mtu, wires[slot].up) = (link.mtu, true);
        underlay::set_mtu(&self.nodes, &wires, slot)?;
        underlay::set_wire(&self.nodes, &wires, slot)?;
        self.note(slot, link)?;
        self.journal.write(&Entry::Linked { slot })
    }

    pub(super) fn remove_link(&mut self, slot: usize, link: &Link) -> Result<(), LabError> {
        self.note(slot, link)?;
        self.again()?;
        // Ways around it first, so that what can go on does.
        self.configure()?;
        let wires = self.wires();
        if link.relayed {
            underlay::remove_from_relay(self.place, &link.name())?;
        } else {
            for &index in &wires[slot].ends {
                let device = underlay::interface(&wires, index, slot);
                self.nodes[index].carrier.net(&[NetOp::Delete { device }])?;
            }
            if link.between.len() > 2 {
                underlay::unbridge(self.switch()?, &backend::bridge_name(slot))?;
            }
        }
        self.journal.write(&Entry::Unlinked { slot })
    }
}
