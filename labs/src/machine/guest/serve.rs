//! The server of a machine: reads frames from the port, gives each session a thread.
//!
//! Threads: one a session (with its pumps), owned by nobody: it ends with its session, all end with the process.
//! The reader never waits for a session; what a client may have on its way bounds what it has to queue.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;

use super::{init, session};
use crate::machine::protocol::{
    FRAMES_WAITING, Frame, Hello, Kind, LOG_PORT, MACHINE, PORT, Reply, Request, Window,
};

/// Way out of the machine, shared by all sessions.
#[derive(Clone)]
pub(super) struct Port(Arc<Mutex<File>>);

impl Port {
    /// Sends a frame. The port is gone only when the machine is; then there is nobody to tell.
    pub(super) fn send(&self, frame: &Frame) {
        let _ = frame.write(&mut *self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session, as its thread sees it.
pub(super) struct Session {
    pub(super) id: u32,
    pub(super) port: Port,
    /// Where the background's output goes.
    pub(super) log: Arc<File>,
    /// What the client sends.
    pub(super) input: Receiver<Frame>,
    /// What may still be sent to the client.
    pub(super) window: Arc<Window>,
    /// The group of the program that runs for it.
    pub(super) group: Arc<Mutex<Group>>,
}

/// The process group of a session.
pub(super) enum Group {
    /// Not started yet, or ended.
    None,
    /// By the number of its leader.
    Running(i32),
    /// The client left; nothing may be started any more.
    Abandoned,
}

/// One session, as the reader sees it.
struct Entry {
    input: SyncSender<Frame>,
    window: Arc<Window>,
    group: Arc<Mutex<Group>>,
}

impl Entry {
    /// Its client is gone.
    fn end(&self) {
        self.window.close();
        abandon(&self.group);
    }
}

type Sessions = Arc<Mutex<BTreeMap<u32, Entry>>>;

fn locked(sessions: &Sessions) -> MutexGuard<'_, BTreeMap<u32, Entry>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until the port closes.
pub(super) fn run() -> anyhow::Result<()> {
    let control = open_port(PORT)?;
    let log = Arc::new(open_port(LOG_PORT)?);
    let port = Port(Arc::new(Mutex::new(
        control.try_clone().context("share the port")?,
    )));
    port.send(&Frame::json(MACHINE, Kind::Done, &hello(MACHINE))?);
    let sessions = Sessions::default();
    let mut greatest = MACHINE;
    let mut from = BufReader::new(control);
    loop {
        let frame = match Frame::read(&mut from) {
            Ok(frame) => frame,
            // The keeper is gone: so is the machine.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).context("read the port"),
        };
        greatest = greatest.max(frame.session);
        if frame.kind == Kind::Hold {
            hold(frame, &port, &mut from, &sessions, greatest)?;
        } else {
            take(frame, &sessions, &port, &log);
        }
    }
}

/// Nothing is said until the keeper, or the next one, says so: the port is held meanwhile.
fn hold(
    asked: Frame,
    port: &Port,
    from: &mut impl Read,
    sessions: &Sessions,
    greatest: u32,
) -> anyhow::Result<()> {
    let mut out = port.lock();
    asked.write(&mut *out)?;
    loop {
        let frame = Frame::read(from).context("read the port")?;
        if frame.kind != Kind::Go {
            continue;
        }
        if !frame.bytes.is_empty() {
            for (_, entry) in std::mem::take(&mut *locked(sessions)) {
                entry.end();
            }
            Frame::json(MACHINE, Kind::Done, &hello(greatest))?.write(&mut *out)?;
        }
        return Ok(());
    }
}

fn take(frame: Frame, sessions: &Sessions, port: &Port, log: &Arc<File>) {
    let id = frame.session;
    match frame.kind {
        Kind::Open => open(frame, sessions, port, log),
        Kind::Credit => {
            if let Some(entry) = locked(sessions).get(&id) {
                entry.window.give(frame.credited());
            }
        }
        Kind::In | Kind::InEnd => {
            if let Some(entry) = locked(sessions).get(&id) {
                // Full: the client sent more than its window; it loses its own bytes.
                let _ = entry.input.try_send(frame);
            }
        }
        Kind::Close => {
            if let Some(entry) = locked(sessions).remove(&id) {
                entry.end();
            }
        }
        Kind::Out | Kind::Err | Kind::Done | Kind::Hold | Kind::Go => {}
    }
}

fn open(frame: Frame, sessions: &Sessions, port: &Port, log: &Arc<File>) {
    let id = frame.session;
    let request: Request = match serde_json::from_slice(&frame.bytes) {
        Ok(request) => request,
        Err(error) => return port.send(&done(id, &Reply::Failed(format!("bad request: {error}")))),
    };
    let (input, receiver) = sync_channel(FRAMES_WAITING);
    let entry = Entry {
        input,
        window: Arc::new(Window::new()),
        group: Arc::new(Mutex::new(Group::None)),
    };
    let session = Session {
        id,
        port: port.clone(),
        log: log.clone(),
        input: receiver,
        window: entry.window.clone(),
        group: entry.group.clone(),
    };
    locked(sessions).insert(id, entry);
    let ended = sessions.clone();
    let answer = port.clone();
    let started = std::thread::Builder::new().spawn(move || {
        let port = session.port.clone();
        let reply = session::run(session, request);
        locked(&ended).remove(&id);
        port.send(&done(id, &reply));
    });
    if let Err(error) = started {
        locked(sessions).remove(&id);
        answer.send(&done(id, &Reply::Failed(format!("no thread: {error}"))));
    }
}

/// Ends what runs for a client that left.
fn abandon(group: &Mutex<Group>) {
    let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
    if let Group::Running(leader) = *group {
        let group = nix::unistd::Pid::from_raw(leader);
        // It may have ended just now.
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
    *group = Group::Abandoned;
}

pub(super) fn done(id: u32, reply: &Reply) -> Frame {
    let bytes = serde_json::to_vec(reply).unwrap_or_default();
    Frame::new(id, Kind::Done, bytes)
}

fn hello(sessions: u32) -> Hello {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let uptime = read("/proc/uptime");
    Hello {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        not_loaded: read(init::NOT_LOADED).lines().map(str::to_owned).collect(),
        uptime: uptime
            .split_whitespace()
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or_default(),
        sessions,
    }
}

/// The virtio serial port of that name.
fn open_port(name: &str) -> anyhow::Result<File> {
    let ports = "/sys/class/virtio-ports";
    let entries = std::fs::read_dir(ports)
        .with_context(|| format!("{ports}: the driver virtio_console is not loaded"))?;
    for entry in entries.filter_map(Result::ok) {
        let named = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if named.trim() == name {
            let device: PathBuf = ["/dev".into(), entry.file_name()].iter().collect();
            return File::options()
                .read(true)
                .write(true)
                .open(&device)
                .with_context(|| device.display().to_string());
        }
    }
    anyhow::bail!("the machine has no serial port {name}")
}

impl Session {
    /// Takes a frame in and gives the client its credit back.
    pub(super) fn next_input(&self) -> Option<Frame> {
        let frame = self.input.recv().ok()?;
        if frame.kind != Kind::In {
            return None;
        }
        self.port.send(&Frame::credit(self.id, frame.weight()));
        Some(frame)
    }

    /// Sends bytes as soon as the client has room for them; `false` once it has left.
    pub(super) fn send(&self, kind: Kind, bytes: &[u8]) -> bool {
        send(&self.port, &self.window, self.id, kind, bytes)
    }
}

/// As [`Session::send`], for a pump's thread.
pub(super) fn send(port: &Port, window: &Window, id: u32, kind: Kind, bytes: &[u8]) -> bool {
    let frame = Frame::new(id, kind, bytes);
    if !window.take(frame.weight()) {
        return false;
    }
    port.send(&frame);
    true
}

/// Writes to the background's log.
pub(super) fn log_line(log: &File, line: &str) {
    let mut log = log;
    let _ = writeln!(log, "{line}");
}
