//! `[[link]]`: point-to-point links between nodes. Impairments are refused, never ignored.

use serde::Deserialize;
use weft_overlay::NodeName;

use super::{nodes, shape};
use crate::diagnose::Mistakes;
use crate::tables::{Value, items_of, span_of, typed};

/// A link between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its ends.
    pub between: [NodeName; 2],
}

impl Link {
    /// Whether it joins these two, in any order.
    pub fn joins(&self, a: &NodeName, b: &NodeName) -> bool {
        let [x, y] = &self.between;
        (x, y) == (a, b) || (x, y) == (b, a)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkTable {
    between: [NodeName; 2],
    delay: Option<toml::Value>,
    jitter: Option<toml::Value>,
    loss: Option<toml::Value>,
    rate: Option<toml::Value>,
}

pub(super) fn read(
    items: Vec<Value<'_>>,
    nodes: Option<&[NodeName]>,
    mistakes: &mut Mistakes,
) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for item in items {
        let table = shape::check(&item, &shape::Kind::Table(shape::LINK), "link", mistakes)
            .and_then(|item| typed::<LinkTable>(&item, "link", mistakes));
        let Some(table) = table else {
            continue;
        };
        refuse_impairments(&table, &item, mistakes);
        for (name, value) in table.between.iter().zip(items_of(&item, "between")) {
            if let Some(nodes) = nodes
                && !nodes.contains(name)
            {
                nodes::unknown(name.as_str(), value.span(), nodes, mistakes);
            }
        }
        let [a, b] = &table.between;
        if a == b || links.iter().any(|link| link.joins(a, b)) {
            mistakes.add(
                span_of(&item, "between"),
                format!("link between {a} and {b}: it needs two nodes that are not joined yet"),
                "these",
                "name two different nodes, once".to_owned(),
            );
            continue;
        }
        links.push(Link {
            between: table.between,
        });
    }
    links
}

fn refuse_impairments(table: &LinkTable, item: &Value<'_>, mistakes: &mut Mistakes) {
    let asked = [
        ("delay", &table.delay),
        ("jitter", &table.jitter),
        ("loss", &table.loss),
        ("rate", &table.rate),
    ];
    for (key, _) in asked.iter().filter(|(_, value)| value.is_some()) {
        mistakes.add(
            span_of(item, key),
            format!("`{key}` of a link is not supported by this version"),
            "cannot be imitated",
            format!("remove `{key}`: links run at the machine's speed"),
        );
    }
}
