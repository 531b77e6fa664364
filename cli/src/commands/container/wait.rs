//! `weft run` waits for what it asked for: the agent writes a document, a node acts on it, and its status
//! says how that went. Never: asks twice; only looks.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::Value;
use weft_agent::client::AgentClient;
use weft_agent::overlay::ContainerRef;

use crate::fail::Failure;
use crate::output;

/// How long a start may take: longer than an agent needs to come back after a crash.
const WITHIN: Duration = Duration::from_secs(30);
/// How often the status is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Work that takes longer than this shows that it goes on.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a start goes, by the container's document and its status.
#[derive(Debug, PartialEq)]
enum Start {
    /// Not decided yet; what there is of a state.
    Pending(String),
    /// It runs, or ran to its end.
    Done,
    /// It cannot run.
    Failed(String),
}

/// Returns when the container runs, or has run to its end.
pub async fn until_started(agent: &mut AgentClient, name: &ContainerRef) -> Result<(), Failure> {
    let deadline = Instant::now() + WITHIN;
    let begun = Instant::now();
    let mut progress: Option<ProgressBar> = None;
    loop {
        let list = agent.list("container", "", &name.to_string()).await?;
        let start = list.first().map_or_else(
            || Start::Failed("it was removed meanwhile".to_owned()),
            |object| start(&output::object_json(object)),
        );
        match start {
            Start::Done => return Ok(()),
            Start::Failed(why) => {
                return Err(Failure::new(
                    format!("container {name}: {why}"),
                    format!("`weft inspect {name}` shows it, `weft rm {name}` removes it"),
                ));
            }
            Start::Pending(state) if Instant::now() >= deadline => {
                return Err(Failure::new(
                    format!("container {name}: is {state} after {} s", WITHIN.as_secs()),
                    "its node starts it as soon as it can; `weft status` shows the nodes and their problems",
                ));
            }
            Start::Pending(state) => {
                if begun.elapsed() >= PATIENCE {
                    // Draws on standard error, and only on a terminal.
                    let bar = progress.get_or_insert_with(ProgressBar::new_spinner);
                    bar.set_message(format!("container {name} is {state}"));
                    bar.tick();
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn start(container: &Value) -> Start {
    let status = &container["status"];
    // A status of an earlier container of that name says nothing of this one.
    if status.is_null() || status["uid"] != container["spec"]["uid"] {
        return Start::Pending("not taken up by its node".to_owned());
    }
    match status["state"].as_str().unwrap_or_default() {
        "running" | "exited" => Start::Done,
        "failed" => Start::Failed(match status["message"].as_str() {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => "it could not be started".to_owned(),
        }),
        state => Start::Pending(state.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(status: Value) -> Value {
        json!({ "spec": { "uid": "a" }, "status": status })
    }

    #[test]
    fn a_start_is_over_when_its_own_status_says_so() {
        let state = |state: &str| container(json!({ "uid": "a", "state": state }));
        assert_eq!(start(&state("running")), Start::Done);
        assert_eq!(start(&state("exited")), Start::Done);
        assert_eq!(
            start(&state("creating")),
            Start::Pending("creating".to_owned())
        );
        assert!(matches!(start(&container(Value::Null)), Start::Pending(_)));
        let earlier = container(json!({ "uid": "b", "state": "running" }));
        assert!(matches!(start(&earlier), Start::Pending(_)));
        let failed =
            container(json!({ "uid": "a", "state": "failed", "message": "image oci:x: no" }));
        assert_eq!(start(&failed), Start::Failed("image oci:x: no".to_owned()));
    }
}
