//! What the rest of the file has, for the steps that refer to it.
//!
//! Names are taken from the tables as they stand there, so that a container with a mistake in it is still known by its
//! name and its steps are not blamed. What could not be read whole is not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use weft_overlay::{ContainerRef, NetworkRef, NodeName};

use crate::diagnose::{Mistakes, nearest};
use crate::file::{Link, nodes};
use crate::relay::Impairment;
use crate::site::Site;
use crate::tables::{Tables, Value, items_of, span_of, text_of};

/// What steps refer to.
pub(in crate::file) struct Known {
    containers: Vec<String>,
    networks: Vec<String>,
    /// Nothing: some chain could not be read.
    hops: Option<Vec<String>>,
    /// Nothing: some node could not be read.
    nodes: Option<Vec<NodeName>>,
    /// Machines that keep their state: they can be started anew.
    disks: Vec<NodeName>,
    links: Vec<BTreeSet<String>>,
    /// What links do to what each of their nodes sends, after the steps so far.
    ways: Vec<BTreeMap<NodeName, Impairment>>,
    /// Streams that earlier steps began.
    pub(super) streams: Vec<String>,
}

impl Known {
    /// The names in the tables of the file; call it before they are taken.
    pub(in crate::file) fn of(tables: &Tables<'_>) -> Known {
        let names = |table: &str| {
            let items = tables.peek(table);
            items
                .iter()
                .filter_map(|item| text_of(item, "name").map(str::to_owned))
                .collect()
        };
        let links = tables.peek("link");
        let ends = links.iter().map(|link| {
            let ends = items_of(link, "between").into_iter();
            ends.filter_map(|one| one.get_ref().as_str().map(str::to_owned))
                .collect()
        });
        Known {
            containers: names("container"),
            networks: names("network"),
            hops: None,
            nodes: None,
            disks: Vec::new(),
            links: ends.collect(),
            ways: Vec::new(),
            streams: Vec::new(),
        }
    }

    pub(in crate::file) fn with_nodes(&mut self, nodes: &[NodeName]) {
        self.nodes = Some(nodes.to_vec());
    }

    /// What links do before the first step.
    pub(in crate::file) fn with_links(&mut self, links: &[Link]) {
        let way = |link: &Link, node: &NodeName| {
            let own = link.from.get(node).unwrap_or(&link.impairment);
            (node.clone(), own.clone())
        };
        let ways = links
            .iter()
            .map(|link| link.between.iter().map(|node| way(link, node)).collect());
        self.ways = ways.collect();
    }

    /// What a link does to what its nodes send, or one of them; nothing if the link could not be read.
    pub(super) fn ways(
        &mut self,
        between: &[NodeName],
        from: Option<&NodeName>,
    ) -> impl Iterator<Item = &mut Impairment> {
        let wanted: BTreeSet<&NodeName> = between.iter().collect();
        let mut links = self.ways.iter_mut();
        let link = links.find(|link| link.keys().collect::<BTreeSet<_>>() == wanted);
        let ways = link.into_iter().flatten();
        let meant = ways.filter(move |(node, _)| from.is_none_or(|from| from == *node));
        meant.map(|(_, way)| way)
    }

    /// These nodes are machines with a disk.
    pub(in crate::file) fn with_disks(&mut self, nodes: Vec<NodeName>) {
        self.disks = nodes;
    }

    pub(super) fn has_disk(&self, name: &NodeName) -> bool {
        self.disks.contains(name)
    }

    /// All chains were read.
    pub(in crate::file) fn with_hops(&mut self, site: &Site) {
        self.hops.get_or_insert_default().extend(hops_of(site));
    }

    /// What a step applies is there for the later ones.
    pub(super) fn applied(&mut self, site: &Site) {
        let containers = site.containers.iter().map(|c| c.name.to_string());
        self.containers.extend(containers);
        let networks = site.networks.iter().map(|n| n.name.to_string());
        self.networks.extend(networks);
        if let Some(hops) = &mut self.hops {
            hops.extend(hops_of(site));
        }
    }

    pub(super) fn container(
        &self,
        name: &ContainerRef,
        value: &Value<'_>,
        key: &str,
        mistakes: &mut Mistakes,
    ) {
        let at = span_of(value, key);
        missing(
            "container",
            &name.to_string(),
            &self.containers,
            at,
            mistakes,
        );
    }

    pub(super) fn network(&self, name: &NetworkRef, at: Range<usize>, mistakes: &mut Mistakes) {
        missing("network", &name.to_string(), &self.networks, at, mistakes);
    }

    pub(super) fn hop(&self, name: &str, value: &Value<'_>, key: &str, mistakes: &mut Mistakes) {
        if let Some(hops) = &self.hops {
            missing("hop", name, hops, span_of(value, key), mistakes);
        }
    }

    pub(super) fn stream(&self, name: &str, value: &Value<'_>, mistakes: &mut Mistakes) {
        let at = span_of(value, "name");
        missing("stream", name, &self.streams, at, mistakes);
    }

    pub(super) fn node(&self, name: &NodeName, at: Range<usize>, mistakes: &mut Mistakes) {
        if let Some(nodes) = &self.nodes
            && !nodes.contains(name)
        {
            nodes::unknown(name.as_str(), at, nodes, mistakes);
        }
    }

    pub(super) fn joined(&self, nodes: &[NodeName]) -> bool {
        let nodes: BTreeSet<String> = nodes.iter().map(ToString::to_string).collect();
        self.links.contains(&nodes)
    }
}

fn hops_of(site: &Site) -> Vec<String> {
    site.chains
        .iter()
        .flat_map(|chain| chain.parsed.hops.iter().map(|hop| hop.name.to_string()))
        .collect()
}

fn missing(what: &str, name: &str, all: &[String], at: Range<usize>, mistakes: &mut Mistakes) {
    if all.iter().any(|known| known == name) {
        return;
    }
    let help = match nearest(name, all.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None if all.is_empty() => format!("the file has no {what}s"),
        None => format!("the file has {}", all.join(", ")),
    };
    mistakes.add(
        at,
        format!("there is no {what} {name}"),
        "not in the file",
        help,
    );
}
