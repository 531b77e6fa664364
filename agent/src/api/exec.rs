//! Commands in containers and their output: here, or on the node that has the container.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use weft_overlay::documents::ContainerState;
use weft_overlay::{ContainerRef, NodeName};

use super::fault::fault;
use super::peers;
use super::shared::Shared;
use crate::proto::{ExecInput, ExecOutput, ExecStart, LogsChunk, LogsRequest};
use crate::reconcile::runtime_id;

/// Chunks between a process and a slow reader; then the process waits, as with a pipe.
const CHANNEL: usize = 16;
/// Largest chunk, bytes.
const CHUNK: usize = 32 * 1024;
/// How often a log that is followed is looked at.
const FOLLOW: Duration = Duration::from_millis(200);

/// The node of a container, and whether it runs.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
async fn locate(
    shared: &Shared,
    name: &str,
) -> Result<(ContainerRef, NodeName, Option<ContainerState>), Status> {
    let subject = format!("container {name}");
    let container: ContainerRef = name.parse().map_err(|e| {
        fault(
            Code::InvalidArgument,
            &subject,
            e,
            "write it as TENANT/NAME",
        )
    })?;
    let state = shared.known().await?;
    let Some(doc) = state.containers.get(&container) else {
        return Err(fault(
            Code::NotFound,
            subject,
            "does not exist",
            "`weft ps` shows the containers",
        ));
    };
    let status = state
        .statuses
        .get(&container)
        .filter(|s| s.value.uid == doc.value.uid);
    Ok((
        container,
        doc.value.node.clone(),
        status.map(|s| s.value.state),
    ))
}

/// Runs a command; the first input says where and what.
pub async fn exec(
    shared: &Arc<Shared>,
    mut input: Streaming<ExecInput>,
) -> Result<BoxStream<'static, Result<ExecOutput, Status>>, Status> {
    let first = input.message().await?;
    let Some(start) = first.and_then(|m| m.start) else {
        return Err(fault(
            Code::InvalidArgument,
            "exec",
            "the first message names no command",
            "name a container and a command",
        ));
    };
    if start.command.is_empty() {
        return Err(fault(
            Code::InvalidArgument,
            format!("exec in {}", start.container),
            "no command",
            "write it behind `--`",
        ));
    }
    let (container, node, state) = locate(shared, &start.container).await?;
    if node != shared.config.name {
        let known = shared.known().await?;
        let mut client = peers::connect(&known, &node).await?;
        let opening = ExecInput {
            start: Some(start),
            ..ExecInput::default()
        };
        let rest = input
            .take_while(|m| std::future::ready(m.is_ok()))
            .filter_map(|m| std::future::ready(m.ok()));
        let stream = futures::stream::once(std::future::ready(opening)).chain(rest);
        return Ok(client.exec(stream).await?.boxed());
    }
    if state != Some(ContainerState::Running) {
        let word = state.map_or_else(
            || "not made yet".to_owned(),
            |s| format!("{s:?}").to_lowercase(),
        );
        let help = format!("`weft ps` shows its state, `weft logs {container}` what it said");
        return Err(fault(
            Code::FailedPrecondition,
            format!("container {container}"),
            format!("is {word}, not running"),
            &help,
        ));
    }
    here(shared, &container, start, input).await
}

async fn here(
    shared: &Shared,
    container: &ContainerRef,
    start: ExecStart,
    input: Streaming<ExecInput>,
) -> Result<BoxStream<'static, Result<ExecOutput, Status>>, Status> {
    let runtime = shared.parts()?.runtime.clone();
    let env = start
        .env
        .iter()
        .filter_map(|e| e.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let handle = runtime
        .exec(&runtime_id(container), &start.command, &env)
        .await
        .map_err(|e| super::fault::exec(container, &e))?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let (stdin, stdout, stderr) = (handle.stdin, handle.stdout, handle.stderr);
    tokio::spawn(async move {
        let feeding = tokio::spawn(feed(input, stdin));
        let out = copy(stdout, sender.clone(), |stdout| ExecOutput {
            stdout,
            ..ExecOutput::default()
        });
        let err = copy(stderr, sender.clone(), |stderr| ExecOutput {
            stderr,
            ..ExecOutput::default()
        });
        let finished = async {
            tokio::join!(out, err);
            let exit = handle.exit.await;
            let last = match exit {
                Ok(exit) => Ok(ExecOutput {
                    ended: true,
                    exit,
                    ..ExecOutput::default()
                }),
                Err(e) => Err(fault(Code::Internal, "exec", e, "run it again")),
            };
            let _ = sender.send(last).await;
        };
        tokio::select! {
            () = finished => {}
            // The caller is gone: what is left of the handle is dropped, which ends the command.
            () = sender.closed() => {}
        }
        feeding.abort();
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

async fn feed(mut input: Streaming<ExecInput>, mut stdin: impl AsyncWrite + Unpin) {
    while let Ok(Some(message)) = input.message().await {
        if !message.stdin.is_empty() && stdin.write_all(&message.stdin).await.is_err() {
            return;
        }
        if message.stdin_closed {
            break;
        }
    }
    let _ = stdin.shutdown().await;
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    to: mpsc::Sender<Result<ExecOutput, Status>>,
    wrap: impl Fn(Vec<u8>) -> ExecOutput,
) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.send(Ok(wrap(buffer[..n].to_vec()))).await.is_err() {
            return;
        }
    }
}

/// A container's output, from the node that has it.
pub async fn logs(
    shared: &Arc<Shared>,
    request: LogsRequest,
) -> Result<BoxStream<'static, Result<LogsChunk, Status>>, Status> {
    let (container, node, _) = locate(shared, &request.container).await?;
    if node != shared.config.name {
        let known = shared.known().await?;
        let mut client = peers::connect(&known, &node).await?;
        return Ok(client.logs(request).await?.boxed());
    }
    let path = shared.parts()?.runtime.logs_path(&runtime_id(&container));
    let (sender, receiver) = mpsc::channel(CHANNEL);
    tokio::spawn(async move {
        let read = read_log(path, request, sender.clone());
        tokio::select! {
            result = read => {
                if let Err(error) = result {
                    let status = fault(Code::Internal, format!("logs of {container}"), error, "`weft ps` shows whether it was started");
                    let _ = sender.send(Err(status)).await;
                }
            }
            () = sender.closed() => {}
        }
    });
    Ok(ReceiverStream::new(receiver).boxed())
}

async fn read_log(
    path: PathBuf,
    request: LogsRequest,
    sender: mpsc::Sender<Result<LogsChunk, Status>>,
) -> std::io::Result<()> {
    let mut file = loop {
        match tokio::fs::File::open(&path).await {
            Ok(file) => break file,
            // Not started yet: nothing was said.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !request.follow => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => tokio::time::sleep(FOLLOW).await,
            Err(e) => return Err(e),
        }
    };
    if request.tail > 0 {
        let start = tail_start(&mut file, request.tail).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = file.read(&mut buffer).await?;
        if n > 0 {
            if sender
                .send(Ok(LogsChunk {
                    data: buffer[..n].to_vec(),
                }))
                .await
                .is_err()
            {
                return Ok(());
            }
        } else if request.follow {
            tokio::time::sleep(FOLLOW).await;
        } else {
            return Ok(());
        }
    }
}

/// Where the last `lines` lines begin; reads the file from its end.
async fn tail_start(file: &mut tokio::fs::File, lines: u32) -> std::io::Result<u64> {
    let length = file.metadata().await?.len();
    let (mut position, mut found) = (length, 0);
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let size = position.min(CHUNK as u64);
        position -= size;
        file.seek(SeekFrom::Start(position)).await?;
        let chunk = &mut buffer[..size as usize];
        file.read_exact(chunk).await?;
        for (i, byte) in chunk.iter().enumerate().rev() {
            let at = position + i as u64;
            // The newline that ends the last line begins no line.
            if *byte == b'\n' && at + 1 != length {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_tail_begins_at_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"one\ntwo\nthree\n").unwrap();
        let mut file = tokio::fs::File::open(&path).await.unwrap();
        assert_eq!(tail_start(&mut file, 1).await.unwrap(), 8);
        assert_eq!(tail_start(&mut file, 2).await.unwrap(), 4);
        assert_eq!(tail_start(&mut file, 9).await.unwrap(), 0);
    }
}
