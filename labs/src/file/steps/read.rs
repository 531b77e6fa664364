//! From the tables to steps, each mistake at its place. The keys are judged by `shape`, what they mean here.

use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use weft_overlay::{ContainerRef, NetworkRef, NodeName};

use super::{Condition, Family, Known, Step, StepKind, Subject, Target, apply};
use crate::diagnose::Mistakes;
use crate::file::lab::duration;
use crate::file::shape;
use crate::site::LoadChain;
use crate::tables::{Value, span_of, text_of, typed};

/// How long a step may take to hold, without `within`.
const WITHIN: Duration = Duration::from_secs(10);
/// What a container's state can be (the agent's own words).
const CONTAINER_STATES: [&str; 4] = ["creating", "running", "exited", "failed"];
/// Kinds of step that name exactly one agent, node or container.
const NAMES_ONE: [&str; 6] = ["run", "kill", "start", "pause", "resume", "wait"];

#[derive(Deserialize)]
struct FlowTable {
    from: ContainerRef,
    to: String,
    family: Option<Family>,
    traffic: String,
    #[serde(default)]
    via: Vec<String>,
    #[serde(default)]
    by: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct WaitTable {
    node: Option<NodeName>,
    container: Option<ContainerRef>,
    state: Option<String>,
    time: Option<String>,
}

#[derive(Deserialize)]
struct ApplyTable {
    file: String,
}

/// Reads the steps and checks what they refer to.
pub(in crate::file) fn read(
    items: &[Value<'_>],
    known: Known,
    load: LoadChain<'_>,
    mistakes: &mut Mistakes,
) -> Vec<Step> {
    let mut reader = Reader {
        known,
        load,
        mistakes,
    };
    items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| reader.one(item, index + 1))
        .collect()
}

mod links;
mod streams;
mod subjects;

struct Reader<'a> {
    known: Known,
    load: LoadChain<'a>,
    mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    fn one(&mut self, item: &Value<'_>, number: usize) -> Option<Step> {
        let table = item.get_ref().as_table()?;
        let known = || shape::STEP_KINDS.iter().chain([&shape::WITHIN]);
        for (key, _) in table.iter() {
            if !known().any(|kind| kind.name == key.get_ref()) {
                let names = known().map(|kind| kind.name);
                shape::unknown(key, names, "step", self.mistakes);
            }
        }
        let mut kinds = shape::STEP_KINDS
            .iter()
            .filter(|kind| table.contains_key(kind.name));
        let (kind, second) = (kinds.next(), kinds.next());
        let (Some(kind), None) = (kind, second) else {
            // A misspelt one was told already.
            if second.is_some() || table.keys().all(|key| key.get_ref() == "within") {
                let names: Vec<&str> = shape::STEP_KINDS.iter().map(|kind| kind.name).collect();
                self.mistakes.add(
                    item.span(),
                    "a step does exactly one thing",
                    "this step",
                    format!("write one of {}", names.join(", ")),
                );
            }
            return None;
        };
        let within = match table.get("within") {
            None => Some(WITHIN),
            Some(value) => {
                shape::check(value, &shape::WITHIN.kind, "step: `within`", self.mistakes)
                    .and_then(|_| duration(text_of(item, "within")?))
            }
        };
        let line = self.mistakes.line_of(item.span().start);
        let given = table.get(kind.name)?;
        let value = shape::check(given, &kind.kind, kind.name, self.mistakes)?;
        // Whose subject is misspelt is not blamed for having none.
        if NAMES_ONE.contains(&kind.name) && keys(&value) < keys(given) {
            return None;
        }
        let kind = self.kind(kind.name, &value)?;
        let mut within = within?;
        if let StepKind::Wait(Condition::Time(time)) = &kind {
            if table.contains_key("within") {
                self.refuse(
                    span_of(item, "within"),
                    "wait: a plain time has no deadline",
                    "remove `within`, or wait for a state",
                );
            }
            within = *time;
        }
        Some(Step {
            kind,
            within,
            line,
            number,
        })
    }

    fn kind(&mut self, kind: &str, value: &Value<'_>) -> Option<StepKind> {
        match kind {
            "reach" | "blocked" | "dropped" => self.flow(kind, value),
            "isolated" => self.isolated(value),
            "link" => self.link(value),
            "capture" => self.capture(value),
            "run" => self.run(value),
            "kill" => self.kill(value),
            "start" => self.start(value),
            "pause" => self.subject(kind, value).map(StepKind::Pause),
            "resume" => self.subject(kind, value).map(StepKind::Resume),
            "wait" => self.wait(value),
            "apply" => self.apply(value),
            "traffic" => self.stream(value),
            // The table of kinds and this list are compared by a test.
            _ => None,
        }
    }

    fn refuse(&mut self, at: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.add(at, message, "this", help.into());
    }

    fn flow(&mut self, kind: &str, value: &Value<'_>) -> Option<StepKind> {
        let table: FlowTable = typed(value, kind, self.mistakes)?;
        let to = self.target(&table.to, table.family, value);
        self.known
            .container(&table.from, value, "from", self.mistakes);
        let by = (kind == "blocked").then_some((&table.by, "by"));
        let hops = table.via.iter().map(|hop| (hop, "via")).chain(by);
        for (hop, key) in hops {
            self.known.hop(hop, value, key, self.mistakes);
        }
        let (from, to, traffic) = (table.from, to?, table.traffic.parse().ok()?);
        Some(match kind {
            "reach" => StepKind::Reach {
                from,
                to,
                traffic,
                via: table.via,
            },
            "blocked" => StepKind::Blocked {
                from,
                to,
                traffic,
                by: table.by,
            },
            _ => StepKind::Dropped {
                from,
                to,
                traffic,
                reason: table.reason,
            },
        })
    }

    fn target(&mut self, text: &str, family: Option<Family>, value: &Value<'_>) -> Option<Target> {
        if let Ok(address) = text.parse() {
            if family.is_some() {
                self.refuse(
                    span_of(value, "family"),
                    format!("step: {address} has its own family"),
                    "remove `family`, or name a container",
                );
            }
            return Some(Target::Address(address));
        }
        let Ok(name) = text.parse() else {
            self.refuse(
                span_of(value, "to"),
                format!("step: {text:?} is neither a container nor an address"),
                "write TENANT/NAME or an address like 10.10.0.7",
            );
            return None;
        };
        self.known.container(&name, value, "to", self.mistakes);
        Some(match family {
            Some(family) => Target::Family(name, family),
            None => Target::Container(name),
        })
    }

    fn isolated(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let networks: [NetworkRef; 2] = typed(value, "isolated", self.mistakes)?;
        let items = value.get_ref().as_array()?;
        for (name, item) in networks.iter().zip(items.iter()) {
            self.known.network(name, item.span(), self.mistakes);
        }
        if networks[0] == networks[1] {
            self.refuse(
                value.span(),
                format!("{} cannot be isolated from itself", networks[0]),
                "name two networks",
            );
        }
        Some(StepKind::Isolated(networks))
    }

    fn wait(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let table: WaitTable = typed(value, "wait", self.mistakes)?;
        if let Some(time) = &table.time {
            if table.node.is_some() || table.container.is_some() || table.state.is_some() {
                self.refuse(
                    span_of(value, "time"),
                    "wait: either a time or a state",
                    "remove `time`: `within` is how long a state may take",
                );
            }
            return duration(time).map(|time| StepKind::Wait(Condition::Time(time)));
        }
        let subject = self.one_of("wait", value, None, table.node, table.container)?;
        let (words, first): (&[&str], _) = match &subject {
            Subject::Container(_) => (&CONTAINER_STATES, "running"),
            _ => (&["ready", "lost"], "ready"),
        };
        let state = table.state.as_deref().unwrap_or(first);
        if !words.contains(&state) {
            self.refuse(
                span_of(value, "state"),
                format!("wait: {state:?} is not a state of it"),
                format!("write one of {}", words.join(", ")),
            );
            return None;
        }
        Some(StepKind::Wait(match subject {
            Subject::Container(name) => Condition::Container(name, state.to_owned()),
            Subject::Node(name) | Subject::Agent(name) if state == "ready" => {
                Condition::Ready(name)
            }
            Subject::Node(name) | Subject::Agent(name) => Condition::Lost(name),
        }))
    }

    fn apply(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let ApplyTable { file } = typed(value, "apply", self.mistakes)?;
        let applied = apply::read(&file, value, self.load, self.mistakes)?;
        self.known.applied(&applied.site);
        Some(StepKind::Apply(applied))
    }
}

/// How many keys a table has.
fn keys(value: &Value<'_>) -> usize {
    value.get_ref().as_table().map_or(0, |table| table.len())
}
