//! A node of a lab: its carrier, its agent, and commands on it.
//!
//! Owns: how the real binary is asked. Never: links (see `underlay`), steps, or what a node runs on (see `backend`).

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::AnyCarrier;
use crate::cancel::Cancel;
use crate::command::{self, Lines, Output, RunError};

/// A node that is up.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Its place among all nodes that the lab ever had; its addresses follow from it.
    pub(crate) number: usize,
    pub(crate) address: IpAddr,
    pub(crate) carrier: AnyCarrier,
    pub(crate) cancel: Cancel,
}

impl Node {
    /// Runs a program in the node.
    pub(crate) fn run(&self, program: &[&str], within: Duration) -> Result<Output, RunError> {
        let command = self.carrier.command(program);
        command::run(command, Instant::now() + within, &self.cancel)
    }

    /// Runs `weft` in the node.
    pub(crate) fn weft(&self, args: &[&str], within: Duration) -> Result<Output, RunError> {
        self.run(&self.weft_line(args), within)
    }

    /// Starts `weft` in the node and reads its lines.
    pub(crate) fn weft_lines(&self, args: &[&str]) -> Result<Lines, RunError> {
        Lines::start(self.carrier.command(&self.weft_line(args)))
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
        let mut line = vec![self.carrier.weft()];
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
