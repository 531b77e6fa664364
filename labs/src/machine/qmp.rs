//! QEMU's monitor, as far as a keeper needs it: stop, go on, save, load.
//! Source: <https://www.qemu.org/docs/master/interop/qmp-spec.html>.
//!
//! A line of JSON each way, and events between the answers. Our own few lines rather than a crate: those that there
//! are bring the types of all of QEMU's thousand commands, half a minute of compiling.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

/// Our file's name in QEMU.
const FILE: &str = "state";
/// The status of a machine while it is written.
const SAVING: &str = "finish-migrate";
/// How soon it is asked for again.
const AGAIN: Duration = Duration::from_millis(1);
/// More than any disk takes: QEMU's own bound (128 MiB/s) is for migration over a network.
const BYTES_A_SECOND: u64 = 1 << 40;

/// The monitor of one machine.
#[derive(Debug)]
pub(super) struct Monitor {
    from: BufReader<UnixStream>,
    to: UnixStream,
    /// Events that nobody has waited for yet.
    events: VecDeque<Value>,
}

impl Monitor {
    /// On the connection that QEMU has made.
    pub(super) fn greet(stream: UnixStream) -> anyhow::Result<Monitor> {
        let mut monitor = Monitor {
            from: BufReader::new(stream.try_clone()?),
            to: stream,
            events: VecDeque::new(),
        };
        let greeting = monitor.line()?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU's monitor says {greeting}");
        }
        monitor.run("qmp_capabilities", json!({}))?;
        let events = json!({"capabilities": [{"capability": "events", "state": true}]});
        monitor.run("migrate-set-capabilities", events)?;
        let speed = json!({"max-bandwidth": BYTES_A_SECOND});
        monitor.run("migrate-set-parameters", speed)?;
        Ok(monitor)
    }

    /// The processors stand when this returns, and what the machine wrote is flushed to its disk.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.run("stop", json!({}))
    }

    /// The processors go on.
    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        self.run("cont", json!({}))
    }

    /// Writes memory and devices to a file.
    pub(super) fn save(&mut self, file: &File) -> anyhow::Result<()> {
        self.by_file("migrate", file)?;
        // QEMU says that it is done a moment before it has come to rest (migration_iteration_finish in its
        // migration/migration.c); a `cont` in between would be undone, and the machine stand for ever.
        while self.ask("query-status", json!({}), &[])?["status"] == SAVING {
            std::thread::sleep(AGAIN);
        }
        Ok(())
    }

    /// Takes them from a file, in a machine that was started with [`WAITING`].
    pub(super) fn load(&mut self, file: &File) -> anyhow::Result<()> {
        self.by_file("migrate-incoming", file)
    }

    /// QEMU gets our open file: no path to quote, and nobody in between who may be late.
    fn by_file(&mut self, command: &str, file: &File) -> anyhow::Result<()> {
        let files = [file.as_raw_fd()];
        let name = json!({"fdname": FILE});
        self.ask("getfd", name, &[ControlMessage::ScmRights(&files)])?;
        self.run(command, json!({"uri": format!("fd:{FILE}")}))?;
        self.migrated()
    }

    fn migrated(&mut self) -> anyhow::Result<()> {
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.line()?,
            };
            if event["event"] != "MIGRATION" {
                continue;
            }
            match event["data"]["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed") => bail!("QEMU could not: {}", self.why()),
                _ => {}
            }
        }
    }

    fn why(&mut self) -> String {
        let asked = self.ask("query-migrate", json!({}), &[]);
        let said = asked.ok().and_then(|all| {
            let text = all["error-desc"].as_str()?;
            Some(text.to_owned())
        });
        said.unwrap_or_else(|| "it says no reason; its own words are in qemu.log".to_owned())
    }

    fn run(&mut self, command: &str, arguments: Value) -> anyhow::Result<()> {
        self.ask(command, arguments, &[]).map(drop)
    }

    fn ask(
        &mut self,
        command: &str,
        arguments: Value,
        with: &[ControlMessage<'_>],
    ) -> anyhow::Result<Value> {
        let mut line = serde_json::to_vec(&json!({"execute": command, "arguments": arguments}))?;
        line.push(b'\n');
        let (fd, flags) = (self.to.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
        let sent = sendmsg::<()>(fd, &[IoSlice::new(&line)], with, flags, None)
            .context("QEMU's monitor")?;
        self.to.write_all(&line[sent..]).context("QEMU's monitor")?;
        loop {
            let mut said = self.line()?;
            if said.get("event").is_some() {
                self.events.push_back(said);
            } else if let Some(error) = said.get("error") {
                let text = error["desc"].as_str().unwrap_or("no reason");
                bail!("QEMU refuses {command}: {text}");
            } else {
                return Ok(said["return"].take());
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        let length = self.from.read_line(&mut line).context("QEMU's monitor")?;
        if length == 0 {
            bail!("QEMU has ended");
        }
        serde_json::from_str(&line).context("QEMU's monitor")
    }
}

/// QEMU's arguments for a machine that is to be loaded.
pub(super) const WAITING: [&str; 2] = ["-incoming", "defer"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays QEMU: for each line that comes, says what is written beside it.
    fn played<const N: usize>(lines: [&'static str; N]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut to = theirs.try_clone().unwrap();
            let mut from = BufReader::new(theirs);
            for said in lines {
                to.write_all(said.as_bytes()).unwrap();
                let mut asked = String::new();
                if from.read_line(&mut asked).unwrap() == 0 {
                    return;
                }
            }
        });
        ours
    }

    const GREETING: &str = "{\"QMP\": {}}\r\n";
    const DONE: &str = "{\"return\": {}}\r\n";

    #[test]
    fn events_that_come_before_an_answer_are_not_lost() {
        let early = "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\r\n{\"return\": {}}\r\n";
        let saving = "{\"return\": {\"status\": \"finish-migrate\"}}\r\n";
        let saved = "{\"return\": {\"status\": \"postmigrate\"}}\r\n";
        let stream = played([GREETING, DONE, DONE, DONE, DONE, early, saving, saved]);
        let mut monitor = Monitor::greet(stream).unwrap();
        monitor.save(&tempfile::tempfile().unwrap()).unwrap();
    }

    #[test]
    fn a_refusal_and_a_failure_say_qemu_s_own_words() {
        let refused = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n";
        let failed = "{\"return\": {}}\r\n{\"event\": \"STOP\"}\r\n\
                      {\"event\": \"MIGRATION\", \"data\": {\"status\": \"failed\"}}\r\n";
        let why = "{\"return\": {\"error-desc\": \"No space left on device\"}}\r\n";
        let stream = played([GREETING, DONE, DONE, DONE, refused, DONE, failed, why]);
        let mut monitor = Monitor::greet(stream).unwrap();
        let error = monitor.stop().unwrap_err().to_string();
        assert_eq!(error, "QEMU refuses stop: no such thing");
        let error = monitor
            .save(&tempfile::tempfile().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("No space left"), "{error}");
        assert_eq!(monitor.go().unwrap_err().to_string(), "QEMU has ended");
    }
}
