//! A node of a lab: its holder, its agent, and commands inside it.
//!
//! Owns: how the real binary is started and asked. Never: links (see `underlay`), steps.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cancel::Cancel;
use crate::command::{self, Lines, Output, RunError};
use crate::error::LabError;
use crate::processes::Process;
use crate::{enter, holder};

/// How long a holder may take to be ready: a few system calls, on a busy machine.
const HOLDER_READY: Duration = Duration::from_secs(10);

/// How nodes and commands in them are started.
#[derive(Clone, Debug)]
pub(crate) struct Starter {
    pub(crate) exe: PathBuf,
    /// The lab's random id, on the command line of every process of the engine's making.
    pub(crate) id: String,
    pub(crate) cancel: Cancel,
}

/// A node that is up.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) holder: Process,
    pub(crate) starter: Starter,
}

impl Starter {
    /// Starts a holder; ready when this returns.
    pub(crate) fn holder(&self, node: &str) -> Result<Process, LabError> {
        let failed = |cause: String| {
            LabError::failed(
                format!("node {node}"),
                cause,
                "`weft doctor` shows what this machine lacks",
            )
        };
        let mut command = Command::new(&self.exe);
        command.args([holder::WORD, &self.id, node]);
        let mut lines = Lines::start(command).map_err(|e| failed(e.to_string()))?;
        let deadline = Instant::now() + HOLDER_READY;
        // Two processes write here: the number and `ready` come in any order.
        let (mut pid, mut ready) = (None, false);
        while let Some(line) = lines.next(deadline) {
            match line.parse() {
                Ok(number) => pid = Some(number),
                Err(_) if line == "ready" => ready = true,
                Err(_) => {
                    let cause = line.strip_prefix("error: ").unwrap_or(&line);
                    return Err(failed(cause.to_owned()));
                }
            }
            if let (Some(pid), true) = (pid, ready) {
                // The launcher ends by itself; ended by us it would take the holder along.
                lines.leave();
                return Process::of(pid)
                    .ok_or_else(|| failed("the holder ended at once".to_owned()));
            }
        }
        Err(failed(format!(
            "the holder did not get ready: {}",
            lines.finish().trim()
        )))
    }

    /// A command inside the namespaces of a holder, sharing our standard streams.
    pub(crate) fn inside(&self, holder: Process, program: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        command
            .args([
                enter::WORD,
                &self.id,
                &holder.pid.to_string(),
                "attach",
                "--",
            ])
            .args(program);
        command
    }
}

impl Node {
    /// Starts `weft` with these arguments in the background; its output goes to `log`.
    pub(crate) fn spawn(&self, args: &[String], log: &Path) -> Result<Process, LabError> {
        let failed = |cause: String| {
            LabError::failed(
                format!("node {}", self.name),
                format!("its agent cannot be started: {cause}"),
                format!("see {}", log.display()),
            )
        };
        let mut command = Command::new(&self.starter.exe);
        command
            .args([
                enter::WORD,
                &self.starter.id,
                &self.holder.pid.to_string(),
                &log.to_string_lossy(),
                "--",
            ])
            .arg(&self.starter.exe)
            .args(args)
            .stdin(Stdio::null());
        let deadline = Instant::now() + HOLDER_READY;
        let output = command::run(command, deadline, &self.starter.cancel)
            .map_err(|e| failed(e.to_string()))?;
        output
            .stdout
            .trim()
            .parse()
            .ok()
            .and_then(Process::of)
            .ok_or_else(|| failed(output.words()))
    }

    /// Runs a program in the node.
    pub(crate) fn run(&self, program: &[&str], within: Duration) -> Result<Output, RunError> {
        let command = self.starter.inside(self.holder, program);
        command::run(command, Instant::now() + within, &self.starter.cancel)
    }

    /// Runs `weft` in the node.
    pub(crate) fn weft(&self, args: &[&str], within: Duration) -> Result<Output, RunError> {
        self.run(&self.weft_line(args), within)
    }

    /// Starts `weft` in the node and reads its lines.
    pub(crate) fn weft_lines(&self, args: &[&str]) -> Result<Lines, RunError> {
        Lines::start(self.starter.inside(self.holder, &self.weft_line(args)))
    }

    /// Runs `weft` in the node and reads the JSON objects it prints, one a line.
    pub(crate) fn weft_json(&self, args: &[&str], within: Duration) -> Result<Vec<Value>, String> {
        let what = format!("`weft {}` on {}", args.join(" "), self.name);
        let output = self
            .weft(args, within)
            .map_err(|e| format!("{what}: {e}"))?;
        if !output.status.success() {
            return Err(format!("{what}: {}", output.words()));
        }
        objects(&output.stdout).map_err(|e| format!("{what}: {e}"))
    }

    fn weft_line<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let mut line = vec![self.starter.exe.to_str().unwrap_or("weft")];
        line.extend(args);
        line
    }
}

/// JSON objects one after the other, or in one array.
fn objects(text: &str) -> Result<Vec<Value>, String> {
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.map_err(|e| format!("not JSON: {e}"))? {
            Value::Array(items) => found.extend(items),
            one => found.push(one),
        }
    }
    Ok(found)
}

/// The last lines of a log, for a person.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
