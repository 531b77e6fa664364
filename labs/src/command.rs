//! Running a program as a child with a deadline, and reading its lines as they come.
//!
//! Owns: children of the engine: none outlives its [`Lines`] or [`run`]. Never: a shell.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cancel::Cancel;
use crate::processes::Process;

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// Lines that wait to be read: more than a traced packet makes; a full channel holds the child back.
const LINES_WAITING: usize = 4096;

/// What a child left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot be started: {0}")]
    Start(std::io::Error),
    #[error("gave no result in time{}", said(.0))]
    Timeout(String),
    #[error("interrupted")]
    Cancelled,
}

fn said(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}

impl Output {
    /// Both outputs in one line, for messages.
    pub(crate) fn words(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let text = text.trim().replace('\n', "; ");
        if text.is_empty() {
            format!("{}", self.status)
        } else {
            text
        }
    }
}

/// Runs to the end, or ends it at the deadline.
pub(crate) fn run(
    mut command: Command,
    deadline: Instant,
    cancel: &Cancel,
) -> Result<Output, RunError> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(RunError::Start)?;
    let out = collect(child.stdout.take());
    let err = collect(child.stderr.take());
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if cancel.is_set() => break Err(true),
            Ok(None) if Instant::now() >= deadline => break Err(false),
            Ok(None) => std::thread::sleep(LOOK_EVERY),
            Err(error) => return Err(RunError::Start(error)),
        }
    };
    if ended.is_err() {
        end(&mut child);
    }
    let (stdout, stderr) = (text(out), text(err));
    match ended {
        Ok(status) => Ok(Output {
            status,
            stdout,
            stderr,
        }),
        Err(true) => Err(RunError::Cancelled),
        Err(false) => Err(RunError::Timeout(stderr)),
    }
}

type Reader = Option<std::thread::JoinHandle<Vec<u8>>>;

fn collect(stream: Option<impl Read + Send + 'static>) -> Reader {
    stream.map(|mut stream| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error still counts.
            let _ = stream.read_to_end(&mut bytes);
            bytes
        })
    })
}

fn text(reader: Reader) -> String {
    let bytes = reader.and_then(|thread| thread.join().ok());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Ends a child and its own children: what `lab-enter` started is reached only this way.
fn end(child: &mut Child) {
    for grandchild in children_of(child.id() as i32) {
        grandchild.signal(Signal::SIGKILL);
    }
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

fn children_of(parent: i32) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .ok()
                .and_then(|stat| {
                    let rest = &stat[stat.rfind(')')? + 1..];
                    rest.split_whitespace().nth(1)?.parse::<i32>().ok()
                })
                == Some(parent)
        })
        .filter_map(Process::of)
        .collect()
}

/// A child whose lines are read as they come; ended when dropped.
#[derive(Debug)]
pub(crate) struct Lines {
    child: Child,
    lines: Receiver<String>,
    errors: Reader,
    /// Whether the child is to live on.
    left: bool,
}

impl Lines {
    pub(crate) fn start(mut command: Command) -> Result<Lines, RunError> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(RunError::Start)?;
        let (send, lines) = sync_channel(LINES_WAITING);
        let stdout = child.stdout.take();
        std::thread::spawn(move || {
            let lines = stdout
                .into_iter()
                .flat_map(|out| BufReader::new(out).lines());
            for line in lines.map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = collect(child.stderr.take());
        Ok(Lines {
            child,
            lines,
            errors,
            left: false,
        })
    }

    /// The next line; `None` if there is none by the deadline or ever.
    pub(crate) fn next(&mut self, deadline: Instant) -> Option<String> {
        let wait = deadline.saturating_duration_since(Instant::now());
        self.lines.recv_timeout(wait).ok()
    }

    /// The child, unless it has ended.
    pub(crate) fn process(&self) -> Option<Process> {
        Process::of(self.child.id() as i32)
    }

    /// Lets the child live on; it has closed its output or will never be read again.
    pub(crate) fn leave_running(mut self) {
        self.left = true;
    }

    /// Waits for the child, which is about to end by itself, and leaves its own children alone.
    pub(crate) fn leave(&mut self) {
        // Already waited for: as good.
        let _ = self.child.wait();
    }

    /// Ends the child; what it said on standard error.
    pub(crate) fn finish(mut self) -> String {
        end(&mut self.child);
        text(self.errors.take())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.left {
            // Reaped when it ends, as long as we are here to do it.
            let _ = self.child.try_wait();
            return;
        }
        end(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_exit_are_kept_and_a_deadline_ends_the_child() {
        let never = Cancel::never();
        let soon = Instant::now() + Duration::from_secs(5);
        let output = run(shell("echo out; echo err >&2; exit 3"), soon, &never).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_str()),
            (Some(3), "out\n")
        );
        assert_eq!(output.words(), "err");
        let at_once = Instant::now() + Duration::from_millis(30);
        let error = run(shell("sleep 100"), at_once, &never).unwrap_err();
        assert!(matches!(error, RunError::Timeout(_)), "{error}");
    }

    #[test]
    fn lines_come_one_by_one() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut lines = Lines::start(shell("echo a; echo b; read forever")).unwrap();
        assert_eq!(lines.next(deadline).as_deref(), Some("a"));
        assert_eq!(lines.next(deadline).as_deref(), Some("b"));
        lines.finish();
    }
}
