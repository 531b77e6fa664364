//! What a running lab needs to be what a file says: pure, from what is there to actions in order.
//!
//! Applying a plan leaves nothing to plan. What only a new lab can have is refused here, before anything is touched.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::engine::links;
use crate::error::LabError;
use crate::journal::{Object, Settings};
use crate::relay::Impairment;

/// A link as a file wants it, or as it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Link {
    pub(super) between: Vec<String>,
    pub(super) mtu: u32,
    pub(super) relayed: bool,
    pub(super) up: bool,
    /// What it does to what each node sends; nothing is said of a link that does not pass the relay.
    pub(super) ways: BTreeMap<String, Impairment>,
    pub(super) capture: Option<PathBuf>,
}

impl Link {
    fn joins_as(&self, other: &Link) -> bool {
        let sorted = |link: &Link| {
            let mut names = link.between.clone();
            names.sort();
            names
        };
        sorted(self) == sorted(other)
    }

    pub(super) fn name(&self) -> String {
        self.between.join("+")
    }

    fn is_impaired_as(&self, other: &Link) -> bool {
        let same = |(node, one): (&String, &Impairment)| {
            other.ways.get(node).is_some_and(|two| equal(one, two))
        };
        self.ways.len() == other.ways.len() && self.ways.iter().all(same)
    }
}

/// Parts of 1 have been through decimal digits.
fn equal(one: &Impairment, two: &Impairment) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    let parts = |of: &Impairment| Impairment {
        loss: 0.0,
        reorder: 0.0,
        ..of.clone()
    };
    near(one.loss, two.loss) && near(one.reorder, two.reorder) && parts(one) == parts(two)
}

/// A link that is there. Its slot is its place among all links that the lab ever had: names of devices depend on it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Present {
    pub(super) slot: usize,
    /// Whether it was made to the end.
    pub(super) whole: bool,
    pub(super) link: Link,
}

/// A node that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// Whether what carries it runs.
    pub(super) alive: bool,
    pub(super) agent: Agent,
    /// Whether the store is, in part, on it.
    pub(super) member: bool,
    /// The slots of the links whose devices its agent was told of.
    pub(super) underlay: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agent {
    /// It was never started: the node is not made to the end.
    Never,
    Ended,
    Runs,
}

/// A running lab.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Have {
    pub(super) settings: Settings,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<Present>,
    /// The slot of the next link.
    pub(super) slots: usize,
    /// What earlier files put into the cluster.
    pub(super) objects: Vec<Object>,
    /// What of the file the cluster has not, or not like that.
    pub(super) differs: Vec<Change>,
}

/// Something that `weft apply` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// As `weft diff` says, or `apply` where it could not be asked.
    pub(super) action: String,
    pub(super) object: Object,
    pub(super) detail: String,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Want {
    pub(super) settings: Settings,
    pub(super) nodes: Vec<String>,
    /// None: all nodes share one segment.
    pub(super) links: Vec<Link>,
    pub(super) objects: Vec<Object>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Remove(Object),
    AddNode(String),
    AddLink { slot: usize, link: Link },
    ChangeLink { slot: usize, link: Link },
    StartAgent(String),
    Apply(Vec<Change>),
    RemoveLink { slot: usize, link: Link },
    RemoveNode(String),
}

impl Action {
    /// What is done, to what, and a word about it.
    pub(super) fn rows(&self) -> Vec<[String; 4]> {
        let row = |verb: &str, kind: &str, name: &str, about: &str| {
            [verb, kind, name, about].map(str::to_owned)
        };
        let one = match self {
            Action::Remove(Object { kind, name }) => row("remove", kind, name, ""),
            Action::AddNode(name) => row("add", "node", name, ""),
            Action::AddLink { link, .. } => row("add", "link", &link.name(), &words(link)),
            Action::ChangeLink { link, .. } => row("change", "link", &link.name(), &words(link)),
            Action::StartAgent(name) => row("start", "agent", name, ""),
            Action::Apply(changes) => {
                let rows = changes.iter().map(|change| {
                    let Object { kind, name } = &change.object;
                    row(&change.action, kind, name, &change.detail)
                });
                return rows.collect();
            }
            Action::RemoveLink { link, .. } => row("remove", "link", &link.name(), ""),
            Action::RemoveNode(name) => row("remove", "node", name, ""),
        };
        vec![one]
    }
}

fn words(link: &Link) -> String {
    let mut all: Vec<String> = Vec::new();
    for (node, impairment) in &link.ways {
        let said = links::of(impairment);
        if !said.is_empty() {
            all.push(format!("from {node}: {said}"));
        }
    }
    all.join("; ")
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let said: Vec<String> = rows.iter().map(|row| row[..3].join(" ")).collect();
        f.write_str(&said.join(", "))
    }
}

/// Why a file is nothing that this lab can become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) subject: String,
    pub(super) cause: String,
}

impl Refusal {
    fn new(subject: impl Into<String>, cause: impl Into<String>) -> Refusal {
        let (subject, cause) = (subject.into(), cause.into());
        Refusal { subject, cause }
    }

    pub(super) fn told(self, lab: &str) -> LabError {
        LabError::Refused {
            subject: self.subject,
            cause: self.cause,
            help: format!(
                "nothing was touched; undo it in the file, or bring the lab up anew: `weft lab down {lab}`, then `up`"
            ),
        }
    }
}

/// All that is to be done, in order: what the rest stands on comes first, and goes last.
pub(super) fn plan(have: &Have, want: &Want) -> Result<Vec<Action>, Refusal> {
    check(have, want)?;
    let mut actions = Vec::new();
    let gone = have.objects.iter().filter(|o| !want.objects.contains(o));
    let (networks, others): (Vec<&Object>, Vec<&Object>) = gone.partition(|o| o.kind == "network");
    // Chains hold on to containers, containers to networks; the file's order is the order of making.
    let removed = others.into_iter().rev().cloned().map(Action::Remove);
    actions.extend(removed);
    let mut agents = Vec::new();
    for name in &want.nodes {
        let known = have.nodes.iter().find(|node| node.name == *name);
        match known.map(|node| node.agent) {
            None | Some(Agent::Never) => {
                actions.push(Action::AddNode(name.clone()));
                agents.push(Action::StartAgent(name.clone()));
            }
            Some(Agent::Ended) => agents.push(Action::StartAgent(name.clone())),
            Some(Agent::Runs) => {}
        }
        // An agent takes its underlay at its start; its containers and their packets go on meanwhile.
        if let Some(node) = known
            && node.agent == Agent::Runs
            && node.underlay != slots_of(have, want, name)
        {
            agents.push(Action::StartAgent(name.clone()));
        }
    }
    actions.extend(joining(have, want));
    actions.extend(agents);
    if !have.differs.is_empty() {
        actions.push(Action::Apply(have.differs.clone()));
    }
    actions.extend(networks.into_iter().cloned().map(Action::Remove));
    for present in leaving(have, want) {
        let (slot, link) = (present.slot, present.link.clone());
        actions.push(Action::RemoveLink { slot, link });
    }
    let nodes = have.nodes.iter().filter(|n| !want.nodes.contains(&n.name));
    actions.extend(nodes.map(|node| Action::RemoveNode(node.name.clone())));
    Ok(actions)
}

/// The slots of the links that a node is to be at.
fn slots_of(have: &Have, want: &Want, name: &str) -> Vec<usize> {
    let mut next = have.slots..;
    let slots = want.links.iter().filter_map(|link| {
        let known = have.links.iter().find(|p| p.link.joins_as(link));
        let slot = known.map_or_else(|| next.next(), |present| Some(present.slot));
        slot.filter(|_| link.between.iter().any(|node| node == name))
    });
    let mut slots: Vec<usize> = slots.collect();
    slots.sort_unstable();
    slots
}

fn leaving<'a>(have: &'a Have, want: &'a Want) -> impl Iterator<Item = &'a Present> {
    let stays = |present: &Present| want.links.iter().any(|l| l.joins_as(&present.link));
    have.links.iter().filter(move |present| !stays(present))
}

fn joining(have: &Have, want: &Want) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut slots = have.slots..;
    for link in &want.links {
        let known = have.links.iter().find(|p| p.link.joins_as(link));
        let Some(Present {
            slot,
            whole,
            link: now,
        }) = known
        else {
            let link = link.clone();
            actions.extend(slots.next().map(|slot| Action::AddLink { slot, link }));
            continue;
        };
        // Its ends are in the order in which it was made, and so is its name.
        let link = Link {
            between: now.between.clone(),
            ..link.clone()
        };
        let slot = *slot;
        if !whole {
            actions.push(Action::AddLink { slot, link });
        } else if (link.mtu, link.up, &link.capture) != (now.mtu, now.up, &now.capture)
            || !link.is_impaired_as(now)
        {
            actions.push(Action::ChangeLink { slot, link });
        }
    }
    actions
}

/// What a running lab cannot become.
fn check(have: &Have, want: &Want) -> Result<(), Refusal> {
    if let Some((what, is, wanted)) = have.settings.differs(&want.settings) {
        let cause = format!("it is {is} and the file says {wanted}; a running lab keeps it");
        return Err(Refusal::new(what, cause));
    }
    for node in &have.nodes {
        let subject = format!("node {}", node.name);
        let stays = want.nodes.contains(&node.name);
        if stays && !node.alive && node.agent != Agent::Never {
            return Err(Refusal::new(
                subject,
                "it has ended, and cannot be brought back",
            ));
        }
        if !stays && node.member {
            let cause = "the file has it no more, and the store is on it";
            return Err(Refusal::new(subject, cause));
        }
    }
    let added = want
        .nodes
        .iter()
        .find(|n| !have.nodes.iter().any(|h| h.name == **n));
    if let Some(name) = added
        && have.settings.is_of_machines()
    {
        let cause = "a machine cannot be added to machines that run";
        return Err(Refusal::new(format!("node {name}"), cause));
    }
    check_links(have, want)
}

fn check_links(have: &Have, want: &Want) -> Result<(), Refusal> {
    let segment = |none: bool| if none { "one segment" } else { "links" };
    let (was, is) = (have.links.is_empty(), want.links.is_empty());
    if was != is {
        let (was, is) = (segment(was), segment(is));
        let cause = format!("its nodes are joined by {was}, and the file joins them by {is}");
        return Err(Refusal::new("underlay", cause));
    }
    for link in &want.links {
        let subject = format!("link {}", link.name());
        match have.links.iter().find(|p| p.link.joins_as(link)) {
            Some(present) if present.link.relayed != link.relayed => {
                let cause = if link.relayed {
                    "it does not pass the relay, which it would have to for what the file or its steps say of it"
                } else {
                    "it passes the relay, and the file says nothing of it any more"
                };
                return Err(Refusal::new(subject, cause));
            }
            None if have.settings.is_of_machines() => {
                return Err(Refusal::new(
                    subject,
                    "a machine that runs gets no more cards",
                ));
            }
            _ => {}
        }
    }
    for node in want.nodes.iter().filter(|_| !want.links.is_empty()) {
        if !want.links.iter().any(|link| link.between.contains(node)) {
            return Err(Refusal::new(
                format!("node {node}"),
                "no link of the file is at it",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
