//! `[[hop]]` and its `health`: which keys there are and what they hold.

use weft_overlay::{InterfaceName, NetworkName};

use super::reader::{Node, Reader, Table};
use super::tables::{NAME_HELP, labels};
use super::{HopSpans, Span};
use crate::policy::{Health, Hop, Mode, OnFailure, Probe};

/// The keys of a hop, and of its probes.
pub(super) const HOP: [&str; 6] = [
    "name",
    "select",
    "mode",
    "interfaces",
    "on_failure",
    "health",
];
pub(super) const HEALTH: [&str; 6] = ["tcp", "exec", "http", "path", "interval", "failures"];

pub(super) fn hop(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<(Hop, HopSpans)> {
    let table = reader.table("[[hop]]", node, &HOP)?;
    let mut spans = HopSpans {
        name: node.span(),
        mode: node.span(),
        ..HopSpans::default()
    };
    // A hop's name stands in keys and reports like any other name.
    let name: Option<NetworkName> =
        reader
            .need(&table, "name", "name = \"firewall\"")
            .and_then(|n| {
                spans.name = n.span();
                spans.mode = n.span();
                let text = reader.string("`name`", n)?;
                let read = text.parse().ok();
                if read.is_none() {
                    reader.say(
                        n.span(),
                        format!("hop name {text:?} is not valid"),
                        "not a valid hop name",
                        NAME_HELP,
                    );
                }
                read
            });
    let select = reader
        .need(&table, "select", "select = { role = \"fw\" }")
        .and_then(|n| {
            spans.select = n.span();
            labels("`select`", n, reader)
        });
    let modes = [
        ("inline", Mode::Inline),
        ("routed", Mode::Routed),
        ("tap", Mode::Tap),
    ];
    let mode = match table.get("mode") {
        None => Some(Mode::Inline),
        Some(n) => {
            spans.mode = n.span();
            reader.choice("mode", n, &modes)
        }
    };
    let interfaces = interfaces(&table, mode, reader, &mut spans.interfaces);
    let failures = [("drop", OnFailure::Drop), ("bypass", OnFailure::Bypass)];
    let on_failure = table.get("on_failure").map_or(Some(OnFailure::Drop), |n| {
        reader.choice("on_failure", n, &failures)
    });
    let health = match table.get("health") {
        None => Some(None),
        Some(n) => {
            spans.health = Some(n.span());
            health(n, reader).map(Some)
        }
    };
    let hop = Hop {
        name: name?.to_string(),
        select: select?,
        mode: mode?,
        interfaces: interfaces?,
        on_failure: on_failure?,
        health: health?,
    };
    Some((hop, spans))
}

fn interfaces(
    table: &Table<'_, '_>,
    mode: Option<Mode>,
    reader: &mut Reader<'_>,
    places: &mut Vec<Span>,
) -> Option<Vec<InterfaceName>> {
    let node = reader.need(table, "interfaces", "interfaces = [\"in0\", \"out0\"]")?;
    let entries = reader.list("`interfaces`", node)?;
    let mut names = Vec::new();
    let mut good = true;
    for entry in &entries {
        let help = "use 1 to 15 letters, digits, '-', '_' and '.'";
        let Some(text) = reader.string("interface", entry) else {
            good = false;
            continue;
        };
        let Ok(name) = text.parse() else {
            reader.say(
                entry.span(),
                format!("interface name {text:?} is not valid"),
                "not a valid interface name",
                help,
            );
            good = false;
            continue;
        };
        if names.contains(&name) {
            let message = format!("interface {name} is there twice");
            reader.say(
                entry.span(),
                message,
                "second time",
                "a hop's interfaces are different ones",
            );
            good = false;
        }
        names.push(name);
        places.push(entry.span());
    }
    if let Some(mode) = mode.filter(|mode| entries.len() != mode.arms()) {
        let (name, arms) = (mode.name(), mode.arms());
        let message = format!("{} interfaces for a hop of mode {name}", entries.len());
        let help = match mode {
            Mode::Tap => "name the one that gets the copies: interfaces = [\"mon0\"]",
            _ => {
                "name the one where packets enter and the one where they leave: interfaces = [\"in0\", \"out0\"]"
            }
        };
        reader.say(node.span(), message, format!("{name} needs {arms}"), help);
        good = false;
    }
    good.then_some(names)
}

const PROBES: [&str; 4] = ["tcp", "exec", "http", "path"];

fn health(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Health> {
    let table = reader.table("`health`", node, &HEALTH)?;
    let given: Vec<&str> = PROBES
        .into_iter()
        .filter(|kind| table.get(kind).is_some())
        .collect();
    let probe = match given[..] {
        [kind] => table.get(kind).and_then(|value| probe(kind, value, reader)),
        [] => {
            let help =
                "add tcp = 8080, exec = [\"/bin/check\"], http = \":8080/healthy\" or path = true";
            reader.say(
                node.span(),
                "`health` names no probe",
                "what is to be probed?",
                help,
            );
            None
        }
        [_, second, ..] => {
            let message = format!("`health` probes by {} at once", given.join(" and "));
            reader.say(
                table.key_span(second),
                message,
                "one too many",
                "keep one of tcp, exec, http and path",
            );
            None
        }
    };
    let interval = table
        .get("interval")
        .map_or(Some(1000), |n| interval(n, reader));
    let failures = table
        .get("failures")
        .map_or(Some(3), |n| reader.number("`failures`", n, 1..=1000));
    Some(Health {
        probe: probe?,
        interval_ms: interval?,
        failures: failures?,
    })
}

fn probe(kind: &str, value: &Node<'_>, reader: &mut Reader<'_>) -> Option<Probe> {
    match kind {
        "tcp" => {
            let port = reader.number("port", value, 1..=u32::from(u16::MAX))?;
            u16::try_from(port).ok().map(Probe::Tcp)
        }
        "http" => reader
            .string("`http`", value)
            .map(|text| Probe::Http(text.to_owned())),
        "exec" => {
            let words = reader.list("`exec`", value)?;
            let words: Option<Vec<String>> = words
                .iter()
                .map(|w| reader.string("argument", w).map(str::to_owned))
                .collect();
            let words = words?;
            if words.is_empty() {
                reader.say(
                    value.span(),
                    "`exec` is empty",
                    "no command",
                    "name a command and its arguments",
                );
                return None;
            }
            Some(Probe::Exec(words))
        }
        _ => match reader.boolean("`path`", value)? {
            true => Some(Probe::Path),
            false => {
                reader.say(
                    value.span(),
                    "`path = false` probes nothing",
                    "not true",
                    "remove it",
                );
                None
            }
        },
    }
}

/// `100ms`, `2s`, `1m`, as milliseconds.
fn interval(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<u64> {
    let text = reader.string("`interval`", node)?;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let millis = number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(n, f)| n.checked_mul(f));
    if millis.is_none_or(|millis| !(10..=3_600_000).contains(&millis)) {
        let help = "write 100ms, 2s or 1m; 10ms to 1h";
        reader.say(
            node.span(),
            format!("{text:?} is not an interval"),
            "not an interval",
            help,
        );
        return None;
    }
    millis
}
