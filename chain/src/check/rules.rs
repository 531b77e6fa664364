//! Rules that no packet reaches, and rules that no table holds.

use std::collections::BTreeSet;

use ipnet::IpNet;
use weft_ebpf_abi::RULES_MAX;

use super::Check;
use crate::policy::{Match, Policy, Select, Selector, has_all};

/// Whether everything that `narrow` selects is selected by `wide`, whatever the containers are.
fn covers(wide: &Selector, narrow: &Selector) -> bool {
    if wide.network != narrow.network {
        return false;
    }
    match (&wide.select, &narrow.select) {
        (Select::Labels(wide), Select::Labels(narrow)) => has_all(narrow, wide),
        (Select::Labels(wide), Select::Endpoint(_)) => wide.is_empty(),
        (Select::Cidr(wide), Select::Cidr(narrow)) => wide.contains(narrow),
        (wide, narrow) => wide == narrow,
    }
}

impl Check<'_> {
    /// Traffic that an earlier entry has already.
    pub(super) fn shadows(&mut self) {
        let file = self.file;
        let mut before: Vec<(usize, &Selector, &Selector, crate::Traffic)> = Vec::new();
        for (place, (matching, spans)) in file.matches.iter().zip(&file.spans.matches).enumerate() {
            for (traffic, span) in matching.traffic.iter().zip(&spans.traffic) {
                let hidden = before.iter().find(|(_, from, to, earlier)| {
                    covers(from, &matching.from)
                        && covers(to, &matching.to)
                        && earlier.covers(traffic)
                });
                if let Some((by, _, _, earlier)) = hidden {
                    let message = format!(
                        "{traffic} is never reached here: match {} has {earlier} for the same ends",
                        by + 1
                    );
                    self.say(
                        span,
                        message,
                        "shadowed",
                        "remove it, or put the narrower one first",
                    );
                }
                before.push((place, &matching.from, &matching.to, *traffic));
            }
        }
    }

    /// Traffic that another chain has already: of two chains that match a packet, the one whose name
    /// comes first in the order of letters takes it, as [`crate::compile()`] puts their rules.
    pub(super) fn hidden_by_others(&mut self) {
        let (file, world) = (self.file, self.world);
        let earlier =
            |p: &&Policy| p.chain.tenant == file.chain.tenant && p.chain.name < file.chain.name;
        let mut others: Vec<&Policy> = world.others.iter().filter(earlier).collect();
        others.sort_by_key(|p| &p.chain.name);
        for (matching, spans) in file.matches.iter().zip(&file.spans.matches) {
            for (traffic, span) in matching.traffic.iter().zip(&spans.traffic) {
                let hidden = others.iter().find_map(|other| {
                    let same =
                        |m: &&Match| covers(&m.from, &matching.from) && covers(&m.to, &matching.to);
                    let mut theirs = other.matches.iter().filter(same).flat_map(|m| &m.traffic);
                    Some((other, theirs.find(|t| t.covers(traffic))?))
                });
                if let Some((other, theirs)) = hidden {
                    let (tenant, name) = (&other.chain.tenant, &other.chain.name);
                    let message = format!(
                        "{traffic} is never reached: chain {tenant}/{name} comes before {} by its name and has {theirs} for the same ends",
                        file.chain.name
                    );
                    let help = format!(
                        "take it out of {tenant}/{name}, or give this chain a name before {name}"
                    );
                    self.say(span, message, "shadowed by another chain", help);
                }
            }
        }
    }

    /// Between any two ends there are at most [`RULES_MAX`] rules, other chains' included.
    pub(super) fn room(&mut self) {
        let Some(network) = self.file.network() else {
            return;
        };
        let head = &self.file.chain;
        let same =
            |p: &&Policy| p.network().as_ref() == Some(&network) && p.chain.name != head.name;
        let others: Vec<&Policy> = self.world.others.iter().filter(same).collect();
        let policies = || others.iter().copied().chain([&self.file.policy]);
        let ends = || {
            policies()
                .flat_map(|p| &p.matches)
                .flat_map(|m| [&m.from, &m.to])
        };
        let selectors: BTreeSet<&Selector> = ends().collect();
        let mut sets: BTreeSet<BTreeSet<&Selector>> = BTreeSet::new();
        for range in selectors.iter().filter_map(|s| range(s)) {
            sets.insert(
                selectors
                    .iter()
                    .copied()
                    .filter(|s| range_has(s, range))
                    .collect(),
            );
        }
        let ranges: Vec<&Selector> = selectors
            .iter()
            .copied()
            .filter(|s| range(s).is_some())
            .collect();
        for member in &self.members {
            // Its address is not known yet: it may lie in any of the ranges, so it counts with all.
            let named: BTreeSet<&Selector> = selectors
                .iter()
                .copied()
                .filter(|s| member.selected(s, &network))
                .collect();
            if !named.is_empty() {
                sets.insert(
                    named
                        .iter()
                        .copied()
                        .chain(ranges.iter().copied())
                        .collect(),
                );
            }
        }
        let rules =
            |from: &BTreeSet<&Selector>, to: &BTreeSet<&Selector>, policy: &Policy| -> usize {
                let joined = policy
                    .matches
                    .iter()
                    .filter(|m| from.contains(&m.from) && to.contains(&m.to));
                joined
                    .flat_map(|m| &m.traffic)
                    .map(|t| t.numbers().len())
                    .sum()
            };
        let counts = sets
            .iter()
            .flat_map(|from| sets.iter().map(move |to| (from, to)));
        let worst = counts
            .filter(|(from, to)| rules(from, to, &self.file.policy) > 0)
            .map(|(from, to)| policies().map(|p| rules(from, to, p)).sum::<usize>())
            .max()
            .unwrap_or(0);
        if worst <= RULES_MAX {
            return;
        }
        let spans = self
            .file
            .spans
            .matches
            .iter()
            .flat_map(|m| m.traffic.last())
            .next_back()
            .cloned();
        let message =
            format!("{worst} rules meet between the same two ends, {RULES_MAX} are possible");
        let help = "write fewer, wider port ranges (icmp counts as two: one for each IP version)";
        self.say(&spans.unwrap_or_default(), message, "too many rules", help);
    }
}

fn range(selector: &Selector) -> Option<IpNet> {
    match selector.select {
        Select::Cidr(net) => Some(net),
        _ => None,
    }
}

fn range_has(selector: &Selector, net: IpNet) -> bool {
    range(selector).is_some_and(|wide| wide.contains(&net))
}
