//! Nodes in namespaces of this machine, each kept by a holder process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{AnyCarrier, Carrier, Start};
use crate::cancel::Cancel;
use crate::command::{self, Lines};
use crate::disk::Cut;
use crate::error::LabError;
use crate::journal::{Entry, Journal};
use crate::place::Place;
use crate::processes::{self, Process, Seen, Whose};
use crate::underlay::{self, NetOp, Wire};
use crate::{enter, holder};

pub(super) mod join;

/// How long a holder may take to be ready: a few system calls, on a busy machine.
const HOLDER_READY: Duration = Duration::from_secs(10);

/// The namespaces of one node.
#[derive(Debug)]
struct Namespaces {
    node: String,
    holder: Process,
    exe: String,
    id: String,
    state: String,
    log: PathBuf,
    cancel: Cancel,
}

impl Carrier for Namespaces {
    fn keeper(&self) -> Process {
        self.holder
    }

    fn boot_again(&self) -> Result<AnyCarrier, LabError> {
        Err(self.no_machine())
    }

    fn cut_power(&self, _seed: u64) -> Result<Cut, LabError> {
        Err(self.no_machine())
    }

    fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        let holder = self.holder.pid.to_string();
        command
            .args([enter::WORD, &self.id, &holder, "attach", "--"])
            .args(argv);
        command
    }

    fn weft(&self) -> &str {
        &self.exe
    }

    fn state(&self) -> &str {
        &self.state
    }

    fn spawn(&self, args: &[String]) -> Result<Process, LabError> {
        self.spawn_program(&self.exe, args)
    }

    fn spawn_program(&self, program: &str, args: &[String]) -> Result<Process, LabError> {
        let failed = |cause: String| {
            LabError::failed(
                format!("node {}", self.node),
                format!("{program} cannot be started: {cause}"),
                format!("see {}", self.log.display()),
            )
        };
        let mut command = Command::new(&self.exe);
        command
            .args([enter::WORD, &self.id, &self.holder.pid.to_string()])
            .arg(&self.log)
            .arg("--")
            .arg(program)
            .args(args)
            .stdin(Stdio::null());
        let deadline = Instant::now() + HOLDER_READY;
        let output =
            command::run(command, deadline, &self.cancel).map_err(|e| failed(e.to_string()))?;
        let pid = output.stdout.trim().parse().ok();
        pid.and_then(Process::of)
            .ok_or_else(|| failed(output.words()))
    }

    fn runs(&self, process: Process) -> bool {
        process.is_alive()
    }

    fn look(&self, whose: &Whose) -> Result<Vec<Seen>, LabError> {
        // This machine sees the processes of its namespaces.
        Ok(processes::look(whose))
    }

    fn proc(&self, process: Process, file: &str) -> Result<String, LabError> {
        let path = format!("/proc/{}/{file}", process.pid);
        std::fs::read_to_string(&path).map_err(LabError::io("read", path))
    }

    fn signal(&self, process: Process, signal: Signal) -> Result<(), LabError> {
        process.signal(signal);
        Ok(())
    }

    fn bring(&self, file: &Path) -> Result<String, LabError> {
        // The node sees this machine's files.
        Ok(file.to_string_lossy().into_owned())
    }

    fn copy_in(&self, from: &Path, to: &str) -> Result<(), LabError> {
        copy(from, &self.inside(to))
    }

    fn copy_out(&self, from: &str, to: &Path) -> Result<(), LabError> {
        copy(&self.inside(from), to)
    }

    fn net(&self, ops: &[NetOp]) -> Result<(), LabError> {
        underlay::apply_in(self.holder.pid, ops)
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), LabError> {
    std::fs::metadata(from).map_err(LabError::io("read", from))?;
    std::fs::copy(from, to)
        .map(drop)
        .map_err(LabError::io("write", to))
}

impl Namespaces {
    /// A path of the node as this machine sees it: its mounts are its own.
    fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.pid))
    }

    fn no_machine(&self) -> LabError {
        LabError::Refused {
            subject: format!("node {}", self.node),
            cause: "namespaces end for good and lose no power".to_owned(),
            help: "run the lab with --backend qemu".to_owned(),
        }
    }

    fn of(place: &Place, exe: &Path, id: &str, node: &str, holder: Process) -> Namespaces {
        Namespaces {
            node: node.to_owned(),
            holder,
            exe: exe.to_string_lossy().into_owned(),
            id: id.to_owned(),
            state: place.state(node).to_string_lossy().into_owned(),
            log: place.log(node),
            cancel: Cancel::never(),
        }
    }
}

pub(super) fn attach(
    place: &Place,
    exe: &Path,
    id: &str,
    node: &str,
    holder: Process,
) -> AnyCarrier {
    Arc::new(Namespaces::of(place, exe, id, node, holder))
}

pub(super) fn bring_up(
    start: &Start<'_>,
    wires: &[Wire],
    journal: &mut Journal,
) -> Result<Vec<AnyCarrier>, LabError> {
    let mut holders = Vec::new();
    let mut carriers: Vec<AnyCarrier> = Vec::new();
    for name in &start.lab.nodes {
        let carrier = make(start, name.as_str(), journal)?;
        holders.push(carrier.keeper().pid);
        carriers.push(carrier);
    }
    join::all(start, wires, &holders, journal)?;
    Ok(carriers)
}

/// The namespaces of one node, joined to nothing yet.
pub(super) fn make(
    start: &Start<'_>,
    name: &str,
    journal: &mut Journal,
) -> Result<AnyCarrier, LabError> {
    let state = start.place.state(name);
    std::fs::create_dir_all(&state).map_err(LabError::io("create the node's folder", &state))?;
    let holder = hold(start, name, name, journal)?;
    let socket = format!("/proc/{}/root/run/weft/weft.sock", holder.pid);
    let link = start.place.socket(name);
    // Of a life before this one.
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(socket, &link)
        .map_err(LabError::io("link the node's socket", link))?;
    Ok(Arc::new(Namespaces {
        cancel: start.cancel.clone(),
        ..Namespaces::of(start.place, start.exe, start.id, name, holder)
    }))
}

/// Starts a holder, in the journal before and after.
fn hold(
    start: &Start<'_>,
    node: &str,
    host_name: &str,
    journal: &mut Journal,
) -> Result<Process, LabError> {
    journal.write(&Entry::Holder {
        node: node.to_owned(),
    })?;
    let process = start_holder(start, host_name)?;
    journal.write(&Entry::Started {
        node: node.to_owned(),
        pid: process.pid,
        start: process.start,
    })?;
    Ok(process)
}

/// Starts a holder; ready when this returns.
fn start_holder(start: &Start<'_>, node: &str) -> Result<Process, LabError> {
    let failed = |cause: String| {
        LabError::failed(
            format!("node {node}"),
            cause,
            "`weft doctor` shows what this machine lacks",
        )
    };
    let mut command = Command::new(start.exe);
    command.args([holder::WORD, start.id, node]);
    let mut lines = Lines::start(command).map_err(|e| failed(e.to_string()))?;
    let deadline = Instant::now() + HOLDER_READY;
    // Two processes write here: the number and `ready` come in any order.
    let (mut pid, mut ready) = (None, false);
    while let Some(line) = lines.next(deadline) {
        match line.parse() {
            Ok(number) => pid = Some(number),
            Err(_) if line == "ready" => ready = true,
            Err(_) => {
                let cause = line.strip_prefix("error: ").unwrap_or(&line);
                return Err(failed(cause.to_owned()));
            }
        }
        if let (Some(pid), true) = (pid, ready) {
            // The launcher ends by itself; ended by us it would take the holder along.
            lines.leave();
            return Process::of(pid).ok_or_else(|| failed("the holder ended at once".to_owned()));
        }
    }
    Err(failed(format!(
        "the holder did not get ready: {}",
        lines.finish().trim()
    )))
}
