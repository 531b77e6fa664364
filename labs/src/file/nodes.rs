//! `[[node]]`: names, and `count = 3` for `n1`, `n2`, `n3`.

use std::ops::Range;

use serde::Deserialize;
use weft_overlay::NodeName;

use super::machines::{self, MachineTable};
use super::shape;
use crate::backend::Backend;
use crate::diagnose::{Mistakes, nearest};
use crate::tables::{Value, span_of, text_of, typed};

/// Most nodes of a lab: the last bytes of their addresses are 11 to 254.
pub(crate) const NODES_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeTable {
    name: String,
    count: Option<u32>,
    /// For virtual machines; namespaces have the machine's memory. Accepted there, so that one file serves both.
    pub(super) memory: Option<String>,
    pub(super) kernel: Option<String>,
    pub(super) disk: Option<String>,
    pub(super) packages: Option<Vec<String>>,
}

/// The nodes and their machines, `count` resolved, and whether all of the tables could be read.
pub(super) fn read(
    items: Vec<Value<'_>>,
    backend: Backend,
    mistakes: &mut Mistakes,
) -> (Vec<NodeName>, Vec<MachineTable>, bool) {
    let mut whole = !items.is_empty();
    if items.is_empty() {
        mistakes.add(
            0..0,
            "the lab has no nodes",
            "add some",
            "write [[node]] with name = \"n\" and count = 3".to_owned(),
        );
    }
    let mut nodes: Vec<NodeName> = Vec::new();
    let mut all_machines = Vec::new();
    for item in items {
        let title = text_of(&item, "name")
            .unwrap_or("without a name")
            .to_owned();
        let context = format!("node {title}");
        let table = shape::check(&item, &shape::Kind::Table(shape::NODE), &context, mistakes)
            .and_then(|item| typed::<NodeTable>(&item, &context, mistakes));
        let Some(table) = table else {
            whole = false;
            continue;
        };
        let machine = machines::read(&table, backend, &item, mistakes);
        for name in names(&table) {
            match name.parse::<NodeName>() {
                Ok(name) if nodes.contains(&name) => mistakes.add(
                    span_of(&item, "name"),
                    format!("node {name} is there twice"),
                    "second time",
                    "give it another name or remove it".to_owned(),
                ),
                Ok(name) => {
                    nodes.push(name);
                    all_machines.push(machine.clone());
                }
                Err(error) => {
                    whole = false;
                    mistakes.add(span_of(&item, "name"), error.to_string(), "this name", None);
                }
            }
        }
    }
    (nodes, all_machines, whole)
}

fn names(table: &NodeTable) -> Vec<String> {
    match table.count {
        None => vec![table.name.clone()],
        Some(count) => (1..=count).map(|i| format!("{}{i}", table.name)).collect(),
    }
}

/// Notes a reference to a node that the lab does not have.
pub(super) fn unknown(wanted: &str, at: Range<usize>, nodes: &[NodeName], mistakes: &mut Mistakes) {
    let help = match nearest(wanted, nodes.iter().map(NodeName::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => {
            let all: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            format!("the lab has {}", all.join(", "))
        }
    };
    mistakes.add(
        at,
        format!("there is no node {wanted}"),
        "not in the lab",
        help,
    );
}
