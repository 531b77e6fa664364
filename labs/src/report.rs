//! What a lab prints: phases and steps with their times, the ladder of one packet, what to try next.
//!
//! Owns: standard output of `weft lab run|up`. With `--json` one object a line, in the order in
//! which things happened.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::engine::Running;
use crate::error::LabError;
use crate::file::{LabFile, Step, StepKind};
use crate::options::Outcome;
use crate::relay::LinkStats;

pub(crate) mod graph;
mod junit;
mod links;

pub(crate) use links::ask as ask_links;

/// One thing that was done, and how long it took.
#[derive(Clone, Debug)]
struct Row {
    title: String,
    took: Duration,
    /// A step's place in its file, from 1.
    number: Option<usize>,
    /// `None`: a phase. `Some(Err)`: why the step does not hold.
    result: Option<Result<String, String>>,
}

/// The report of one run.
#[derive(Debug)]
pub(crate) struct Report {
    lab: String,
    json: bool,
    rows: Vec<Row>,
    /// The ladder as text, or why there is none.
    pub(crate) ladder: Option<Result<String, String>>,
    /// What links did, or why it is not known.
    pub(crate) links: Result<Vec<LinkStats>, String>,
}

impl Report {
    pub(crate) fn new(lab: &LabFile, json: bool) -> Report {
        Report {
            lab: lab.name.clone(),
            json,
            rows: Vec::new(),
            ladder: None,
            links: Ok(Vec::new()),
        }
    }

    /// A phase of bringing up is done.
    pub(crate) fn phase(&mut self, title: &str, took: Duration) {
        self.add(Row {
            title: title.to_owned(),
            took,
            number: None,
            result: None,
        });
    }

    /// A step is done: what was seen, or why it does not hold.
    pub(crate) fn step(&mut self, step: &Step, took: Duration, result: Result<String, String>) {
        self.add(Row {
            title: step.kind.to_string(),
            took,
            number: Some(step.number),
            result: Some(result),
        });
    }

    fn add(&mut self, row: Row) {
        if self.json {
            println!("{}", self.object(&row));
        }
        self.rows.push(row);
    }

    /// `--junit`: all rows as JUnit XML.
    pub(crate) fn write_junit(&self, path: &Path) -> Result<(), LabError> {
        junit::write(path, &self.lab, &self.rows)
    }

    fn object(&self, row: &Row) -> serde_json::Value {
        let ms = row.took.as_secs_f64() * 1000.0;
        match &row.result {
            None => json!({"lab": self.lab, "phase": row.title, "ms": ms}),
            Some(Ok(seen)) => {
                json!({"lab": self.lab, "step": row.title, "number": row.number, "ms": ms,
                       "passed": true, "seen": seen})
            }
            Some(Err(why)) => {
                json!({"lab": self.lab, "step": row.title, "number": row.number, "ms": ms,
                       "passed": false, "why": why})
            }
        }
    }

    /// Everything, after the last step.
    pub(crate) fn print(&self, outcome: &Outcome) {
        if self.json {
            for object in links::objects(&self.lab, self.links.as_deref().unwrap_or_default()) {
                println!("{object}");
            }
            if let Some(Ok(ladder)) = &self.ladder {
                println!("{}", json!({"lab": self.lab, "ladder": ladder}));
            }
            println!(
                "{}",
                json!({"lab": self.lab, "passed": outcome.passed, "failed": outcome.failed,
                       "ms": self.total().as_secs_f64() * 1000.0})
            );
            return;
        }
        print!("{}", self.text(std::io::stdout().is_terminal()));
        match &self.links {
            Ok(links) => links::lines(links)
                .iter()
                .for_each(|line| println!("  {line}")),
            Err(why) => println!("\nNo counts of links: {why}"),
        }
        match &self.ladder {
            Some(Ok(ladder)) => println!("\n{}", ladder.trim_end()),
            Some(Err(why)) => println!("\nNo ladder: {why}"),
            None => {}
        }
        let (passed, all) = (outcome.passed, outcome.passed + outcome.failed);
        println!(
            "\nlab {}: {passed} of {all} steps passed in {:.1} s",
            self.lab,
            self.total().as_secs_f64()
        );
    }

    fn total(&self) -> Duration {
        self.rows.iter().map(|row| row.took).sum()
    }

    fn text(&self, colour: bool) -> String {
        let paint = |text: &str, code: &str| {
            if colour {
                format!("\x1b[{code}m{text}\x1b[0m")
            } else {
                text.to_owned()
            }
        };
        let width = self.rows.iter().map(|row| row.title.chars().count()).max();
        let width = width.unwrap_or(0);
        let mut text = format!("lab {}\n", self.lab);
        for row in &self.rows {
            let mark = match &row.result {
                None => paint("up  ", "2"),
                Some(Ok(_)) => paint("pass", "32"),
                Some(Err(_)) => paint("FAIL", "31"),
            };
            let seen = match &row.result {
                Some(Ok(seen)) => seen.as_str(),
                _ => "",
            };
            let took = row.took.as_secs_f64();
            let line = format!("  {mark}  {:<width$}  {took:>6.2} s  {seen}", row.title);
            let _ = writeln!(text, "{}", line.trim_end());
            if let Some(Err(why)) = &row.result {
                for line in why.lines() {
                    let _ = writeln!(text, "        {line}");
                }
            }
        }
        text
    }

    /// After `weft lab up`.
    pub(crate) fn print_up(&self, running: &Running) {
        if self.json {
            let nodes: Vec<&str> = running.nodes.iter().map(|n| n.name.as_str()).collect();
            println!("{}", json!({"lab": self.lab, "up": true, "nodes": nodes}));
        } else {
            print!("{}", self.text(std::io::stdout().is_terminal()));
        }
    }

    /// Four commands for a lab that stays.
    pub(crate) fn print_next(&self, running: &Running) {
        let commands = next_commands(running);
        if self.json {
            println!("{}", json!({"lab": self.lab, "next": commands}));
            return;
        }
        println!("\nThe lab stays up. Try next:");
        for command in commands {
            println!("    {command}");
        }
    }
}

fn next_commands(running: &Running) -> Vec<String> {
    let lab = &running.lab.name;
    let socket = running.place.socket(&running.nodes[0].name);
    let host = format!("weft --host unix:{}", socket.display());
    let flow = running.lab.steps.iter().find_map(|step| match &step.kind {
        StepKind::Reach {
            from, to, traffic, ..
        } => {
            let address = crate::steps::address_of(running, to)?;
            Some((from.to_string(), to.to_string(), *traffic, address))
        }
        _ => None,
    });
    let mut commands = vec![format!("{host} ps")];
    match flow {
        Some((from, to, traffic, address)) => {
            commands.push(format!(
                "{host} trace live {from} {to} {traffic} --seconds 20    # then, in another terminal:"
            ));
            commands.push(format!(
                "weft lab exec {lab} {from} -- /.weft function probe {traffic} {address}"
            ));
        }
        None => {
            commands.push(format!("{host} status"));
            commands.push(format!("{host} network ls"));
        }
    }
    commands.push(format!("weft lab down {lab}"));
    commands
}

/// `--junit` for a lab that did not come up.
pub(crate) fn write_junit_broken(path: &Path, lab: &str, error: &LabError) -> Result<(), LabError> {
    junit::write_broken(path, lab, error)
}

/// Columns aligned by two spaces.
pub(crate) fn table<const N: usize>(head: &[String; N], rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in std::iter::once(head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
