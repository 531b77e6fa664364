//! What the rest of the file has, for the steps that refer to it.

use weft_overlay::{ContainerRef, NetworkRef, NodeName};

use crate::diagnose::{Mistakes, nearest};
use crate::file::Link;
use crate::site::Site;
use crate::tables::{Value, span_of};

/// What steps refer to.
pub(super) struct Known<'a> {
    pub(super) site: &'a Site,
    pub(super) nodes: &'a [NodeName],
    pub(super) links: &'a [Link],
}

impl Known<'_> {
    pub(super) fn container(
        &self,
        name: &ContainerRef,
        value: &Value<'_>,
        key: &str,
        mistakes: &mut Mistakes,
    ) {
        let all: Vec<String> = self
            .site
            .containers
            .iter()
            .map(|c| c.name.to_string())
            .collect();
        self.missing(
            "container",
            &name.to_string(),
            &all,
            span_of(value, key),
            mistakes,
        );
    }

    pub(super) fn network(
        &self,
        name: &NetworkRef,
        at: std::ops::Range<usize>,
        mistakes: &mut Mistakes,
    ) {
        let all: Vec<String> = self
            .site
            .networks
            .iter()
            .map(|n| n.name.to_string())
            .collect();
        self.missing("network", &name.to_string(), &all, at, mistakes);
    }

    pub(super) fn hop(&self, name: &str, value: &Value<'_>, key: &str, mistakes: &mut Mistakes) {
        let all: Vec<String> = self
            .site
            .chains
            .iter()
            .flat_map(|chain| chain.parsed.hops.iter().map(|hop| hop.name.to_string()))
            .collect();
        self.missing("hop", name, &all, span_of(value, key), mistakes);
    }

    fn missing(
        &self,
        what: &str,
        name: &str,
        all: &[String],
        at: std::ops::Range<usize>,
        mistakes: &mut Mistakes,
    ) {
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
}
