//! A command that runs beside a container's own: its streams and its end.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::AsyncBufReadExt;
use tokio::net::unix::pipe;

use crate::client::{Client, PATIENCE};
use crate::error::Error;
use crate::protocol::{Reply, Verb};
use crate::runtime::{Runtime, failed, reply_status, silent};

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

impl Runtime {
    /// Runs a command beside the container's own, with the container's environment, powers and limits.
    pub async fn exec(
        &self,
        id: &str,
        command: &[String],
        env: &BTreeMap<String, String>,
    ) -> Result<ExecHandle, Error> {
        let bad = |cause: &str| Error::Config {
            id: id.to_owned(),
            cause: cause.to_owned(),
        };
        if command.first().is_none_or(String::is_empty) {
            return Err(bad("no command was given to execute"));
        }
        if command.iter().any(|w| w.contains('\0'))
            || env
                .iter()
                .any(|(k, v)| k.contains(['=', '\0']) || v.contains('\0'))
        {
            return Err(bad(
                "the command or its environment has a zero byte, or a name with '='",
            ));
        }
        let pipes = || pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::io("make", "a pipe")(e.into()));
        let ((in_read, in_write), (out_read, out_write), (err_read, err_write)) =
            (pipes()?, pipes()?, pipes()?);
        let verb = Verb::Exec {
            command: command.to_vec(),
            env: env.clone(),
        };
        let mut client = self.client(id)?;
        let fds = [in_read.as_fd(), out_write.as_fd(), err_write.as_fd()];
        let reply = client.ask(verb, &fds, PATIENCE).map_err(silent(id))?;
        reply_status(id, "execute a command", reply)?;
        let exit = Box::pin(end_of_command(id.to_owned(), client));
        let stream = |e| Error::io("use", "a pipe")(e);
        Ok(ExecHandle {
            stdin: pipe::Sender::from_owned_fd(in_write).map_err(stream)?,
            stdout: pipe::Receiver::from_owned_fd(out_read).map_err(stream)?,
            stderr: pipe::Receiver::from_owned_fd(err_read).map_err(stream)?,
            exit: ExecExit(exit),
        })
    }
}

async fn end_of_command(id: String, client: Client) -> Result<i32, Error> {
    let (stream, come) = client.into_parts();
    let stream = stream
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(stream))
        .map_err(silent(&id))?;
    let mut line = String::new();
    let mut lines = tokio::io::BufReader::new(tokio::io::AsyncReadExt::chain(&come[..], stream));
    lines.read_line(&mut line).await.map_err(silent(&id))?;
    let reply: Reply = serde_json::from_str(&line).map_err(|e| silent(&id)(e.into()))?;
    match (reply.exit, reply.failure) {
        (Some(code), _) => Ok(code),
        (None, Some(failure)) => Err(failed(&id, "execute a command", failure)),
        (None, None) => Err(silent(&id)(io::ErrorKind::InvalidData.into())),
    }
}
