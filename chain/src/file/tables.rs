//! The whole file, `[chain]` and `[[match]]`: which keys there are and what they hold.

use std::collections::BTreeMap;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};
use weft_overlay::{NetworkName, NetworkRef, TenantName};

use super::hop::hop;
use super::reader::{Node, Reader, Table};
use super::{FORMAT, MatchSpans, SelectorSpans, Spans};
use crate::policy::{Chain, Hop, Match, Policy, Select, Selector};
use crate::traffic::{self, Traffic};

pub(super) const NAME_HELP: &str = "use 1 to 63 of a-z, 0-9 and '-', not first or last";

/// The keys of the file, and of its tables.
pub(super) const FILE: [&str; 4] = ["format", "chain", "match", "hop"];
pub(super) const CHAIN: [&str; 3] = ["name", "tenant", "symmetric"];
pub(super) const MATCH: [&str; 3] = ["from", "to", "traffic"];
pub(super) const SELECTOR: [&str; 5] = ["network", "labels", "cidr", "endpoint", "external"];

/// The whole file; `None` when something of it is missing (the reader then knows what).
pub(super) fn file(root: &DeTable<'_>, reader: &mut Reader<'_>) -> Option<(Policy, Spans)> {
    let root = reader.entries("the file", root, 0..0, &FILE);
    if let Some(node) = reader.need(&root, "format", "`format = 1` as the first line") {
        let read = reader.number("format", node, 0..=u32::MAX);
        if read.is_some_and(|format| format != FORMAT) {
            let help = format!("this weft reads format {FORMAT}; a newer weft may read yours");
            reader.say(
                node.span(),
                "unknown file format",
                "not read by this version",
                help,
            );
        }
    }
    let mut spans = Spans::default();
    let chain = reader
        .need(&root, "chain", "a table [chain] with name and tenant")
        .and_then(|node| chain(node, reader, &mut spans));
    let tenant = chain.as_ref().map(|c| c.tenant.clone());
    let mut matches = Vec::new();
    for node in tables(
        &root,
        "match",
        "[[match]] with from, to and traffic",
        reader,
    ) {
        if let Some((one, places)) = matching(node, tenant.as_ref(), reader) {
            matches.push(one);
            spans.matches.push(places);
        }
    }
    let mut hops: Vec<Hop> = Vec::new();
    for node in tables(
        &root,
        "hop",
        "[[hop]] with name, select and interfaces",
        reader,
    ) {
        let Some((one, places)) = hop(node, reader) else {
            continue;
        };
        if hops.iter().any(|other| other.name == one.name) {
            let message = format!("hop {:?} is there twice", one.name);
            reader.say(
                places.name.clone(),
                message,
                "second time",
                "give it another name",
            );
        }
        hops.push(one);
        spans.hops.push(places);
    }
    Some((
        Policy {
            chain: chain?,
            matches,
            hops,
        },
        spans,
    ))
}

/// The tables of an array of tables that must have one at least.
fn tables<'t, 'i>(
    root: &Table<'t, 'i>,
    key: &str,
    example: &str,
    reader: &mut Reader<'_>,
) -> Vec<&'t Node<'i>> {
    let Some(node) = reader.need(root, key, &format!("a table {example}")) else {
        return Vec::new();
    };
    if let DeValue::Table(_) = node.get_ref() {
        let message = format!("`{key}` is one table, not a list of tables");
        let help = format!("write [[{key}]] with two brackets");
        reader.say(node.span(), message, "one bracket", help);
        return Vec::new();
    }
    let nodes = reader.list(&format!("`{key}`"), node).unwrap_or_default();
    if nodes.is_empty() && node.get_ref().is_array() {
        reader.say(
            node.span(),
            format!("no `{key}`"),
            "empty",
            format!("add {example}"),
        );
    }
    nodes
}

fn chain(node: &Node<'_>, reader: &mut Reader<'_>, spans: &mut Spans) -> Option<Chain> {
    let table = reader.table("[chain]", node, &CHAIN)?;
    let name = reader
        .need(&table, "name", "name = \"web-guard\"")
        .and_then(|n| reader.parsed("chain name", n, NAME_HELP));
    let tenant = reader
        .need(&table, "tenant", "tenant = \"red\"")
        .and_then(|n| {
            spans.tenant = n.span();
            reader.parsed("tenant name", n, NAME_HELP)
        });
    let symmetric = table
        .get("symmetric")
        .map_or(Some(false), |n| reader.boolean("`symmetric`", n));
    Some(Chain {
        name: name?,
        tenant: tenant?,
        symmetric: symmetric?,
    })
}

fn matching(
    node: &Node<'_>,
    tenant: Option<&TenantName>,
    reader: &mut Reader<'_>,
) -> Option<(Match, MatchSpans)> {
    let table = reader.table("[[match]]", node, &MATCH)?;
    let example = "{ network = \"front\", labels = { role = \"web\" } }";
    let from = reader
        .need(&table, "from", &format!("from = {example}"))
        .and_then(|n| selector("from", n, tenant, reader));
    let to = reader
        .need(&table, "to", &format!("to = {example}"))
        .and_then(|n| selector("to", n, tenant, reader));
    let mut places = Vec::new();
    let mut list = Vec::new();
    let node = reader.need(&table, "traffic", "traffic = [\"tcp/80\"]");
    for entry in node
        .and_then(|n| reader.list("`traffic`", n))
        .unwrap_or_default()
    {
        if let Some(one) = reader.parsed::<Traffic>("traffic", entry, traffic::FORM) {
            if list.contains(&one) {
                reader.say(
                    entry.span(),
                    format!("traffic {one} is there twice"),
                    "second time",
                    "remove it",
                );
            }
            list.push(one);
            places.push(entry.span());
        }
    }
    if let Some(node) = node.filter(|n| n.get_ref().as_array().is_some_and(|a| a.is_empty())) {
        reader.say(
            node.span(),
            "`traffic` is empty",
            "matches nothing",
            traffic::FORM,
        );
    }
    let (from, from_spans) = from?;
    let (to, to_spans) = to?;
    let spans = MatchSpans {
        from: from_spans,
        to: to_spans,
        traffic: places,
    };
    Some((
        Match {
            from,
            to,
            traffic: list,
        },
        spans,
    ))
}

const KINDS: [&str; 4] = ["labels", "cidr", "endpoint", "external"];

fn selector(
    what: &str,
    node: &Node<'_>,
    tenant: Option<&TenantName>,
    reader: &mut Reader<'_>,
) -> Option<(Selector, SelectorSpans)> {
    let table = reader.table(&format!("`{what}`"), node, &SELECTOR)?;
    let given: Vec<&str> = KINDS
        .into_iter()
        .filter(|kind| table.get(kind).is_some())
        .collect();
    let mut spans = SelectorSpans {
        whole: node.span(),
        network: node.span(),
        select: node.span(),
    };
    if let [_, second, ..] = given[..] {
        let message = format!("`{what}` selects by {} at once", given.join(" and "));
        let help = "keep one of labels, cidr, endpoint and external";
        reader.say(table.key_span(second), message, "one too many", help);
        return None;
    }
    let select = match given.first() {
        None => Some(Select::Labels(BTreeMap::new())),
        Some(kind) => {
            let value = table.get(kind)?;
            spans.select = value.span();
            kind_of(kind, value, reader)
        }
    };
    if select == Some(Select::External) {
        if table.get("network").is_some() {
            let span = table.key_span("network");
            reader.say(
                span,
                "`external` is outside of every network",
                "no network here",
                "remove one of the two",
            );
        }
        return Some((
            Selector {
                network: None,
                select: Select::External,
            },
            spans,
        ));
    }
    let node = reader.need(&table, "network", "network = \"front\"")?;
    spans.network = node.span();
    let network = network(node, tenant, reader);
    Some((
        Selector {
            network: Some(network?),
            select: select?,
        },
        spans,
    ))
}

fn kind_of(kind: &str, value: &Node<'_>, reader: &mut Reader<'_>) -> Option<Select> {
    match kind {
        "labels" => labels("`labels`", value, reader).map(Select::Labels),
        "cidr" => {
            let help = "write it as 10.10.4.0/24 or fd00:10::/64";
            let text = reader.string("`cidr`", value)?;
            let Ok(net) = text.parse::<IpNet>() else {
                reader.say(
                    value.span(),
                    format!("{text:?} is not a CIDR"),
                    "not a CIDR",
                    help,
                );
                return None;
            };
            if net.trunc() != net {
                let message = format!("{net} has bits beyond its prefix");
                reader.say(
                    value.span(),
                    message,
                    "not a range's first address",
                    format!("write {}", net.trunc()),
                );
                return None;
            }
            Some(Select::Cidr(net))
        }
        "endpoint" => reader
            .parsed("endpoint name", value, NAME_HELP)
            .map(Select::Endpoint),
        _ => match reader.boolean("`external`", value)? {
            true => Some(Select::External),
            false => {
                reader.say(
                    value.span(),
                    "`external = false` selects nothing",
                    "not true",
                    "remove it",
                );
                None
            }
        },
    }
}

/// A network's name, alone or with the chain's own tenant before it.
fn network(
    node: &Node<'_>,
    tenant: Option<&TenantName>,
    reader: &mut Reader<'_>,
) -> Option<NetworkName> {
    let text = reader.string("`network`", node)?;
    if !text.contains('/') {
        return reader.parsed("network name", node, NAME_HELP);
    }
    let whole: NetworkRef = reader.parsed("network", node, "write it as front, or as red/front")?;
    match tenant {
        Some(tenant) if *tenant != whole.tenant => {
            let message = format!("network {whole} is another tenant's: the chain is {tenant}'s");
            let help = "a chain selects in networks of its own tenant only";
            reader.say(node.span(), message, "another tenant", help);
            None
        }
        _ => Some(whole.network),
    }
}

pub(super) fn labels(
    what: &str,
    node: &Node<'_>,
    reader: &mut Reader<'_>,
) -> Option<BTreeMap<String, String>> {
    let table = reader.table(what, node, &[])?;
    let mut labels = BTreeMap::new();
    let mut good = true;
    for (key, _, value) in table.entries() {
        match reader.string(&format!("label `{key}`"), value) {
            Some(text) => drop(labels.insert(key.to_owned(), text.to_owned())),
            None => good = false,
        }
    }
    if labels.is_empty() && good {
        let help = "write { role = \"web\" }";
        reader.say(node.span(), format!("{what} names no label"), "empty", help);
        good = false;
    }
    good.then_some(labels)
}
