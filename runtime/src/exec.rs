//! A command that runs beside a container's own: its streams and its end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::net::unix::pipe;

use crate::error::Error;

/// A command that was started in a container. Dropping `exit` ends the command.
pub struct ExecHandle {
    /// Its standard input; dropping it is the end of the input.
    pub stdin: pipe::Sender,
    /// Its standard output.
    pub stdout: pipe::Receiver,
    /// Its standard error.
    pub stderr: pipe::Receiver,
    /// Its exit code, or 128 + signal.
    pub exit: ExecExit,
}

/// Resolves when the command has ended.
pub struct ExecExit(pub(crate) Pin<Box<dyn Future<Output = Result<i32, Error>> + Send>>);

impl Future for ExecExit {
    type Output = Result<i32, Error>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}
