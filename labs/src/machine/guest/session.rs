//! What a machine does for its keeper: one function a kind of request.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::time::{ClockId, clock_settime};
use nix::unistd::Pid;

use super::serve::{Group, Port, Session, done, log_line, send};
use crate::machine::protocol::{FRAME_MAX, Kind, Reply, Request, Window};
use crate::processes::Process;
use crate::underlay::{self, NetOp};

/// A shell's way to say that a program could not be started.
const NOT_STARTED: i32 = 127;

/// Serves one request to its end.
pub(super) fn run(session: Session, request: Request) -> Reply {
    let result = match request {
        Request::Run { argv, env } => return run_program(session, &argv, &env),
        Request::Spawn { argv } => spawn(&session, &argv),
        Request::Dial { path } => dial(session, Path::new(&path)),
        Request::Put { path, mode } => put(&session, Path::new(&path), mode),
        Request::Get { path } => get(&session, Path::new(&path)),
        Request::Signal { pid, start, signal } => signal_to(Process { pid, start }, signal),
        Request::Net { ops } => net(&ops),
        Request::Clock { now } => set_clock(now),
        Request::PowerOff => {
            // Said before, for there is no after.
            session.port.send(&done(session.id, &Reply::Done(0)));
            super::init::power_off();
            Ok(0)
        }
    };
    match result {
        Ok(number) => Reply::Done(number),
        Err(error) => Reply::Failed(format!("{error:#}")),
    }
}

fn command(argv: &[String]) -> anyhow::Result<Command> {
    let Some((program, args)) = argv.split_first() else {
        anyhow::bail!("no program");
    };
    let mut command = Command::new(program);
    command.args(args).current_dir("/").process_group(0);
    Ok(command)
}

fn run_program(session: Session, argv: &[String], env: &BTreeMap<String, String>) -> Reply {
    let begun = begin(&session, argv, env);
    let mut child = match begun {
        Ok(child) => child,
        Err(error) => {
            let program = argv.first().map_or("", String::as_str);
            session.send(
                Kind::Err,
                format!("error: start {program}: {error:#}\n").as_bytes(),
            );
            return Reply::Exit(NOT_STARTED);
        }
    };
    let pumps = [
        pump(&session, Kind::Out, child.stdout.take()),
        pump(&session, Kind::Err, child.stderr.take()),
    ];
    let stdin = child.stdin.take();
    let group = session.group.clone();
    // Ends with the client's last frame or with the session; nobody waits for it.
    std::thread::spawn(move || {
        let Some(mut stdin) = stdin else { return };
        while let Some(frame) = session.next_input() {
            if stdin.write_all(&frame.bytes).is_err() {
                return;
            }
        }
    });
    // Not reaped yet, so the number is still its own while the group is marked as ended.
    let id = Pid::from_raw(child.id() as i32);
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(id), ended) == Err(Errno::EINTR) {}
    *group.lock().unwrap_or_else(PoisonError::into_inner) = Group::None;
    let status = child.wait();
    for pump in pumps.into_iter().flatten() {
        let _ = pump.join();
    }
    match status {
        Ok(status) => Reply::Exit(status.code().unwrap_or(128 + status.signal().unwrap_or(0))),
        Err(error) => Reply::Failed(error.to_string()),
    }
}

fn begin(
    session: &Session,
    argv: &[String],
    env: &BTreeMap<String, String>,
) -> anyhow::Result<Child> {
    let mut group = session.group.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*group, Group::Abandoned) {
        anyhow::bail!("nobody waits for it");
    }
    let child = command(argv)?
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    *group = Group::Running(child.id() as i32);
    Ok(child)
}

fn pump(
    session: &Session,
    kind: Kind,
    stream: Option<impl Read + Send + 'static>,
) -> Option<JoinHandle<()>> {
    let mut stream = stream?;
    let (port, window, id): (Port, Arc<Window>, u32) =
        (session.port.clone(), session.window.clone(), session.id);
    Some(std::thread::spawn(move || {
        let mut bytes = vec![0; FRAME_MAX];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            if !send(&port, &window, id, kind, &bytes[..length]) {
                return;
            }
        }
    }))
}

/// Its output goes to the machine's log; it is reaped when it ends.
fn spawn(session: &Session, argv: &[String]) -> anyhow::Result<u64> {
    let mut child = command(argv)?
        .stdin(Stdio::null())
        .stdout(session.log.try_clone()?)
        .stderr(session.log.try_clone()?)
        .spawn()?;
    let (pid, log) = (child.id(), session.log.clone());
    let title = argv.iter().take(3).cloned().collect::<Vec<_>>().join(" ");
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            log_line(&log, &format!("{title}, process {pid}, ended: {status}"));
        }
    });
    Ok(u64::from(pid))
}

/// Over when the socket's owner hangs up, or when the client has left.
fn dial(session: Session, path: &Path) -> anyhow::Result<u64> {
    let mut socket = UnixStream::connect(path)?;
    let mut to = socket.try_clone()?;
    let (port, window, id) = (session.port.clone(), session.window.clone(), session.id);
    std::thread::spawn(move || {
        while let Some(frame) = session.next_input() {
            if to.write_all(&frame.bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let mut bytes = vec![0; FRAME_MAX];
    loop {
        let length = socket.read(&mut bytes)?;
        if length == 0 || !send(&port, &window, id, Kind::Out, &bytes[..length]) {
            return Ok(0);
        }
    }
}

fn put(session: &Session, path: &Path, mode: u32) -> anyhow::Result<u64> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    let mut written = 0;
    while let Some(frame) = session.next_input() {
        file.write_all(&frame.bytes)?;
        written += frame.bytes.len() as u64;
    }
    Ok(written)
}

fn get(session: &Session, path: &Path) -> anyhow::Result<u64> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; FRAME_MAX];
    let mut read = 0;
    loop {
        let length = file.read(&mut bytes)?;
        if length == 0 || !session.send(Kind::Out, &bytes[..length]) {
            return Ok(read);
        }
        read += length as u64;
    }
}

fn signal_to(process: Process, signal: i32) -> anyhow::Result<u64> {
    let signal = match signal {
        0 => None,
        number => Some(Signal::try_from(number)?),
    };
    if process.start != 0 && !process.is_alive() {
        return Ok(0);
    }
    match kill(Pid::from_raw(process.pid), signal) {
        Ok(()) => Ok(1),
        Err(Errno::ESRCH) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn net(ops: &[NetOp]) -> anyhow::Result<u64> {
    underlay::apply_here(ops)?;
    Ok(ops.len() as u64)
}

/// Sets the clock and tells how it was before, in nanoseconds.
fn set_clock(now: u64) -> anyhow::Result<u64> {
    let before = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = TimeSpec::from_duration(Duration::from_nanos(now));
    clock_settime(ClockId::CLOCK_REALTIME, now)?;
    Ok(before.as_nanos() as u64)
}
