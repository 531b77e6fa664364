//! To the agent that `--host` names.

use std::future::Future;

use weft_agent::client::{AgentClient, Target};

use crate::fail::{Done, Failure};

/// Runs a command that talks to an agent.
pub fn with_agent<F>(host: &str, command: impl FnOnce(AgentClient) -> F) -> Done
where
    F: Future<Output = Done>,
{
    let target: Target = host.parse()?;
    block_on(async move { command(AgentClient::connect(target).await?).await })
}

/// Runs a future to its end on a runtime of its own.
pub fn block_on(future: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::new(
                format!("threads: cannot be started: {e}"),
                "see `ulimit -u`",
            )
        })?;
    let done = runtime.block_on(future);
    // A read of standard input may hang in a thread; it is nobody's business any more.
    runtime.shutdown_background();
    done
}
