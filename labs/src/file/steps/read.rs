//! From the tables to steps, each mistake at its place. The keys are judged by `shape`, what they mean here.

use std::ops::Range;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use weft_overlay::{ContainerRef, NetworkRef, NodeName};

use super::{
    Capture, Condition, Family, Known, LinkChange, LinkState, Machine, Step, StepKind, Stream,
    Subject, Target, apply,
};
use crate::diagnose::Mistakes;
use crate::file::lab::duration;
use crate::file::links::words;
use crate::file::{Changes, Probe, shape};
use crate::site::LoadChain;
use crate::tables::{Value, items_of, span_of, text_of, typed};

/// How long a step may take to hold, without `within`.
const WITHIN: Duration = Duration::from_secs(10);
/// Datagrams a second of a stream, without `rate`: a gap is then told to 10 ms.
const RATE: u32 = 100;
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
struct LinkTable {
    between: Vec<NodeName>,
    state: Option<LinkState>,
    from: Option<NodeName>,
}

#[derive(Deserialize)]
struct CaptureTable {
    link: Vec<NodeName>,
    filter: String,
    present: Option<bool>,
    to: Option<NodeName>,
}

#[derive(Deserialize)]
struct RunTable {
    node: Option<NodeName>,
    container: Option<ContainerRef>,
    command: Vec<String>,
    #[serde(default)]
    exit: i32,
    text: Option<String>,
}

#[derive(Deserialize)]
struct SubjectTable {
    agent: Option<NodeName>,
    node: Option<NodeName>,
    container: Option<ContainerRef>,
    signal: Option<String>,
    #[serde(default)]
    power: bool,
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

#[derive(Deserialize)]
struct StreamTable {
    name: String,
    from: Option<ContainerRef>,
    to: Option<String>,
    family: Option<Family>,
    traffic: Option<String>,
    rate: Option<u32>,
    duration: Option<String>,
    lost: Option<u64>,
    gap: Option<String>,
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

    fn link(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let LinkTable {
            between,
            state,
            from,
        } = typed(value, "link", self.mistakes)?;
        let changes = Changes::read(value, "link", self.mistakes)?;
        self.link_of(&between, value, "between");
        if let Some(node) = &from
            && !between.contains(node)
        {
            self.refuse(
                span_of(value, "from"),
                format!("link: {node} is not at it"),
                format!("it joins {}", words(&between)),
            );
        }
        if changes.is_empty() && (state.is_none() || from.is_some()) {
            self.refuse(
                value.span(),
                "link: nothing to change",
                "write state = \"down\", cut = true, delay = \"5ms\", loss = \"1%\" or the like",
            );
            return None;
        }
        // Jitter and reorder depend on a delay that the file or an earlier step has said.
        let mut told = false;
        for way in self.known.ways(&between, from.as_ref()) {
            // What is wrong before this step was told at its own place.
            let faulty = changes.on(way).fault().is_some() && way.fault().is_none();
            if faulty && !told {
                changes.judged_on(way, value, "link", self.mistakes);
            }
            told |= faulty;
            if !faulty {
                *way = changes.on(way);
            }
        }
        let change = LinkChange {
            state,
            from,
            changes,
        };
        Some(StepKind::Link { between, change })
    }

    fn capture(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let table: CaptureTable = typed(value, "capture", self.mistakes)?;
        self.link_of(&table.link, value, "link");
        if let Some(node) = &table.to
            && !table.link.contains(node)
        {
            self.refuse(
                span_of(value, "to"),
                format!("capture: {node} is not at the link"),
                format!("it joins {}", words(&table.link)),
            );
        }
        Some(StepKind::Capture(Capture {
            link: table.link,
            filter: table.filter.parse().ok()?,
            present: table.present.unwrap_or(true),
            to: table.to,
        }))
    }

    /// The nodes of a step must be those of a link.
    fn link_of(&mut self, between: &[NodeName], value: &Value<'_>, key: &str) {
        for (name, item) in between.iter().zip(items_of(value, key)) {
            self.known.node(name, item.span(), self.mistakes);
        }
        if !self.known.joined(between) {
            let names: Vec<String> = between.iter().map(|name| format!("\"{name}\"")).collect();
            self.refuse(
                span_of(value, key),
                format!("there is no link between {}", words(between)),
                format!("add [[link]] with between = [{}]", names.join(", ")),
            );
        }
    }

    fn run(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let table: RunTable = typed(value, "run", self.mistakes)?;
        let subject = self.one_of("run", value, None, table.node, table.container)?;
        if table.command.is_empty() {
            self.refuse(
                span_of(value, "command"),
                "run: the command is empty",
                "write the program and its arguments",
            );
        }
        let on = match subject {
            Subject::Node(name) | Subject::Agent(name) => Machine::Node(name),
            Subject::Container(name) => Machine::Container(name),
        };
        Some(StepKind::Run {
            on,
            command: table.command,
            exit: table.exit,
            text: table.text,
        })
    }

    fn kill(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let signal = text_of(value, "signal");
        let what = self.subject("kill", value)?;
        let power = value
            .get_ref()
            .as_table()
            .and_then(|table| table.get("power"))
            .and_then(|power| power.get_ref().as_bool());
        let power = power == Some(true);
        if power {
            self.needs_disk(&what, value, "power")?;
        }
        if signal.is_some() && matches!(what, Subject::Node(_)) {
            self.refuse(
                span_of(value, "signal"),
                "kill: a node gets no signal, it ends with all that runs on it",
                "remove `signal`, or name its `agent`",
            );
        }
        // The shape has the names.
        let signal = signal.and_then(|name| format!("SIG{name}").parse().ok());
        let signal = signal.unwrap_or(Signal::SIGKILL);
        Some(StepKind::Kill {
            what,
            signal,
            power,
        })
    }

    fn start(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let what = self.subject("start", value)?;
        if matches!(what, Subject::Node(_)) {
            self.needs_disk(&what, value, "node")?;
        }
        Some(StepKind::Start(what))
    }

    /// Only a machine with a disk comes back, and has power to lose.
    fn needs_disk(&mut self, what: &Subject, value: &Value<'_>, key: &str) -> Option<()> {
        if matches!(what, Subject::Node(name) if self.known.has_disk(name)) {
            return Some(());
        }
        self.refuse(
            span_of(value, key),
            format!("{what} is no virtual machine with a disk"),
            "name a `node` that has a `disk`, and run the lab with --backend qemu",
        );
        None
    }

    fn subject(&mut self, kind: &str, value: &Value<'_>) -> Option<Subject> {
        let table: SubjectTable = typed(value, kind, self.mistakes)?;
        // Only judged here, so that a bad one is told.
        let _ = (table.signal, table.power);
        self.one_of(kind, value, table.agent, table.node, table.container)
    }

    /// Exactly one of these, which must be in the file.
    fn one_of(
        &mut self,
        kind: &str,
        value: &Value<'_>,
        agent: Option<NodeName>,
        node: Option<NodeName>,
        container: Option<ContainerRef>,
    ) -> Option<Subject> {
        let given = [agent.is_some(), node.is_some(), container.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let keys = match kind {
                "run" | "wait" => "`node` or `container`",
                _ => "`agent`, `node` or `container`",
            };
            self.refuse(
                value.span(),
                format!("{kind}: one of {keys} is expected"),
                format!("name exactly one: {keys}"),
            );
            return None;
        }
        if let Some(name) = &agent {
            self.known
                .node(name, span_of(value, "agent"), self.mistakes);
        }
        if let Some(name) = &node {
            self.known.node(name, span_of(value, "node"), self.mistakes);
        }
        if let Some(name) = &container {
            self.known
                .container(name, value, "container", self.mistakes);
        }
        let subject = agent.map(Subject::Agent).or(node.map(Subject::Node));
        subject.or(container.map(Subject::Container))
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

    fn stream(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let table: StreamTable = typed(value, "traffic", self.mistakes)?;
        let begins = table.from.is_some();
        let begin = [
            ("from", table.from.is_some()),
            ("to", table.to.is_some()),
            ("traffic", table.traffic.is_some()),
            ("duration", table.duration.is_some()),
            ("rate", table.rate.is_some()),
            ("family", table.family.is_some()),
        ];
        let judge = [("lost", table.lost.is_some()), ("gap", table.gap.is_some())];
        let mut good = true;
        if begins {
            for (key, given) in &begin[..4] {
                if !given {
                    good = false;
                    self.refuse(
                        value.span(),
                        format!("traffic: `{key}` is missing"),
                        format!("add the key `{key}`: a stream that begins needs it"),
                    );
                }
            }
        }
        let strange: &[(&str, bool)] = if begins { &judge } else { &begin };
        for (key, _) in strange.iter().filter(|(_, given)| *given) {
            good = false;
            self.refuse(
                span_of(value, key),
                format!("traffic: `{key}` does not belong here"),
                "one step begins a stream with `from`, a later one judges it by `lost` and `gap`",
            );
        }
        if !begins && !judge.iter().any(|(_, given)| *given) {
            good = false;
            self.refuse(
                value.span(),
                "traffic: nothing to begin and nothing to judge",
                "begin with from, to, traffic and duration; judge with lost or gap",
            );
        }
        if !begins {
            self.known.stream(&table.name, value, self.mistakes);
            return good.then_some(StepKind::Judge {
                name: table.name,
                lost: table.lost,
                gap: table.gap.as_deref().and_then(duration),
            });
        }
        if self.known.streams.contains(&table.name) {
            self.refuse(
                span_of(value, "name"),
                format!("traffic: stream {} begins twice", table.name),
                "give it another name",
            );
        }
        self.known.streams.push(table.name.clone());
        let from = table.from?;
        self.known.container(&from, value, "from", self.mistakes);
        let to = table
            .to
            .and_then(|to| self.target(&to, table.family, value));
        let traffic = table.traffic?.parse().ok()?;
        if !matches!(traffic, Probe::Udp(_)) {
            self.refuse(
                span_of(value, "traffic"),
                "traffic: a stream is of datagrams",
                "write udp/PORT",
            );
        }
        Some(StepKind::Stream(Stream {
            name: table.name,
            from,
            to: to?,
            traffic,
            rate: table.rate.unwrap_or(RATE),
            duration: table.duration.as_deref().and_then(duration)?,
        }))
    }
}

/// How many keys a table has.
fn keys(value: &Value<'_>) -> usize {
    value.get_ref().as_table().map_or(0, |table| table.len())
}
