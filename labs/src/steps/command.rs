//! `run`: a command on a node ends with 0. For what no other step asserts.

use std::time::Instant;

use weft_overlay::NodeName;

use super::{Attempt, until};
use crate::cancel::Cancel;
use crate::engine::Running;

pub(super) fn run(
    running: &Running,
    node: &NodeName,
    command: &[String],
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let Some(node) = running.node(node.as_str()) else {
        return Err(format!("expected: a node {node}; seen: none"));
    };
    let line: Vec<&str> = command.iter().map(String::as_str).collect();
    until(deadline, cancel, || {
        let left = deadline.saturating_duration_since(Instant::now());
        let output = node.run(&line, left).map_err(|e| e.to_string())?;
        if output.status.success() {
            return Ok(output.stdout.lines().next().unwrap_or_default().to_owned());
        }
        Err(format!(
            "expected: `{}` on {} ends with 0; seen: {}, {}; look at: {}",
            command.join(" "),
            node.name,
            output.status,
            output.words(),
            running.place.log(&node.name).display()
        ))
    })
}
