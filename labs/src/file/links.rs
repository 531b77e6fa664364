//! `[[link]]`: what joins nodes, two by a wire or more by a segment, and how bad it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use weft_overlay::NodeName;

use super::{Changes, nodes, shape};
use crate::diagnose::Mistakes;
use crate::relay::Impairment;
use crate::tables::{Value, items_of, span_of, typed};

/// A link between two nodes, or a segment of more.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its nodes.
    pub between: Vec<NodeName>,
    /// Bytes; of the devices at it too.
    pub mtu: Option<u32>,
    /// What it does to what each node sends.
    pub impairment: Impairment,
    /// To what these nodes send, in place of it.
    pub from: BTreeMap<NodeName, Impairment>,
    /// Where all its frames are written.
    pub capture: Option<PathBuf>,
    /// Whether a step looks at its frames.
    pub watched: bool,
    /// Whether its frames pass the relay on every backend: something is said of them, here or in a step.
    pub relayed: bool,
}

impl Link {
    /// Whether it joins just these, in any order.
    pub fn joins(&self, nodes: &[NodeName]) -> bool {
        let own: BTreeSet<&NodeName> = self.between.iter().collect();
        own == nodes.iter().collect()
    }

    /// How the relay calls it. Names of nodes have no `+`.
    pub fn name(&self) -> String {
        let names: Vec<&str> = self.between.iter().map(NodeName::as_str).collect();
        names.join("+")
    }
}

#[derive(Deserialize)]
struct LinkTable {
    between: Vec<NodeName>,
    capture: Option<PathBuf>,
}

pub(super) fn read(
    items: Vec<Value<'_>>,
    nodes: Option<&[NodeName]>,
    mistakes: &mut Mistakes,
) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for item in items {
        let checked = shape::check(&item, &shape::Kind::Table(shape::LINK), "link", mistakes);
        let Some(item) = checked else { continue };
        let Some(link) = one(&item, mistakes) else {
            continue;
        };
        for (name, value) in link.between.iter().zip(items_of(&item, "between")) {
            if let Some(nodes) = nodes
                && !nodes.contains(name)
            {
                nodes::unknown(name.as_str(), value.span(), nodes, mistakes);
            }
        }
        let different: BTreeSet<&NodeName> = link.between.iter().collect();
        if different.len() < link.between.len() || links.iter().any(|l| l.joins(&link.between)) {
            let ends = words(&link.between);
            mistakes.add(
                span_of(&item, "between"),
                format!("link between {ends}: it needs different nodes that are not joined yet"),
                "these",
                "name two or more different nodes, once".to_owned(),
            );
            continue;
        }
        links.push(link);
    }
    links
}

fn one(item: &Value<'_>, mistakes: &mut Mistakes) -> Option<Link> {
    let table: LinkTable = typed(item, "link", mistakes)?;
    let changes = Changes::read(item, "link", mistakes)?;
    let impairment = changes.judged_on(&Impairment::default(), item, "link", mistakes);
    let mut from = BTreeMap::new();
    let ways = item.get_ref().as_table().and_then(|all| all.get("from"));
    for (name, value) in ways
        .and_then(|w| w.get_ref().as_table())
        .into_iter()
        .flatten()
    {
        let context = format!("link: what {} sends", name.get_ref());
        let Some(node) = table.between.iter().find(|n| n.as_str() == name.get_ref()) else {
            mistakes.add(
                name.span(),
                format!("link: {} is not at it", name.get_ref()),
                "not at this link",
                format!("it joins {}", words(&table.between)),
            );
            continue;
        };
        let changes = Changes::read(value, &context, mistakes)?;
        let impairment = changes.judged_on(&impairment, value, &context, mistakes);
        from.insert(node.clone(), impairment);
    }
    let said = Changes {
        mtu: None,
        ..changes.clone()
    };
    Some(Link {
        relayed: !said.is_empty() || !from.is_empty() || table.capture.is_some(),
        mtu: changes.mtu,
        impairment,
        from,
        capture: table.capture,
        watched: false,
        between: table.between,
    })
}

/// Nodes in a sentence.
pub(super) fn words(nodes: &[NodeName]) -> String {
    let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
    match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => names.concat(),
    }
}
