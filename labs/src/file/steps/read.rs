//! From the tables to steps, each mistake at its place.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use weft_overlay::{ContainerRef, NetworkRef, NodeName};

use super::known::Known;
use super::{LinkState, Step, StepKind, Target};
use crate::diagnose::{Mistakes, nearest};
use crate::file::lab::{DURATION_HELP, duration};
use crate::file::{Link, Probe, nodes};
use crate::site::Site;
use crate::tables::{Value, items_of, span_of, text_of, typed};

/// How long a step may take to hold, without `within`.
const WITHIN: Duration = Duration::from_secs(10);
/// The keys that say what a step does; each step has exactly one.
const KINDS: [&str; 6] = ["reach", "blocked", "dropped", "isolated", "link", "run"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowTable {
    from: ContainerRef,
    to: String,
    traffic: String,
    via: Option<Vec<String>>,
    by: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkTable {
    between: [NodeName; 2],
    state: LinkState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunTable {
    node: NodeName,
    command: Vec<String>,
}

/// Reads the steps and checks what they refer to.
pub(in crate::file) fn read(
    items: Vec<Value<'_>>,
    site: &Site,
    nodes: &[NodeName],
    links: &[Link],
    mistakes: &mut Mistakes,
) -> Vec<Step> {
    let known = Known { site, nodes, links };
    items
        .iter()
        .filter_map(|item| one(item, Some(&known), mistakes))
        .collect()
}

/// Reads the steps of a file whose other tables have mistakes: references are not judged.
pub(in crate::file) fn read_alone(items: Vec<Value<'_>>, mistakes: &mut Mistakes) -> Vec<Step> {
    items
        .iter()
        .filter_map(|item| one(item, None, mistakes))
        .collect()
}

fn one(item: &Value<'_>, known: Option<&Known<'_>>, mistakes: &mut Mistakes) -> Option<Step> {
    let table = item.get_ref().as_table()?;
    for (key, _) in table.iter() {
        let name: &str = key.get_ref();
        if name != "within" && !KINDS.contains(&name) {
            let help = match nearest(name, KINDS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("a step is one of {}, with `within`", KINDS.join(", ")),
            };
            mistakes.add(
                key.span(),
                format!("step: unknown key `{name}`"),
                "not known here",
                help,
            );
        }
    }
    let mut kinds = KINDS.into_iter().filter(|kind| table.contains_key(*kind));
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        mistakes.add(
            item.span(),
            "a step does exactly one thing",
            "this step",
            format!("write one of {}", KINDS.join(", ")),
        );
        return None;
    };
    let within = match text_of(item, "within") {
        None if table.contains_key("within") => bad_duration(item, mistakes)?,
        None => WITHIN,
        Some(text) => duration(text).or_else(|| bad_duration(item, mistakes))?,
    };
    let line = mistakes.line_of(item.span().start);
    let value = table.get(kind)?;
    let kind = match kind {
        "reach" | "blocked" | "dropped" => flow(kind, value, known, mistakes)?,
        "isolated" => isolated(value, known, mistakes)?,
        "link" => link(value, known, mistakes)?,
        _ => run(value, known, mistakes)?,
    };
    Some(Step { kind, within, line })
}

fn bad_duration<T>(item: &Value<'_>, mistakes: &mut Mistakes) -> Option<T> {
    let at = span_of(item, "within");
    mistakes.add(
        at,
        "step: `within` is not a duration",
        "this",
        DURATION_HELP.to_owned(),
    );
    None
}

fn flow(
    kind: &str,
    value: &Value<'_>,
    known: Option<&Known<'_>>,
    mistakes: &mut Mistakes,
) -> Option<StepKind> {
    let table: FlowTable = step_table(value, kind, mistakes)?;
    let allowed = match kind {
        "reach" => "via",
        "blocked" => "by",
        _ => "reason",
    };
    let given = [
        ("via", table.via.is_some()),
        ("by", table.by.is_some()),
        ("reason", table.reason.is_some()),
    ];
    for (key, _) in given
        .iter()
        .filter(|(key, given)| *given && *key != allowed)
    {
        mistakes.add(
            span_of(value, key),
            format!("{kind}: unknown key `{key}`"),
            "not known here",
            format!("`{kind}` takes from, to, traffic and {allowed}"),
        );
    }
    let traffic = table.traffic.parse::<Probe>().map_err(|message| {
        mistakes.add(
            span_of(value, "traffic"),
            format!("{kind}: {message}"),
            "this traffic",
            "write tcp/80, udp/53 or icmp".to_owned(),
        );
    });
    let to = target(&table.to, value, mistakes);
    if let Some(known) = known {
        known.container(&table.from, value, "from", mistakes);
        if let Some(Target::Container(name)) = &to {
            known.container(name, value, "to", mistakes);
        }
        let hops = table.via.iter().flatten().chain(&table.by);
        hops.for_each(|hop| known.hop(hop, value, allowed, mistakes));
    }
    let (from, to, traffic) = (table.from, to?, traffic.ok()?);
    match kind {
        "reach" => {
            let via = table.via.unwrap_or_default();
            Some(StepKind::Reach {
                from,
                to,
                traffic,
                via,
            })
        }
        "blocked" => {
            let by = required(table.by, "by", value, mistakes)?;
            Some(StepKind::Blocked {
                from,
                to,
                traffic,
                by,
            })
        }
        _ => {
            let reason = required(table.reason, "reason", value, mistakes)?;
            Some(StepKind::Dropped {
                from,
                to,
                traffic,
                reason,
            })
        }
    }
}

fn step_table<T: DeserializeOwned>(
    value: &Value<'_>,
    kind: &str,
    mistakes: &mut Mistakes,
) -> Option<T> {
    typed(value, kind, mistakes)
}

fn required(
    given: Option<String>,
    key: &str,
    value: &Value<'_>,
    mistakes: &mut Mistakes,
) -> Option<String> {
    if given.is_none() {
        let message = format!("step: `{key}` is missing");
        mistakes.add(
            value.span(),
            message,
            "here",
            format!("add the key `{key}`"),
        );
    }
    given
}

fn target(text: &str, value: &Value<'_>, mistakes: &mut Mistakes) -> Option<Target> {
    if let Ok(address) = text.parse() {
        return Some(Target::Address(address));
    }
    match text.parse() {
        Ok(name) => Some(Target::Container(name)),
        Err(_) => {
            mistakes.add(
                span_of(value, "to"),
                format!("step: {text:?} is neither a container nor an address"),
                "this target",
                "write TENANT/NAME or an address like 10.10.0.7".to_owned(),
            );
            None
        }
    }
}

fn isolated(
    value: &Value<'_>,
    known: Option<&Known<'_>>,
    mistakes: &mut Mistakes,
) -> Option<StepKind> {
    let networks: [NetworkRef; 2] = step_table(value, "isolated", mistakes)?;
    let places: Vec<_> = value
        .get_ref()
        .as_array()
        .map(|items| items.iter().map(|item| item.span()).collect())
        .unwrap_or_default();
    for (name, at) in networks.iter().zip(places) {
        if let Some(known) = known {
            known.network(name, at, mistakes);
        }
    }
    if networks[0] == networks[1] {
        mistakes.add(
            value.span(),
            format!("{} cannot be isolated from itself", networks[0]),
            "the same network twice",
            "name two networks".to_owned(),
        );
    }
    Some(StepKind::Isolated(networks))
}

fn link(value: &Value<'_>, known: Option<&Known<'_>>, mistakes: &mut Mistakes) -> Option<StepKind> {
    let LinkTable { between, state } = step_table(value, "link", mistakes)?;
    if let Some(known) = known {
        for (name, item) in between.iter().zip(items_of(value, "between")) {
            if !known.nodes.contains(name) {
                nodes::unknown(name.as_str(), item.span(), known.nodes, mistakes);
            }
        }
        let [a, b] = &between;
        if !known.links.iter().any(|link| link.joins(a, b)) {
            mistakes.add(
                span_of(value, "between"),
                format!("there is no link between {a} and {b}"),
                "not joined",
                format!("add [[link]] with between = [\"{a}\", \"{b}\"]"),
            );
        }
    }
    Some(StepKind::Link { between, state })
}

fn run(value: &Value<'_>, known: Option<&Known<'_>>, mistakes: &mut Mistakes) -> Option<StepKind> {
    let RunTable { node, command } = step_table(value, "run", mistakes)?;
    if let Some(known) = known
        && !known.nodes.contains(&node)
    {
        nodes::unknown(node.as_str(), span_of(value, "node"), known.nodes, mistakes);
    }
    if command.is_empty() {
        mistakes.add(
            span_of(value, "command"),
            "run: the command is empty",
            "nothing to run",
            "write the program and its arguments".to_owned(),
        );
    }
    Some(StepKind::Run { node, command })
}
