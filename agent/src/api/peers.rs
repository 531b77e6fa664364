//! Asking the other nodes' agents.

use std::time::Duration;

use tonic::{Code, Status};
use weft_overlay::NodeName;

use super::fault::fault;
use crate::client::{AgentClient, Target};
use crate::mirror::State;

/// How long another agent may take to answer a short question.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The alive nodes but this one, with the addresses of their APIs.
pub fn others(state: &State, me: &NodeName) -> Vec<(NodeName, String)> {
    state
        .nodes
        .iter()
        .filter(|(name, _)| *name != me && state.is_alive(name))
        .map(|(name, doc)| (name.clone(), doc.value.api.clone()))
        .collect()
}

/// The agent of `node`.
pub async fn connect(state: &State, node: &NodeName) -> Result<AgentClient, Status> {
    let subject = format!("node {node}");
    let Some(doc) = state.nodes.get(node) else {
        return Err(fault(
            Code::NotFound,
            subject,
            "does not exist",
            "`weft node ls` shows the nodes",
        ));
    };
    AgentClient::connect(Target::Tcp(doc.value.api.clone()))
        .await
        .map_err(|e| {
            let text = e.to_string();
            let cause = text.lines().next().unwrap_or_default().to_owned();
            fault(
                Code::Unavailable,
                subject,
                cause,
                "check that the node is up; `weft node ls` shows which are",
            )
        })
}

/// Why another agent did not do what it was asked, in a line.
pub fn cause(status: &Status) -> String {
    let line = status.message().lines().next().unwrap_or_default();
    match status.code() {
        Code::Unimplemented => "its version of weft does not know this question yet".to_owned(),
        code if line.is_empty() => code.description().to_owned(),
        _ => line.to_owned(),
    }
}

/// Asks every other agent at once; problems name those that did not answer in time.
pub async fn ask_all<T: Send + 'static, F>(
    state: &State,
    me: &NodeName,
    ask: impl Fn(AgentClient) -> F,
) -> (Vec<T>, Vec<String>)
where
    F: Future<Output = Result<T, Status>> + Send,
{
    let questions = others(state, me).into_iter().map(|(node, api)| {
        let ask = &ask;
        async move {
            let answer = async {
                let client = AgentClient::connect(Target::Tcp(api))
                    .await
                    .map_err(|e| e.to_string())?;
                ask(client).await.map_err(|e| cause(&e))
            };
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(answer) => {
                    answer.map_err(|e| format!("{node}: {}", e.lines().next().unwrap_or_default()))
                }
                Err(_) => Err(format!("{node}: did not answer within {PATIENCE:?}")),
            }
        }
    });
    let (mut answers, mut problems) = (Vec::new(), Vec::new());
    for answer in futures::future::join_all(questions).await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(problem) => problems.push(problem),
        }
    }
    (answers, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_one_line_and_never_empty() {
        let told = fault(Code::Unavailable, "node n1", "is starting", "wait");
        assert_eq!(cause(&told), "node n1: is starting");
        // As generated servers answer.
        let older = Status::unimplemented("");
        assert!(cause(&older).contains("version"), "{}", cause(&older));
        assert!(!cause(&Status::new(Code::Aborted, "")).is_empty());
    }
}
