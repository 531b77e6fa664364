//! What the agent calls. Owns the folders `<run_dir>/containers/<id>` and `<state_dir>/containers/<id>`; all that
//! lives is held by the shims, so a runtime can be dropped and opened again at any time. Calls block for as long
//! as a process takes to be made (some ms); `stop`, `wait_exit` as long as they are told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use tokio::io::AsyncBufReadExt;
use tokio::net::unix::pipe;

use crate::capability;
use crate::cgroup::{self, Hierarchy};
use crate::client::{Client, PATIENCE};
use crate::config::{ContainerConfig, Created, Observed, RuntimeConfig, State, check_id};
use crate::error::Error;
use crate::exec::{ExecExit, ExecHandle};
use crate::failure::{Failure, Kind};
use crate::features;
use crate::protocol::{Bundle, CONFIG, DIAGNOSTICS, Reply, STATE, Status, VERSION, Verb};

/// Exit code of a container that was killed: 128 + SIGKILL.
const KILLED: i32 = 137;
/// A folder without a state that is older belongs to a making that was cut short.
const UNFINISHED: Duration = Duration::from_secs(60);

/// Containers of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    config: RuntimeConfig,
    hierarchies: Vec<Hierarchy>,
    user_namespaces: bool,
}

impl Runtime {
    /// Opens the folders. Containers that run already are found by `list`.
    pub fn open(config: RuntimeConfig) -> Result<Runtime, Error> {
        for dir in [&config.state_dir, &config.run_dir] {
            let dir = dir.join("containers");
            fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
            private(&dir).map_err(Error::io("restrict", &dir))?;
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

    /// For machines whose rules forbid user namespaces although the kernel has them: a container's root is then the
    /// host's, without capabilities, and fewer of those are given.
    #[must_use]
    pub fn without_user_namespaces(self) -> Runtime {
        Runtime {
            user_namespaces: false,
            ..self
        }
    }

    /// Makes a container up to its start: its process waits, its network namespace can be filled.
    pub fn create(&self, config: &ContainerConfig) -> Result<Created, Error> {
        config.check()?;
        cgroup::check(&config.id, &config.resources, &self.hierarchies)?;
        let id = &config.id;
        let bundle = Bundle {
            version: VERSION,
            container: config.clone(),
            cgroup_parent: self.config.cgroup_parent.trim_matches('/').to_owned(),
            log: self.logs_path(id),
            exe: self.config.weft_exe.clone(),
            hide: self.hidden(),
            capabilities: capability::mask(id, &config.capabilities, self.user_namespaces)?,
            users: self.user_namespaces.then(|| features::first_user(id)),
        };
        let dir = self.dir(id);
        self.reserve(id, &dir)?;
        match self.make(&dir, &bundle) {
            Ok(created) => Ok(created),
            Err(error) => {
                let _ = fs::remove_dir_all(&dir);
                Err(error)
            }
        }
    }

    fn make(&self, dir: &Path, bundle: &Bundle) -> Result<Created, Error> {
        let id = &bundle.container.id;
        let logs = self.logs_dir(id);
        fs::create_dir_all(&logs).map_err(Error::io("make", &logs))?;
        let path = dir.join(CONFIG);
        let text = serde_json::to_vec(bundle).map_err(|e| Error::Config {
            id: id.clone(),
            cause: e.to_string(),
        })?;
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        let reply = self.spawn(dir, id)?;
        let status = reply_status(id, "be made", reply)?;
        let path = PathBuf::from(format!("/proc/{}/ns/net", status.pid));
        let netns = File::open(&path).map_err(Error::io("open", &path))?;
        Ok(Created {
            pid: status.pid,
            netns: netns.into(),
        })
    }

    fn spawn(&self, dir: &Path, id: &str) -> Result<Reply, Error> {
        let path = dir.join(DIAGNOSTICS);
        let diagnostics = File::create(&path).map_err(Error::io("make", &path))?;
        let exe = &self.config.weft_exe;
        let mut child = Command::new(exe)
            .args(["shim".as_ref(), "--dir".as_ref(), dir.as_os_str()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(diagnostics)
            .spawn()
            .map_err(Error::io("run", exe))?;
        let mut text = String::new();
        let read = child
            .stdout
            .take()
            // One line, not to the end: what the shim makes may hold the pipe for longer.
            .map_or(Ok(0), |out| BufReader::new(out).read_line(&mut text));
        child.wait().and(read).map_err(Error::io("run", exe))?;
        serde_json::from_str(&text).map_err(|_| {
            let said = fs::read_to_string(dir.join(DIAGNOSTICS)).unwrap_or_default();
            Error::Shim {
                id: id.to_owned(),
                cause: format!("its shim ended without a word; it wrote: {:?}", said.trim()),
            }
        })
    }

    /// Makes the container's folder, which is its name's reservation.
    fn reserve(&self, id: &str, dir: &Path) -> Result<(), Error> {
        match fs::create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_unfinished(dir) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists { id: id.to_owned() })
            }
            other => other.map_err(Error::io("make", dir)),
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
                Err(Error::Silent { .. }) => list.extend(self.without_shim(id)?),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
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

    fn hidden(&self) -> Vec<PathBuf> {
        let own = [&self.config.state_dir, &self.config.run_dir];
        let mut hide: Vec<PathBuf> = self
            .config
            .hide
            .iter()
            .chain(own)
            .filter(|p| p.is_absolute())
            .cloned()
            .collect();
        hide.sort();
        hide.dedup();
        // What lies below a hidden folder is hidden with it.
        let all = hide.clone();
        hide.retain(|path| {
            !all.iter()
                .any(|other| other != path && path.starts_with(other))
        });
        hide
    }

    fn client(&self, id: &str) -> Result<Client, Error> {
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

fn private(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

fn is_unfinished(dir: &Path) -> bool {
    let old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > UNFINISHED);
    !dir.join(STATE).exists()
        && Client::connect(dir).is_err()
        && fs::metadata(dir).and_then(|m| m.modified()).is_ok_and(old)
        && fs::remove_dir_all(dir)
            .and_then(|()| fs::create_dir(dir))
            .is_ok()
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

fn silent(id: &str) -> impl FnOnce(io::Error) -> Error {
    let id = id.to_owned();
    move |source| Error::Silent { id, source }
}

fn reply_status(id: &str, verb: &str, reply: Reply) -> Result<Status, Error> {
    match (reply.failure, reply.status) {
        (Some(failure), _) => Err(failed(id, verb, failure)),
        (None, Some(status)) => Ok(status),
        (None, None) => Err(silent(id)(io::ErrorKind::InvalidData.into())),
    }
}

fn failed(id: &str, verb: &str, failure: Failure) -> Error {
    let (id, cause) = (id.to_owned(), failure.cause);
    match failure.kind {
        Kind::Step => Error::Shim { id, cause },
        Kind::Command => Error::Command { id, cause },
        Kind::State => Error::WrongState {
            id,
            state: cause,
            verb: verb.to_owned(),
        },
    }
}
