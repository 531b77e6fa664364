//! A lab file: a site's tables plus the lab itself, its nodes, links and steps.
//!
//! Owns: the whole parsed file and the checks across its tables. Never: starts anything.

use std::path::Path;
use std::time::Duration;

use weft_overlay::NodeName;

use crate::backend::Backend;
use crate::diagnose::{Diagnostic, Mistakes};
use crate::error::LabError;
use crate::site::{self, LoadChain, SITE_TABLES, Site};
use crate::tables::{Tables, read_document, span_of};

mod changes;
mod lab;
mod links;
mod machines;
mod nodes;
mod schema;
mod shape;
mod steps;
mod traffic;
mod units;

pub use changes::Changes;
pub use links::Link;
pub use machines::MachineTable;
pub use schema::schema;
pub(crate) use steps::ends;
pub use steps::{
    AppliedFile, Capture, Condition, Family, LinkChange, LinkState, Machine, Step, StepKind,
    Stream, Subject, Target,
};
pub use traffic::Probe;

/// A parsed lab file.
#[derive(Clone, Debug)]
pub struct LabFile {
    /// The file as it was named.
    pub file: String,
    /// `[lab] name`
    pub name: String,
    /// `[lab] backend`, unless it was overridden.
    pub backend: Backend,
    /// `[lab] store` is etcd.
    pub etcd: bool,
    /// `[lab] lease_ttl`: how long a node without sign of life counts as there.
    pub lease_ttl: Option<Duration>,
    /// `[lab] seed`: of all chance on its links.
    pub seed: u64,
    /// `[lab] underlay`: by which addresses its nodes know each other.
    pub underlay: Family,
    /// The nodes, `count` resolved, in order.
    pub nodes: Vec<NodeName>,
    /// The virtual machines of the nodes, in the same order.
    pub machines: Vec<MachineTable>,
    /// The links; none: all nodes share one segment.
    pub links: Vec<Link>,
    /// Networks, containers, chains.
    pub site: Site,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl LabFile {
    /// Parses the text of a lab file; chain files are looked for in `folder`. `backend` overrides
    /// the file's.
    pub fn parse(
        name: &str,
        text: &str,
        folder: &Path,
        backend: Option<&str>,
    ) -> Result<LabFile, Vec<Diagnostic>> {
        Self::parse_with(name, text, backend, &site::from_folder(folder))
    }

    pub(crate) fn parse_with(
        name: &str,
        text: &str,
        backend: Option<&str>,
        load: LoadChain<'_>,
    ) -> Result<LabFile, Vec<Diagnostic>> {
        let mut mistakes = Mistakes::new(name, text);
        let Some(document) = read_document(text, &mut mistakes) else {
            return Err(mistakes.finish());
        };
        let known: Vec<&str> = ["lab", "node", "link", "step"]
            .into_iter()
            .chain(SITE_TABLES)
            .collect();
        let mut tables = Tables::of(document, &known, &mut mistakes, |_| None);
        let lab = lab::read(tables.take("lab"), backend, &mut mistakes);
        let backend = lab
            .as_ref()
            .map_or_else(Backend::default, |lab| lab.backend);
        let mut known = steps::Known::of(&tables);
        let (nodes, machines, whole) = nodes::read(tables.take("node"), backend, &mut mistakes);
        if whole {
            known.with_nodes(&nodes);
            known.with_disks(machines::disks(backend, &nodes, &machines));
        }
        let all_nodes = whole.then_some(nodes.as_slice());
        let mut links = links::read(tables.take("link"), all_nodes, &mut mistakes);
        known.with_links(&links);
        let placed: Vec<_> = tables.peek("container");
        let chains = tables.peek("chain").len();
        let site = site::parse_tables(&mut tables, &mut mistakes, load);
        if let Some(nodes) = all_nodes {
            check_placement(&placed, nodes, &mut mistakes);
        }
        let run_by = tables.peek("step");
        machines::check_programs(backend, &nodes, &machines, &placed, &run_by, &mut mistakes);
        if chains == site.chains.len() {
            known.with_hops(&site);
        }
        let steps = steps::read(&tables.take("step"), known, load, &mut mistakes);
        for link in &mut links {
            link.watched = steps.iter().any(|step| step.kind.watches(link));
            let changes = |step: &Step| step.kind.changes(link);
            link.relayed |= link.watched || steps.iter().any(changes);
        }
        match (lab, mistakes.is_empty()) {
            (Some(lab), true) => Ok(LabFile {
                file: name.to_owned(),
                name: lab.name,
                etcd: lab.etcd,
                backend,
                lease_ttl: lab.lease_ttl,
                seed: lab.seed,
                underlay: lab.underlay,
                nodes,
                machines,
                links,
                site,
                steps,
            }),
            _ => Err(mistakes.finish()),
        }
    }
}

impl LabFile {
    /// Leaves only the steps that some of these words mean: a step's number, or words of its title. No words: all stay.
    pub(crate) fn keep_only(&mut self, only: &[String]) -> Result<(), LabError> {
        let means = |word: &String, step: &Step| match word.parse::<usize>() {
            Ok(number) => step.number == number,
            Err(_) => step.kind.to_string().contains(word.as_str()),
        };
        let missing = |word: &&String| !self.steps.iter().any(|step| means(word, step));
        if let Some(word) = only.iter().find(missing) {
            let steps = self.steps.iter();
            let listed: Vec<String> = steps.map(|s| format!("{} {}", s.number, s.kind)).collect();
            return Err(LabError::NotFound {
                subject: format!("step {word:?}"),
                cause: format!("{} has no such step", self.file),
                help: format!("its steps are:\n    {}", listed.join("\n    ")),
            });
        }
        if !only.is_empty() {
            self.steps
                .retain(|step| only.iter().any(|word| means(word, step)));
        }
        Ok(())
    }
}

/// Every container's node must be one of the lab's.
fn check_placement(
    containers: &[crate::tables::Value<'_>],
    nodes: &[NodeName],
    mistakes: &mut Mistakes,
) {
    for item in containers {
        let Some(wanted) = crate::tables::text_of(item, "node") else {
            continue;
        };
        if !nodes.iter().any(|node| node.as_str() == wanted) {
            nodes::unknown(wanted, span_of(item, "node"), nodes, mistakes);
        }
    }
}

#[cfg(test)]
mod tests;
