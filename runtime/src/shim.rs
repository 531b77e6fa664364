//! The process that holds one container: it is single-threaded, leaves the agent's process group, makes the
//! container, keeps its log and exit code, and answers on `<dir>/shim.sock`. It ends when told to (`shutdown`), never because the
//! agent ended. Its folder holds `config.json` (read once), `state.json`, `shim.pid`, `shim.log` (its own words).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stdout, pipe2, setsid};

use crate::capability;
use crate::cgroup;
use crate::config::State;
use crate::failure::{Failure, Step};
use crate::launch::{self, Made, Streams};
use crate::log::{LIMIT, Log};
use crate::private;
use crate::privileges::{Program, environment};
use crate::protocol::{Bundle, CONFIG, PID, Reply, SOCKET, STAGE, STATE, Status, VERSION};
use crate::sys;

mod connection;
mod server;

/// Runs the shim of the container whose folder is `dir`. Its first line of output is a JSON reply that says how the
/// container was made or why not; the process that was called returns at once, a copy of it lives on.
pub fn main(dir: &Path) -> ! {
    match sys::fork(CloneFlags::empty()) {
        Ok(None) => {}
        Ok(Some(_)) => sys::exit_now(0),
        Err(e) => report(&Reply::failure(Failure::new(format!(
            "cannot leave the agent: {e}"
        )))),
    }
    match prepare(dir) {
        Ok(mut shim) => {
            announce(&Reply::status(shim.status.clone()));
            if let Err(failure) = shim.serve() {
                eprintln!("{}", failure.cause);
                let _ = cgroup::remove(&shim.status.cgroups);
                sys::exit_now(1);
            }
            sys::exit_now(0)
        }
        Err(failure) => report(&Reply::failure(failure)),
    }
}

fn report(reply: &Reply) -> ! {
    announce(reply);
    sys::exit_now(1)
}

/// Says the first line, and lets go of the caller's pipe.
fn announce(reply: &Reply) {
    let mut out = io::stdout();
    let _ = out.write_all(&reply.line()).and_then(|()| out.flush());
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = dup2_stdout(null);
    }
}

/// A container and all that its shim keeps.
struct Shim {
    bundle: Bundle,
    made: Made,
    status: Status,
    listener: UnixListener,
    log: Log,
    output: Option<OwnedFd>,
}

fn prepare(dir: &Path) -> Result<Shim, Failure> {
    setsid().step("make a session")?;
    umask(Mode::from_bits_truncate(0o077));
    // Names are relative from here, so that long paths fit into a socket's address.
    chdir(dir).step(&format!("enter {}", dir.display()))?;
    write_whole(
        Path::new(PID),
        format!("{}\n", std::process::id()).as_bytes(),
        false,
    )
    .step("write shim.pid")?;
    let text = fs::read(CONFIG).step("read config.json")?;
    let bundle: Bundle = serde_json::from_slice(&text).step("read config.json")?;
    if bundle.version > VERSION {
        return Err(Failure::new(format!(
            "config.json has version {}; this program knows {VERSION}",
            bundle.version
        )));
    }
    // Before anything can end, so that no end is missed.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ends), None).step("block SIGCHLD")?;
    let container = &bundle.container;
    let cgroups = cgroup::make(&bundle.cgroup_parent, &container.id, &container.resources)?;
    contain(bundle, dir, cgroups.clone()).inspect_err(|_| {
        let _ = cgroup::remove(&cgroups);
    })
}

fn contain(bundle: Bundle, dir: &Path, cgroups: Vec<PathBuf>) -> Result<Shim, Failure> {
    let log = Log::open(&bundle.log, LIMIT).step(&format!("open {}", bundle.log.display()))?;
    let (output, input) = pipe2(OFlag::O_CLOEXEC).step("make a pipe")?;
    let null = open(
        "/dev/null",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .step("open /dev/null")?;
    let streams = Streams {
        stdin: null,
        stdout: input.try_clone().step("copy a pipe")?,
        stderr: input,
    };
    let container = &bundle.container;
    let program = Program {
        command: container.command.clone(),
        env: environment(&container.hostname, &[&container.env]),
        capabilities: bundle.capabilities,
    };
    let stage = dir.join(STAGE);
    private::new_folder(&stage).step(&format!("make {}", stage.display()))?;
    let made = launch::make(&bundle, &stage, &cgroups, &program, streams)?;
    let status = Status {
        version: VERSION,
        id: container.id.clone(),
        pid: made.pid.as_raw().unsigned_abs(),
        state: State::Created,
        user_namespace: bundle.users.is_some(),
        cgroups,
    };
    let listener = UnixListener::bind(SOCKET).step("listen on shim.sock")?;
    private::restrict_file(Path::new(SOCKET)).step("restrict shim.sock")?;
    listener.set_nonblocking(true).step("listen on shim.sock")?;
    write_state(&status).step("write state.json")?;
    Ok(Shim {
        bundle,
        made,
        status,
        listener,
        log,
        output: Some(output),
    })
}

impl Shim {
    fn program(
        &self,
        command: Vec<String>,
        env: &std::collections::BTreeMap<String, String>,
    ) -> Program {
        let container = &self.bundle.container;
        Program {
            command,
            env: environment(&container.hostname, &[&container.env, env]),
            capabilities: self.bundle.capabilities
                & (u64::MAX >> (u64::BITS - capability::NUMBERS)),
        }
    }
}

/// After a loss of power no container lives, and a state that says so is worth no wait for the disk; an exit code is.
fn write_state(status: &Status) -> io::Result<()> {
    let last = matches!(status.state, State::Exited { .. });
    write_whole(Path::new(STATE), &serde_json::to_vec(status)?, last)
}

/// Writes a file so that others see it wholly or not at all; if `durable`, also after a loss of power.
fn write_whole(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = private::file(&new)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_data()?;
    }
    fs::rename(&new, path)
}
