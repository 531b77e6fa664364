//! `run`, `kill`, `start`, `pause`, `resume`: steps on one agent, node or container.

use nix::sys::signal::Signal;
use serde::Deserialize;
use weft_overlay::{ContainerRef, NodeName};

use super::Reader;
use crate::file::steps::{Machine, StepKind, Subject};
use crate::tables::{Value, span_of, text_of, typed};

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

impl Reader<'_> {
    pub(super) fn run(&mut self, value: &Value<'_>) -> Option<StepKind> {
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

    pub(super) fn kill(&mut self, value: &Value<'_>) -> Option<StepKind> {
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

    pub(super) fn start(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let what = self.subject("start", value)?;
        if matches!(what, Subject::Node(_)) {
            self.needs_disk(&what, value, "node")?;
        }
        Some(StepKind::Start(what))
    }

    /// Only a machine with a disk comes back, and has power to lose.
    pub(super) fn needs_disk(
        &mut self,
        what: &Subject,
        value: &Value<'_>,
        key: &str,
    ) -> Option<()> {
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

    pub(super) fn subject(&mut self, kind: &str, value: &Value<'_>) -> Option<Subject> {
        let table: SubjectTable = typed(value, kind, self.mistakes)?;
        // Only judged here, so that a bad one is told.
        let _ = (table.signal, table.power);
        self.one_of(kind, value, table.agent, table.node, table.container)
    }

    /// Exactly one of these, which must be in the file.
    pub(super) fn one_of(
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
}
