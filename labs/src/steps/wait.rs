//! `wait`: a node is ready or lost, a container has a state, or a time passes.

use std::time::{Duration, Instant};

use serde_json::Value;
use weft_overlay::ContainerRef;

use super::{Attempt, until};
use crate::cancel::Cancel;
use crate::engine::{self, Running};
use crate::file::Condition;
use crate::site::Site;

/// How long one question may take.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(5);

/// Waits until it holds or the deadline passes.
pub(super) fn until_holds(
    running: &mut Running,
    condition: &Condition,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    match condition {
        Condition::Time(time) => {
            super::pass(deadline, cancel);
            Ok(format!("{time:?} passed"))
        }
        Condition::Ready(name) => until(deadline, cancel, || {
            let log = running.place.log(name.as_str()).display().to_string();
            let seen = match running.node(name.as_str()) {
                Some(node) => node.weft_json(&["status", "--json"], ASK_WITHIN),
                None => Err("there is no such node".to_owned()),
            };
            judge_ready(name.as_str(), seen.as_deref(), &log)
        }),
        Condition::Lost(name) => until(deadline, cancel, || {
            let seen: Vec<(String, bool)> = running
                .nodes
                .iter()
                .filter(|node| node.name != name.as_str())
                .filter_map(|node| {
                    let said = node.weft_json(&["status", "--json"], ASK_WITHIN).ok()?;
                    Some((node.name.clone(), alive(&said, name.as_str())))
                })
                .collect();
            judge_lost(name.as_str(), &seen)
        }),
        Condition::Container(name, state) => {
            let held = until(deadline, cancel, || {
                let found = ask_any(running, engine::containers);
                let seen = found.as_ref().map_err(Clone::clone).map(|found| {
                    let one = found.iter().find(|c| c.name == name.to_string());
                    one.map(|one| (one.state.clone(), one.message.clone()))
                });
                judge_state(&name.to_string(), state, seen)
            })?;
            refresh(running)?;
            Ok(held)
        }
    }
}

/// The first node that answers: others may have been killed by a step.
pub(super) fn ask_any<T>(
    running: &Running,
    ask: impl Fn(&crate::node::Node) -> Result<T, String>,
) -> Result<T, String> {
    let mut last = "the lab has no node".to_owned();
    for node in &running.nodes {
        match ask(node) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Later steps know the containers as they are now.
fn refresh(running: &mut Running) -> Result<(), String> {
    running.containers = ask_any(running, engine::containers)?;
    Ok(())
}

fn judge_ready(name: &str, said: Result<&[Value], &String>, log: &str) -> Attempt {
    let seen = match said {
        Ok(replies) => {
            let status = replies.iter().find(|reply| reply.get("ready").is_some());
            match status {
                Some(status) if status["ready"] == true => return Ok("ready".to_owned()),
                Some(status) => {
                    let error = status["store_error"].as_str().unwrap_or_default();
                    format!("not ready {} {error}", status["problems"])
                }
                None => "its status says nothing".to_owned(),
            }
        }
        Err(error) => error.clone(),
    };
    Err(format!(
        "expected: node {name} is ready; seen: {}; look at: {log}",
        seen.trim()
    ))
}

fn alive(said: &[Value], name: &str) -> bool {
    said.iter()
        .filter_map(|status| status["nodes"].as_array())
        .flatten()
        .any(|node| node["name"] == name && node["alive"] == true)
}

/// `seen`: who answered, and whether the node is alive to it.
fn judge_lost(name: &str, seen: &[(String, bool)]) -> Attempt {
    let still: Vec<&str> = seen
        .iter()
        .filter(|(_, alive)| *alive)
        .map(|(node, _)| node.as_str())
        .collect();
    let words = match (seen.len(), still.as_slice()) {
        (0, _) => "no other node answers".to_owned(),
        (others, []) => return Ok(format!("lost to {others} nodes")),
        (_, still) => format!("alive to {}", still.join(", ")),
    };
    Err(format!(
        "expected: node {name} is lost to the others; seen: {words}; look at: weft node ls"
    ))
}

fn judge_state(
    name: &str,
    wanted: &str,
    seen: Result<Option<(String, String)>, String>,
) -> Attempt {
    let seen = match seen {
        Ok(Some((state, _))) if state == wanted => return Ok(state),
        Ok(Some((state, message))) if message.is_empty() => state,
        Ok(Some((state, message))) => format!("{state}, {message}"),
        Ok(None) => "nobody has it".to_owned(),
        Err(error) => error,
    };
    Err(format!(
        "expected: container {name} is {wanted}; seen: {seen}; look at: weft ps, weft logs {name}"
    ))
}

/// Removes a container that ended and applies its table again, which starts it.
pub(super) fn start_container(
    running: &mut Running,
    name: &ContainerRef,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let container = running.lab.site.containers.iter().find(|c| &c.name == name);
    let Some(container) = container else {
        return Err(format!(
            "expected: a container {name} in the file; seen: none; look at: {}",
            running.lab.file
        ));
    };
    let alone = Site {
        containers: vec![container.clone()],
        ..Site::default()
    };
    let files = alone.to_files().map_err(|e| e.to_string())?;
    let text = name.to_string();
    let left = || deadline.saturating_duration_since(Instant::now());
    // One that nobody has any more needs no removal; applying tells what stands in the way.
    let _ = ask_any(running, |node| {
        let removed = node.weft(&["rm", &text], left());
        removed.map(|_| ()).map_err(|e| e.to_string())
    });
    until(deadline, cancel, || {
        super::apply::write_and_apply(running, "start", &files, deadline)
    })?;
    let state = Condition::Container(name.clone(), "running".to_owned());
    until_holds(running, &state, deadline, cancel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_ready_by_its_own_word_only() {
        let said = |value: Value| judge_ready("n1", Ok(&[value]), "log");
        assert_eq!(said(json!({"ready": true})), Ok("ready".to_owned()));
        let not = said(json!({"ready": false, "problems": [], "store_error": "no leader"}));
        assert_eq!(
            not.unwrap_err(),
            "expected: node n1 is ready; seen: not ready [] no leader; look at: log"
        );
        let silent = judge_ready("n1", Err(&"no answer".to_owned()), "log");
        assert!(silent.unwrap_err().contains("seen: no answer"));
    }

    #[test]
    fn a_node_is_lost_when_all_that_answer_say_so() {
        let seen = |alive: &[bool]| {
            let seen: Vec<(String, bool)> = alive
                .iter()
                .enumerate()
                .map(|(i, alive)| (format!("n{}", i + 2), *alive))
                .collect();
            judge_lost("n1", &seen)
        };
        assert_eq!(seen(&[false, false]), Ok("lost to 2 nodes".to_owned()));
        assert_eq!(
            seen(&[false, true]).unwrap_err(),
            "expected: node n1 is lost to the others; seen: alive to n3; look at: weft node ls"
        );
        assert!(seen(&[]).unwrap_err().contains("no other node answers"));
    }

    #[test]
    fn a_container_in_another_state_is_told_with_its_reason() {
        let seen = |state: &str, message: &str| {
            judge_state("red/a", "running", Ok(Some((state.into(), message.into()))))
        };
        assert_eq!(seen("running", ""), Ok("running".to_owned()));
        assert_eq!(
            seen("failed", "no image").unwrap_err(),
            "expected: container red/a is running; seen: failed, no image; \
             look at: weft ps, weft logs red/a"
        );
        let none = judge_state("red/a", "running", Ok(None)).unwrap_err();
        assert!(none.contains("seen: nobody has it"), "{none}");
    }
}
