//! What the agent calls. Owns the folders `<run_dir>/containers/<id>` and `<state_dir>/containers/<id>`; all that
//! lives is held by the shims, so a runtime can be dropped and opened again at any time. Calls block for as long
//! as a process takes to be made (some ms); `stop`, `wait_exit` as long as they are told.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cgroup::{self, Hierarchy};
use crate::client::{Client, PATIENCE};
use crate::config::{Observed, RuntimeConfig, State, check_id};
use crate::error::Error;
use crate::failure::{Failure, Kind, NOT_FOUND};
use crate::features;
use crate::private;
use crate::protocol::{Reply, STATE, Status, Verb};

mod making;

/// Exit code of a container that was killed: 128 + SIGKILL.
const KILLED: i32 = 137;

/// Containers of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    config: RuntimeConfig,
    hierarchies: Vec<Hierarchy>,
    user_namespaces: bool,
}

impl Runtime {
    /// Opens the folders. Containers that run already are found by `list`.
    pub fn open(mut config: RuntimeConfig) -> Result<Runtime, Error> {
        // Shims work in folders of their own, so nothing may be relative to ours.
        let own = [
            &mut config.state_dir,
            &mut config.run_dir,
            &mut config.weft_exe,
        ];
        for path in own.into_iter().chain(&mut config.hide) {
            *path = std::path::absolute(&*path).map_err(Error::io("find", path.as_path()))?;
        }
        for dir in [&config.state_dir, &config.run_dir] {
            let dir = dir.join("containers");
            private::folders(&dir).map_err(Error::io("make", &dir))?;
            private::restrict(&dir).map_err(Error::io("restrict", &dir))?;
        }
        if !config.weft_exe.exists() {
            return Err(Error::io("find", &config.weft_exe)(
                io::ErrorKind::NotFound.into(),
            ));
        }
        let hierarchies =
            cgroup::hierarchies().map_err(Error::io("read", "/proc/self/mountinfo"))?;
        Ok(Runtime {
            config,
            hierarchies,
            user_namespaces: features::user_namespaces(),
        })
    }

    /// For machines whose rules forbid user namespaces although the kernel has them: a container's processes are then
    /// an unprivileged user of the host, not root, and fewer capabilities are given.
    #[must_use]
    pub fn without_user_namespaces(self) -> Runtime {
        Runtime {
            user_namespaces: false,
            ..self
        }
    }

    /// Lets its command run. An error when it cannot be executed; the container has then exited.
    pub fn start(&self, id: &str) -> Result<(), Error> {
        self.ask(id, "be started", Verb::Start).map(drop)
    }

    /// Sends a signal to its process 1; nothing happens where that has ended.
    pub fn signal(&self, id: &str, signal: Signal) -> Result<(), Error> {
        match self.ask(
            id,
            "get a signal",
            Verb::Signal {
                signal: signal as i32,
            },
        ) {
            Err(Error::Silent { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// TERM, and KILL after the grace; returns the exit code. A process 1 that handles no TERM ignores it.
    pub fn stop(&self, id: &str, grace: Duration) -> Result<i32, Error> {
        self.signal(id, Signal::SIGTERM)?;
        match self.wait_exit(id, grace) {
            Err(Error::Deadline { .. }) => {
                self.signal(id, Signal::SIGKILL)?;
                self.wait_exit(id, PATIENCE)
            }
            other => other,
        }
    }

    /// Waits until its command has ended; returns the exit code, or 128 + signal.
    pub fn wait_exit(&self, id: &str, timeout: Duration) -> Result<i32, Error> {
        let begin = Instant::now();
        let asked = self
            .client(id)
            .and_then(|mut c| c.ask(Verb::Wait, &[], timeout).map_err(silent(id)));
        let late = || Error::Deadline {
            id: id.to_owned(),
            seconds: begin.elapsed().as_secs_f64(),
        };
        match asked {
            Ok(reply) => match reply_status(id, "be waited for", reply)?.state {
                State::Exited { code } => Ok(code),
                _ => Err(late()),
            },
            Err(Error::Silent { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Err(late())
            }
            Err(Error::Silent { .. }) => Ok(self
                .without_shim(id)?
                .map_or(KILLED, |o| exit_code(o.state))),
            Err(error) => Err(error),
        }
    }

    /// Ends what still runs of it and takes all of it away, its log too.
    pub fn delete(&self, id: &str) -> Result<(), Error> {
        self.delete_keeping_log(id)?;
        let logs = self.logs_dir(id);
        match fs::remove_dir_all(&logs) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", logs)(e)),
            _ => Ok(()),
        }
    }

    /// As `delete`, for a container that is made anew under the same name: its log goes on.
    pub fn delete_keeping_log(&self, id: &str) -> Result<(), Error> {
        let dir = self.dir(id);
        match self.client(id) {
            Ok(mut client) => {
                match client.ask(Verb::Shutdown, &[], PATIENCE) {
                    Ok(reply) => drop(reply_status(id, "be deleted", reply)?),
                    // Another one deleted it meanwhile, or its shim was killed.
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                    Err(e) => return Err(silent(id)(e)),
                }
                client.until_gone();
            }
            Err(Error::Silent { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(status) = read_status(&dir) {
            cgroup::remove(&status.cgroups).map_err(|f| failed(id, "be deleted", f))?;
        }
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir)(e)),
            _ => Ok(()),
        }
    }

    /// What is here, by name.
    pub fn list(&self) -> Result<Vec<Observed>, Error> {
        let all = self.config.run_dir.join("containers");
        let mut list = Vec::new();
        for entry in fs::read_dir(&all).map_err(Error::io("read", &all))? {
            let name = entry.map_err(Error::io("read", &all))?.file_name();
            let Some(id) = name.to_str().filter(|id| check_id(id).is_ok()) else {
                continue;
            };
            match self.ask(id, "be listed", Verb::State) {
                Ok(status) => list.push(observed(status)),
                Err(Error::NotFound { .. }) => {}
                Err(Error::Silent { source, .. }) if proves_death(&source) => {
                    list.extend(self.without_shim(id)?);
                }
                // Busy, stopped, or this process is short of something: it is taken to be as it last said.
                Err(_) => list.extend(read_status(&self.dir(id)).map(observed)),
            }
        }
        list.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(list)
    }

    /// A container whose shim was killed: process 1 went with it, and what could have escaped that is ended here.
    /// `None`: it was never made.
    fn without_shim(&self, id: &str) -> Result<Option<Observed>, Error> {
        let Some(mut status) = read_status(&self.dir(id)) else {
            return Ok(None);
        };
        if !matches!(status.state, State::Exited { .. }) {
            cgroup::kill_all(&status.cgroups);
            status.state = State::Exited { code: KILLED };
        }
        Ok(Some(observed(status)))
    }

    /// Its output as it came; `<this>.1` is what came before, once it grew over 10 MiB.
    pub fn logs_path(&self, id: &str) -> PathBuf {
        self.logs_dir(id).join("log")
    }

    fn logs_dir(&self, id: &str) -> PathBuf {
        self.config.state_dir.join("containers").join(id)
    }

    fn dir(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("containers").join(id)
    }

    pub(crate) fn client(&self, id: &str) -> Result<Client, Error> {
        check_id(id)?;
        let dir = self.dir(id);
        Client::connect(&dir).map_err(|e| {
            if dir.exists() {
                silent(id)(e)
            } else {
                Error::NotFound { id: id.to_owned() }
            }
        })
    }

    fn ask(&self, id: &str, what: &str, verb: Verb) -> Result<Status, Error> {
        let reply = self
            .client(id)?
            .ask(verb, &[], PATIENCE)
            .map_err(silent(id))?;
        reply_status(id, what, reply)
    }
}

/// Whether nobody listens any more; a time limit or a lack of descriptors proves nothing.
fn proves_death(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

fn read_status(dir: &Path) -> Option<Status> {
    serde_json::from_slice(&fs::read(dir.join(STATE)).ok()?).ok()
}

fn observed(status: Status) -> Observed {
    Observed {
        netns: PathBuf::from(format!("/proc/{}/ns/net", status.pid)),
        id: status.id,
        pid: status.pid,
        state: status.state,
        user_namespace: status.user_namespace,
    }
}

fn exit_code(state: State) -> i32 {
    match state {
        State::Exited { code } => code,
        State::Created | State::Running => KILLED,
    }
}

pub(crate) fn silent(id: &str) -> impl FnOnce(io::Error) -> Error {
    let id = id.to_owned();
    move |source| Error::Silent { id, source }
}

pub(crate) fn reply_status(id: &str, verb: &str, reply: Reply) -> Result<Status, Error> {
    match (reply.failure, reply.status) {
        (Some(failure), _) => Err(failed(id, verb, failure)),
        (None, Some(status)) => Ok(status),
        (None, None) => Err(silent(id)(io::ErrorKind::InvalidData.into())),
    }
}

pub(crate) fn failed(id: &str, verb: &str, failure: Failure) -> Error {
    let (id, cause) = (id.to_owned(), failure.cause);
    // Shims of earlier versions do not tell the two apart.
    let exit = failure.exit.unwrap_or(NOT_FOUND);
    match failure.kind {
        Kind::Step => Error::Shim { id, cause },
        Kind::Command => Error::Command { id, cause, exit },
        Kind::State => Error::WrongState {
            id,
            state: cause,
            verb: verb.to_owned(),
        },
    }
}
