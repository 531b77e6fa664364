//! Who serves a hop, by which interfaces, and that nobody is both a hop and an end of its chain.

use weft_overlay::NetworkRef;

use super::{Check, Member, pairs};
use crate::file::HopSpans;
use crate::policy::{Hop, OnFailure};

impl Check<'_> {
    pub(super) fn hops(&mut self) {
        let Some(network) = self.file.network() else {
            return;
        };
        let file = self.file;
        for (hop, spans) in file.hops.iter().zip(&file.spans.hops) {
            let serving: Vec<usize> = (0..self.members.len())
                .filter(|at| hop.selects(self.members[*at].labels))
                .collect();
            if serving.is_empty() && hop.on_failure == OnFailure::Drop {
                let help = self.label_help(
                    &hop.select,
                    "start the container first, or write on_failure = \"bypass\"",
                );
                let message = format!(
                    "hop {:?} drops on failure and no container of tenant {} has {}",
                    hop.name,
                    network.tenant,
                    pairs(&hop.select)
                );
                self.say(&spans.select, message, "selects nothing", help);
            }
            for at in serving {
                self.arms(hop, spans, at, &network);
                self.loops(hop, spans, at, &network);
            }
        }
    }

    /// The container has the hop's interfaces, made for a hop, in the chain's network.
    fn arms(&mut self, hop: &Hop, spans: &HopSpans, at: usize, network: &NetworkRef) {
        for (name, span) in hop.interfaces.iter().zip(&spans.interfaces) {
            let Member {
                name: container,
                interfaces,
                ..
            } = &self.members[at];
            let entry =
                format!("{{ network = \"{network}\", interface = \"{name}\", hop = true }}");
            let (message, label) = match interfaces.iter().find(|i| i.name == *name) {
                None => (
                    format!(
                        "container {container} serves hop {:?} and has no interface {name}",
                        hop.name
                    ),
                    "not there",
                ),
                Some(found) if found.spec.network != network.network => (
                    format!(
                        "interface {name} of container {container} is in network {}/{}, the chain is in {network}",
                        container.tenant, found.spec.network
                    ),
                    "in another network",
                ),
                Some(found) if !found.spec.hop => (
                    format!(
                        "interface {name} of container {container} is an ordinary one, not a hop's"
                    ),
                    "not a hop's interface",
                ),
                Some(_) => continue,
            };
            let help = format!("give container {container} in `networks`: {entry}");
            self.say(span, message, label, help);
        }
    }

    /// A container that serves the hop is no end of what goes through it.
    fn loops(&mut self, hop: &Hop, spans: &HopSpans, at: usize, network: &NetworkRef) {
        let member = &self.members[at];
        let ends = self
            .file
            .matches
            .iter()
            .flat_map(|m| [("from", &m.from), ("to", &m.to)]);
        let matched = ends
            .into_iter()
            .find(|(_, selector)| member.selected(selector, network));
        if let Some((side, selector)) = matched {
            let message = format!(
                "loop: container {} serves hop {:?} and is itself matched by `{side}` ({selector})",
                member.name, hop.name
            );
            let help = "give the container other labels, or keep it out of the network but for its hop interfaces";
            self.say(&spans.select, message, "selects an end of the chain", help);
        }
    }
}
