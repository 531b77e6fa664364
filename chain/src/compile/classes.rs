//! Addresses to classes, pairs of classes to rules.
//!
//! A class is the set of selectors that an address matches, over all chains of its network; 0 is the
//! empty set. An endpoint that some label or name selects has an exact entry, with the ranges that it
//! lies in; every other address finds the longest range, whose class holds the shorter ones too. So
//! both look-ups give the whole set, and ranges may nest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_ebpf_abi as abi;
use weft_overlay::documents::EndpointDoc;
use weft_overlay::{EndpointRef, NetworkRef};

use super::{CarriedVersion, ChainTables, CompileInput, hash, stages};
use crate::policy::{Policy, Select, Selector, has_all};

/// The selectors of one network, and the classes that came up.
struct Classes<'a> {
    vni: u32,
    selectors: BTreeSet<&'a Selector>,
    sets: BTreeMap<BTreeSet<&'a Selector>, u32>,
}

/// Whether a label or name selector selects an endpoint of its network.
fn names(selector: &Selector, endpoint: &EndpointRef, doc: &EndpointDoc) -> bool {
    match &selector.select {
        Select::Labels(labels) => has_all(&doc.labels, labels),
        Select::Endpoint(name) => *name == endpoint.endpoint,
        Select::Cidr(_) | Select::External => false,
    }
}

fn ranges<'a>(selectors: &BTreeSet<&'a Selector>) -> BTreeMap<IpNet, &'a Selector> {
    let of = |s: &&'a Selector| match s.select {
        Select::Cidr(net) => Some((net.trunc(), *s)),
        _ => None,
    };
    selectors.iter().filter_map(of).collect()
}

impl<'a> Classes<'a> {
    /// The number of a set of selectors.
    fn class(&mut self, set: BTreeSet<&'a Selector>) -> u32 {
        if set.is_empty() {
            return 0;
        }
        if let Some(class) = self.sets.get(&set) {
            return *class;
        }
        let names: Vec<String> = set.iter().map(|s| format!("{s:?}")).collect();
        let mut parts: Vec<&[u8]> = vec![b"class"];
        parts.extend(names.iter().map(|n| n.as_bytes()));
        let class = hash::number(&parts, |id| self.sets.values().any(|taken| *taken == id));
        self.sets.insert(set, class);
        class
    }
}

fn bits(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => abi::mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Fills classes, ranges, pairs and network flags.
pub(super) fn classify(
    order: &[&CarriedVersion<'_>],
    input: &CompileInput<'_>,
    tables: &mut ChainTables,
) {
    let mut networks: BTreeMap<NetworkRef, Vec<&CarriedVersion<'_>>> = BTreeMap::new();
    for carried in order {
        if let Some(network) = carried.policy.network() {
            networks.entry(network).or_default().push(carried);
        }
    }
    for (network, carried) in networks {
        let Some(vni) = input.networks.get(&network) else {
            continue;
        };
        // A version that no longer classifies still steers what it began.
        tables.network_flags.insert(vni.get(), abi::NETWORK_CHAINS);
        let classifying: Vec<&CarriedVersion<'_>> =
            carried.into_iter().filter(|one| one.classifies).collect();
        one_network(&network, vni.get(), &classifying, input, tables);
    }
}

fn one_network(
    network: &NetworkRef,
    vni: u32,
    classifying: &[&CarriedVersion<'_>],
    input: &CompileInput<'_>,
    tables: &mut ChainTables,
) {
    let ends = classifying
        .iter()
        .flat_map(|one| &one.policy.matches)
        .flat_map(|m| [&m.from, &m.to]);
    let selectors: BTreeSet<&Selector> = ends
        .filter(|s| s.network.as_ref() == Some(&network.network))
        .collect();
    let mut classes = Classes {
        vni,
        selectors,
        sets: BTreeMap::new(),
    };
    let ranges = ranges(&classes.selectors);
    for net in ranges.keys() {
        let set = ranges
            .iter()
            .filter(|(other, _)| other.contains(net))
            .map(|(_, s)| *s)
            .collect();
        let class = classes.class(set);
        let (shift, addr) = match net {
            IpNet::V4(v4) => (128, abi::mapped(v4.network().octets())),
            IpNet::V6(v6) => (32, v6.network().octets()),
        };
        let key = abi::ClassCidrKey {
            vni_be: vni.to_be_bytes(),
            addr,
        };
        tables
            .class_cidrs
            .insert((u32::from(net.prefix_len()) + shift, key), class);
    }
    if !ranges.is_empty() {
        *tables.network_flags.entry(vni).or_default() |= abi::NETWORK_CIDR_CLASSES;
    }
    for (endpoint, doc) in &input.endpoints {
        if endpoint.tenant != network.tenant || endpoint.network != network.network {
            continue;
        }
        let named: BTreeSet<&Selector> = classes
            .selectors
            .iter()
            .copied()
            .filter(|s| names(s, endpoint, doc))
            .collect();
        if named.is_empty() {
            continue;
        }
        for address in &doc.addresses {
            let within = ranges
                .iter()
                .filter(|(net, _)| net.contains(address))
                .map(|(_, s)| *s);
            let class = classes.class(named.iter().copied().chain(within).collect());
            tables.classes.insert(
                abi::ClassKey {
                    vni,
                    addr: bits(*address),
                },
                class,
            );
        }
    }
    pairs(&classes, classifying, network, tables);
}

/// The rules of every pair of classes that came up.
fn pairs(
    classes: &Classes<'_>,
    classifying: &[&CarriedVersion<'_>],
    network: &NetworkRef,
    tables: &mut ChainTables,
) {
    for (from_set, from) in &classes.sets {
        for (to_set, to) in &classes.sets {
            let mut rules = Vec::new();
            for carried in classifying {
                let Some(entry) = stages::entry(carried, &tables.stage_ids) else {
                    continue;
                };
                rules_of(carried.policy, from_set, to_set, entry, &mut rules);
            }
            if rules.is_empty() {
                continue;
            }
            if rules.len() > abi::RULES_MAX {
                let (has, max) = (rules.len(), abi::RULES_MAX);
                tables.problems.push(format!(
                    "network {network}: {has} rules meet between the same two ends, {max} are possible; \
                     all traffic between them that the first {} do not name is dropped: write fewer, \
                     wider port ranges",
                    max - 1
                ));
                close(&mut rules);
                tables
                    .stages
                    .insert(rules[max - 1].stage, abi::Stage::default());
            }
            let mut value = abi::Rules::default();
            for (slot, rule) in value.rules.iter_mut().zip(rules) {
                *slot = rule;
                value.count += 1;
            }
            tables.pairs.insert(
                abi::PairKey {
                    vni: classes.vni,
                    from: *from,
                    to: *to,
                },
                value,
            );
        }
    }
}

/// The stage without instances that drops what no longer fits into a pair.
const CLOSED: u32 = hash::RESERVED;

/// Shortens `rules` to what fits. Traffic that a chain wants must never go around it because a table
/// is full, so the last rule takes everything else and leads nowhere.
fn close(rules: &mut Vec<abi::Rule>) {
    rules.truncate(abi::RULES_MAX - 1);
    rules.push(abi::Rule {
        stage: CLOSED,
        port_hi: u16::MAX,
        ..abi::Rule::default()
    });
}

fn rules_of(
    policy: &Policy,
    from: &BTreeSet<&Selector>,
    to: &BTreeSet<&Selector>,
    (stage, reverse_stage): (u32, u32),
    rules: &mut Vec<abi::Rule>,
) {
    let joined = policy
        .matches
        .iter()
        .filter(|m| from.contains(&m.from) && to.contains(&m.to));
    for traffic in joined.flat_map(|m| &m.traffic) {
        let (port_lo, port_hi) = traffic.ports();
        for proto in traffic.numbers().iter().copied() {
            let rule = abi::Rule {
                stage,
                reverse_stage,
                port_lo,
                port_hi,
                proto,
                pad: [0; 3],
            };
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
}
