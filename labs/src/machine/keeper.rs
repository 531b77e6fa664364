//! The process that keeps a machine: hidden `weft lab-machine`.
//!
//! It starts QEMU, which ends with it, waits until the guest says that it is ready, and then passes frames between
//! the guest and any number of clients at the machine's socket. It ends when QEMU ends. Or it starts QEMU with the
//! state of a machine that was saved, and waits for the word to go (`standstill`).
//!
//! Threads: the guest's reader, the doors for clients, for the agent's API and for the engine, and two a client; all end with the process. The guest's reader
//! never waits for a client: a client's queue holds what its window allows, and one that overruns it is let go.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::protocol::{FRAMES_WAITING, Frame, Hello, Kind, MACHINE};
use super::qemu::{CONTROL, MONITOR, SAID};
use super::qmp::{self, Monitor};

mod standstill;

use standstill::Keeper;
pub(super) use standstill::{Frozen, LOADED};

/// The hidden word of the command line.
pub const WORD: &str = "lab-machine";
/// Where clients knock, in the machine's folder.
pub(crate) const SOCKET: &str = "guest.sock";
/// The agent's API, as a lab of namespaces has it, in the machine's folder; and where it is inside.
const API: (&str, &str) = ("weft.sock", "/run/weft/weft.sock");
/// What to start, in the machine's folder.
pub(super) const PLAN: &str = "machine.json";

/// What a keeper starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// QEMU and its arguments.
    pub(super) command: Vec<String>,
    /// The process that started its keeper, if the machine is to end with it.
    pub(super) bound_to: Option<u32>,
}

/// `lab-machine ID keep FOLDER [STATE]`, and itself again as `lab-machine ID qemu PARENT -- COMMAND...`; for clients
/// `lab-machine ID exec FOLDER -- COMMAND...`.
pub fn main(args: &[String]) -> ! {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        [id, "keep", folder] => keep(id, Path::new(folder), None),
        [id, "keep", folder, state] => keep(id, Path::new(folder), Some(Path::new(state))),
        [_, "qemu", parent, "--", program, ..] => become_qemu(parent, program, &args[5..]),
        [_, "exec", folder, "--", _, ..] => super::client::exec(Path::new(folder), &args[4..]),
        _ => Err(anyhow::anyhow!(
            "`weft {WORD}` is started by `weft lab`; it is not for people"
        )),
    };
    if let Err(error) = done {
        if words.get(1) == Some(&"keep") {
            // The engine reads this line; there is nobody else to tell.
            let _ = writeln!(std::io::stdout(), "error: {error:#}");
        } else {
            eprintln!("error: {error:#}");
        }
        std::process::exit(super::client::NOT_STARTED);
    }
    std::process::exit(0)
}

/// The word of a parent's death reaches who has asked for it; who asked too late sees another parent.
fn end_with(parent: u32) -> anyhow::Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("ask to end with the parent")?;
    if parent_id() != parent {
        bail!("the parent has ended");
    }
    Ok(())
}

fn become_qemu(parent: &str, program: &str, args: &[String]) -> anyhow::Result<()> {
    end_with(parent.parse().context("process number of the parent")?)?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("start {program}"))
}

fn keep(id: &str, folder: &Path, state: Option<&Path>) -> anyhow::Result<()> {
    let state = state
        .map(File::open)
        .transpose()
        .context("the saved state")?;
    std::env::set_current_dir(folder).with_context(|| folder.display().to_string())?;
    let plan: Plan = serde_json::from_slice(&std::fs::read(PLAN).context(PLAN)?).context(PLAN)?;
    // A session of its own, so that Ctrl-C at the engine's terminal ends the engine alone.
    nix::unistd::setsid().context("leave the terminal")?;
    if let Some(parent) = plan.bound_to {
        end_with(parent)?;
    }
    let (control, monitor) = (listen(CONTROL)?, listen(MONITOR)?);
    let said = File::create(SAID).context(SAID)?;
    let exe = std::env::current_exe().context("find the weft binary")?;
    let own = std::process::id().to_string();
    // The parent whose death ends QEMU is this thread, the process's first: it waits below to the end.
    let mut qemu = Command::new(exe)
        .args([WORD, id, "qemu", &own, "--"])
        .args(&plan.command)
        .args(state.iter().flat_map(|_| qmp::WAITING))
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .spawn()
        .context("start QEMU")?;
    std::thread::spawn(move || {
        if let Err(error) = serve(&control, &monitor, state) {
            println!("error: {error:#}");
            std::process::exit(1);
        }
    });
    let status = qemu.wait().context("wait for QEMU")?;
    let said = std::fs::read_to_string(SAID).unwrap_or_default();
    bail!("QEMU ended ({status}) {}", said.trim())
}

fn listen(name: &str) -> anyhow::Result<UnixListener> {
    // Of an earlier life of the machine.
    let _ = std::fs::remove_file(name);
    UnixListener::bind(name).with_context(|| format!("make the socket {name}"))
}

/// All clients by session.
type Clients = Arc<Mutex<BTreeMap<u32, SyncSender<Frame>>>>;
/// Way into the guest.
type Guest = Arc<Mutex<UnixStream>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves from the guest's first word to its last.
fn serve(
    control: &UnixListener,
    monitor: &UnixListener,
    state: Option<File>,
) -> anyhow::Result<()> {
    let (stream, _) = control.accept().context("wait for QEMU")?;
    let (monitor, _) = monitor.accept().context("wait for QEMU")?;
    let mut monitor = Monitor::greet(monitor)?;
    let mut from = BufReader::new(stream.try_clone()?);
    if let Some(state) = state {
        standstill::load(&mut monitor, &state, &stream)?;
    }
    let first = Frame::read(&mut from).context("wait for the guest")?;
    if first.session != MACHINE || first.kind != Kind::Done {
        bail!("the guest speaks another protocol");
    }
    let hello: Hello = serde_json::from_slice(&first.bytes).context("the guest's first word")?;
    let clients = Clients::default();
    let guest: Guest = Arc::new(Mutex::new(stream));
    let (keeper, held) = Keeper::new(monitor, guest.clone());
    let (door, desk) = (listen(SOCKET)?, listen(standstill::DESK)?);
    let api = listen(API.0)?;
    println!("ready {}", serde_json::to_string(&hello)?);
    detach_output()?;
    let (others, way, last) = (clients.clone(), guest.clone(), hello.sessions);
    std::thread::spawn(move || admit(&door, last, &others, &way));
    std::thread::spawn(move || keeper.serve(&desk));
    std::thread::spawn(move || {
        for stream in api.incoming().filter_map(Result::ok) {
            // An agent that is not there hangs up, as it would here.
            std::thread::spawn(move || super::client::dial(Path::new("."), stream, API.1));
        }
    });
    while let Ok(frame) = Frame::read(&mut from) {
        if frame.kind == Kind::Hold {
            // Nobody waits any more when its client has left.
            let _ = held.try_send(frame.bytes);
        } else {
            pass(frame, &clients, &guest);
        }
    }
    // QEMU is about to end; the first thread waits for it.
    locked(&clients).clear();
    Ok(())
}

pub(crate) fn detach_output() -> anyhow::Result<()> {
    std::io::stdout().flush()?;
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// A frame of the guest goes to its client.
fn pass(frame: Frame, clients: &Clients, guest: &Guest) {
    let (session, last) = (frame.session, frame.kind == Kind::Done);
    let mut all = locked(clients);
    let Some(client) = all.get(&session) else {
        return;
    };
    let lost = client.try_send(frame).is_err();
    if lost || last {
        all.remove(&session);
    }
    drop(all);
    if lost && !last {
        // Not by the reader itself: the way in may be held until the reader has heard that the guest is silent.
        let guest = guest.clone();
        std::thread::spawn(move || tell(&guest, &Frame::new(session, Kind::Close, [])));
    }
}

fn tell(guest: &Guest, frame: &Frame) {
    // Fails only when QEMU has ended, which ends us.
    let _ = frame.write(&mut *locked(guest));
}

/// Lets clients in, each with a session of its own.
fn admit(door: &UnixListener, last: u32, clients: &Clients, guest: &Guest) {
    for (number, stream) in (1..).zip(door.incoming().filter_map(Result::ok)) {
        let session = last + number;
        let (send, receive) = sync_channel(FRAMES_WAITING);
        locked(clients).insert(session, send);
        let (clients, guest) = (clients.clone(), guest.clone());
        std::thread::spawn(move || {
            let Ok(out) = stream.try_clone() else { return };
            std::thread::spawn(move || write_to(out, &receive));
            read_from(stream, session, &guest);
            if locked(&clients).remove(&session).is_some() {
                tell(&guest, &Frame::new(session, Kind::Close, []));
            }
        });
    }
}

fn write_to(mut client: UnixStream, frames: &Receiver<Frame>) {
    for frame in frames {
        if frame.write(&mut client).is_err() {
            break;
        }
    }
    // Nothing more comes; the client's own half is still read until it hangs up.
    let _ = client.shutdown(std::net::Shutdown::Write);
}

fn read_from(client: UnixStream, session: u32, guest: &Guest) {
    let mut from = BufReader::new(client);
    while let Ok(mut frame) = Frame::read(&mut from) {
        frame.session = session;
        tell(guest, &frame);
    }
}
