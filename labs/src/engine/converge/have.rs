//! What a running lab is: by its journal, its processes, its relay and its cluster.

use serde_json::Value;
use weft_overlay::NodeName;

use super::plan::{Agent, Change, Have, Link, Node as HasNode, Present, Want};
use crate::backend::Backend;
use crate::engine::contents;
use crate::engine::ledger::Ledger;
use crate::error::LabError;
use crate::file::{self, LabFile};
use crate::journal::{Object, Settings};
use crate::node::Node;
use crate::place::Place;
use crate::relay::{LinkStats, Way};
use crate::report::ask_links;
use crate::underlay;

impl Ledger {
    /// What there is and how it differs from what is wanted.
    pub(super) fn have(
        &self,
        place: &Place,
        nodes: &[Node],
        lab: &LabFile,
    ) -> Result<Have, LabError> {
        let stats = ask_links(place)?;
        let all = self
            .names
            .iter()
            .filter(|name| self.lives.contains_key(*name));
        let has = all.map(|name| HasNode {
            name: name.clone(),
            alive: self.lives[name].is_alive(),
            agent: match (
                self.agents.get(name),
                nodes.iter().find(|n| n.name == *name),
            ) {
                (None, _) => Agent::Never,
                (Some((agent, _)), Some(node)) if node.carrier.runs(*agent) => Agent::Runs,
                _ => Agent::Ended,
            },
            member: self.is_member(name),
            underlay: self.underlay_of(name),
        });
        let mut have = Have {
            settings: self.settings.clone(),
            nodes: has.collect(),
            links: self.present(&stats),
            slots: self.links.len(),
            objects: self.objects.clone(),
            differs: Vec::new(),
        };
        have.differs = differs(place, nodes, lab, &have)?;
        Ok(have)
    }

    fn present(&self, stats: &[LinkStats]) -> Vec<Present> {
        let slots = self.links.iter().enumerate();
        let there = slots.filter(|(_, link)| !link.gone);
        let present = there.map(|(slot, link)| {
            let name = link.between.join("+");
            let now = stats.iter().find(|one| link.relayed && one.link == name);
            let lanes = now.map_or(&[][..], |now| &now.lanes).iter();
            let from = lanes.filter(|lane| lane.direction.way == Way::From);
            let ways = from.map(|lane| (lane.direction.node.clone(), lane.impairment.clone()));
            let capture = now.and_then(|now| now.capture.as_ref());
            Present {
                slot,
                whole: link.whole && link.relayed == now.is_some(),
                link: Link {
                    between: link.between.clone(),
                    mtu: link.mtu,
                    relayed: link.relayed,
                    up: link.up,
                    ways: ways.collect(),
                    capture: capture.map(|capture| capture.file.clone()),
                },
            }
        });
        present.collect()
    }
}

/// What of the file the cluster has not, or not like that: `weft diff` on one of its nodes. What cannot be asked yet,
/// because it stands on what is to be added or removed first, counts as different.
fn differs(
    place: &Place,
    nodes: &[Node],
    lab: &LabFile,
    have: &Have,
) -> Result<Vec<Change>, LabError> {
    let all = contents::objects(&lab.site);
    let runs = |node: &&Node| {
        have.nodes
            .iter()
            .any(|h| h.name == node.name && h.agent == Agent::Runs)
    };
    let Some(node) = nodes.iter().find(runs) else {
        return Ok(changed(all, &[]));
    };
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let new = |node: &NodeName| {
        have.nodes
            .iter()
            .all(|h| h.name != node.as_str() || h.agent == Agent::Never)
    };
    let changes =
        have.objects.iter().any(|object| !all.contains(object)) || lab.nodes.iter().any(new);
    match contents::tell(lab, &lab.site, &place.wanted(), node, "diff") {
        Ok(said) => Ok(changed(all, &said)),
        // The rest is asked without what stands on nodes that are to come.
        Err(_) if changes => {
            let mut known = lab.site.clone();
            let stays = |c: &weft_overlay::site::Container| c.node.as_ref().is_none_or(|n| !new(n));
            known.containers.retain(stays);
            known.chains.clear();
            let said = contents::tell(lab, &known, &place.wanted(), node, "diff");
            Ok(changed(all, &said.unwrap_or_default()))
        }
        Err(error) => Err(error),
    }
}

/// Without those of which `weft diff` said that they are as they should be.
fn changed(all: Vec<Object>, said: &[Value]) -> Vec<Change> {
    let change = |object: Object| {
        let mut said = said.iter();
        let line = said.find(|l| l["kind"] == *object.kind && l["name"] == *object.name);
        let text = |key: &str| line.and_then(|line| line[key].as_str());
        Change {
            action: text("action").unwrap_or("apply").to_owned(),
            detail: text("detail").unwrap_or_default().to_owned(),
            object,
        }
    };
    let changes = all.into_iter().map(change);
    changes
        .filter(|change| change.action != "unchanged")
        .collect()
}

/// What a file says, as the planner reads it.
pub(super) fn want(lab: &LabFile, place: &Place) -> Want {
    let link = |link: &file::Link| {
        let relayed = link.relayed || lab.backend == Backend::Qemu;
        let way = |node: &NodeName| {
            let own = link.from.get(node).unwrap_or(&link.impairment);
            (node.to_string(), own.clone())
        };
        Link {
            between: link.between.iter().map(ToString::to_string).collect(),
            mtu: link.mtu.unwrap_or(underlay::MTU),
            relayed,
            up: true,
            ways: link.between.iter().filter(|_| relayed).map(way).collect(),
            capture: underlay::capture_file(link, place),
        }
    };
    Want {
        settings: Settings::of(lab),
        nodes: lab.nodes.iter().map(ToString::to_string).collect(),
        links: lab.links.iter().map(link).collect(),
        objects: contents::objects(&lab.site),
    }
}

/// Containers that the file puts nowhere in particular, and that are on a node which it has no more.
pub(super) fn stranded(lab: &LabFile, node: &Node, want: &Want) -> Result<Option<String>, String> {
    let unplaced = |name: &str| {
        let mut all = lab.site.containers.iter();
        all.any(|c: &weft_overlay::site::Container| c.node.is_none() && c.name.to_string() == name)
    };
    let found = contents::containers(node)?;
    let lost = found
        .into_iter()
        .find(|c| unplaced(&c.name) && !want.nodes.contains(&c.node));
    Ok(lost.map(|container| format!("container {} is on {}", container.name, container.node)))
}
