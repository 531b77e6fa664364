//! Nodes as virtual machines, each with a keeper; the relay passes their packets.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AnyCarrier, Carrier, Start};
use nix::sys::signal::Signal;

use crate::cancel::Cancel;
use crate::command;
use crate::disk::{self, Cut};
use crate::error::LabError;
use crate::journal::{Entry, Journal};
use crate::machine::protocol::Request;
use crate::machine::{self, Accelerator, Card, Kernel, Machine, Plug, Spec, guest};
use crate::place::Place;
use crate::processes::{Process, Seen, Whose};
use crate::relay::{PortSpec, process};
use crate::underlay::{self, NetOp, Wire};

/// Said of a command that a machine cannot run.
pub(crate) const LACKS_PROGRAMS: &str =
    "a machine without `packages` has no program but weft itself";
/// Where a machine keeps what the engine brings.
const BROUGHT: &str = "/var/lib/weft-lab";
/// The folder of a machine's disk, in its own.
pub(crate) const DISK: &str = "disk";
/// The node's state, inside.
const STATE: &str = "/var/lib/weft";

/// How long a machine may take to start weft and look at its processes, without acceleration.
const LOOK_WITHIN: Duration = Duration::from_secs(20);

/// The machine of one node.
#[derive(Debug)]
struct Virtual(Machine);

impl Carrier for Virtual {
    fn keeper(&self) -> Process {
        self.0.keeper()
    }

    fn boot_again(&self) -> Result<AnyCarrier, LabError> {
        Ok(Arc::new(Virtual(self.0.boot_again()?)))
    }

    fn cut_power(&self, seed: u64) -> Result<Cut, LabError> {
        disk::cut(&self.0.folder().join(DISK), seed)
    }

    fn command(&self, argv: &[&str]) -> Command {
        self.0.command(argv)
    }

    fn weft(&self) -> &str {
        guest::PROGRAM
    }

    fn state(&self) -> &str {
        STATE
    }

    /// The process's number is the machine's; its start is not known here, so it counts as 0.
    fn spawn(&self, args: &[String]) -> Result<Process, LabError> {
        self.spawn_program(guest::PROGRAM, args)
    }

    fn spawn_program(&self, program: &str, args: &[String]) -> Result<Process, LabError> {
        let mut argv = vec![program.to_owned()];
        argv.extend_from_slice(args);
        let pid = self.0.spawn(&argv)?;
        Ok(Process { pid, start: 0 })
    }

    fn look(&self, whose: &Whose) -> Result<Vec<Seen>, LabError> {
        let failed = |cause: String| {
            LabError::failed(
                format!("machine {}", self.0.name),
                format!("its processes cannot be seen: {cause}"),
                "its console and its log are beside its sockets; `weft lab inspect` names the folder",
            )
        };
        let whose = serde_json::to_string(whose).map_err(|e| failed(e.to_string()))?;
        let line = [guest::PROGRAM, guest::WORD, guest::LOOK, &whose];
        let deadline = Instant::now() + LOOK_WITHIN;
        let output = command::run(self.0.command(&line), deadline, &Cancel::never())
            .map_err(|e| failed(e.to_string()))?;
        serde_json::from_str(&output.stdout).map_err(|_| failed(output.words()))
    }

    fn proc(&self, process: Process, file: &str) -> Result<String, LabError> {
        self.0.read(&format!("/proc/{}/{file}", process.pid))
    }

    fn runs(&self, process: Process) -> bool {
        let ask = Request::Signal {
            pid: process.pid,
            start: process.start,
            signal: 0,
        };
        // A machine that does not answer is no proof that its agent has ended.
        !matches!(self.0.ask(&ask), Ok(0))
    }

    fn signal(&self, process: Process, signal: Signal) -> Result<(), LabError> {
        let ask = Request::Signal {
            pid: process.pid,
            start: process.start,
            signal: signal as i32,
        };
        self.0.ask(&ask).map(drop)
    }

    fn bring(&self, file: &Path) -> Result<String, LabError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let there = format!("{BROUGHT}/{name}");
        self.0.copy_in(file, &there, 0o600)?;
        Ok(there)
    }

    fn copy_in(&self, from: &Path, to: &str) -> Result<(), LabError> {
        let mode = std::fs::metadata(from).map_err(LabError::io("read", from))?;
        self.0.copy_in(from, to, mode.permissions().mode() & 0o777)
    }

    fn copy_out(&self, from: &str, to: &Path) -> Result<(), LabError> {
        self.0.copy_out(from, to)
    }

    fn net(&self, ops: &[NetOp]) -> Result<(), LabError> {
        self.0.ask(&Request::Net { ops: ops.to_vec() }).map(drop)
    }
}

pub(super) fn attach(
    place: &Place,
    exe: &Path,
    id: &str,
    node: &str,
    keeper: Process,
) -> AnyCarrier {
    let folder = place.node(node);
    Arc::new(Virtual(Machine::attach(node, &folder, exe, id, keeper)))
}

pub(super) fn bring_up(
    start: &Start<'_>,
    wires: &[Wire],
    journal: &mut Journal,
) -> Result<Vec<AnyCarrier>, LabError> {
    let kernels = kernels(start)?;
    let accelerator = accelerator(start, &kernels)?;
    let archives = archives(start, &kernels)?;
    let images = images(start)?;
    let joins: Vec<Vec<usize>> = if wires.is_empty() {
        vec![(0..start.lab.nodes.len()).collect()]
    } else {
        wires.iter().map(|wire| wire.ends.clone()).collect()
    };
    relay(start, &joins, journal)?;

    let mut specs = Vec::new();
    for (index, name) in start.lab.nodes.iter().enumerate() {
        let node = name.as_str();
        let wanted = &start.lab.machines[index];
        let kernel = &kernels[&wanted.kernel];
        specs.push(Spec {
            name: node.to_owned(),
            folder: start.place.node(node),
            weft_exe: start.exe.to_owned(),
            id: start.id.to_owned(),
            kernel: kernel.clone(),
            without: Vec::new(),
            initramfs: Some(archives[&wanted.kernel].clone()),
            memory_mib: wanted.memory_mib,
            cpus: 1,
            cards: cards(index, &joins),
            disk: wanted.disk_mib.map(|_| DISK.to_owned()),
            packages: images.get(&wanted.packages).cloned(),
            accelerator: Some(accelerator),
            bound: false,
        });
        journal.write(&Entry::Holder {
            node: node.to_owned(),
        })?;
    }
    for (spec, wanted) in specs.iter().zip(&start.lab.machines) {
        if let Some(size) = wanted.disk_mib {
            let folder = spec.folder.join(DISK);
            disk::make(&folder, size)?;
            // Its process has the lab's id, by which `down` finds it.
            disk::start(start.exe, start.id, &folder)?;
        }
    }
    start.progress.say("booting a machine for each node");
    let booted: Vec<Result<Machine, LabError>> = std::thread::scope(|scope| {
        let boots: Vec<_> = specs
            .iter()
            .map(|spec| scope.spawn(move || Machine::boot(spec)))
            .collect();
        let joined = boots.into_iter().map(|boot| boot.join());
        joined
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut carriers: Vec<AnyCarrier> = Vec::new();
    for machine in booted {
        let machine = machine?;
        let keeper = machine.keeper();
        journal.write(&Entry::Started {
            node: machine.name.clone(),
            pid: keeper.pid,
            start: keeper.start,
        })?;
        carriers.push(Arc::new(Virtual(machine)));
    }
    Ok(carriers)
}

/// Every kernel that the file names, once.
fn kernels(start: &Start<'_>) -> Result<BTreeMap<String, Kernel>, LabError> {
    let mut found = BTreeMap::new();
    for machine in &start.lab.machines {
        if !found.contains_key(&machine.kernel) {
            let kernel = Kernel::find(&machine.kernel, &|what| start.progress.say(what))?;
            found.insert(machine.kernel.clone(), kernel);
        }
    }
    Ok(found)
}

/// One answer for the lab: the processor only if it can carry out every kernel of it.
fn accelerator(
    start: &Start<'_>,
    kernels: &BTreeMap<String, Kernel>,
) -> Result<Accelerator, LabError> {
    for kernel in kernels.values() {
        if machine::accelerator(kernel, start.exe)? == Accelerator::Tcg {
            return Ok(Accelerator::Tcg);
        }
    }
    Ok(Accelerator::Kvm)
}

/// One archive a kernel, in the lab's folder.
fn archives(
    start: &Start<'_>,
    kernels: &BTreeMap<String, Kernel>,
) -> Result<BTreeMap<String, PathBuf>, LabError> {
    let mut made = BTreeMap::new();
    for (number, (wanted, kernel)) in kernels.iter().enumerate() {
        let path = start.place.dir().join(format!("initramfs{number}"));
        machine::write_initramfs(&path, start.exe, kernel, &[])?;
        made.insert(wanted.clone(), path);
    }
    Ok(made)
}

/// One image for each set of packages.
fn images(start: &Start<'_>) -> Result<BTreeMap<Vec<String>, PathBuf>, LabError> {
    let mut made = BTreeMap::new();
    for machine in &start.lab.machines {
        let wanted = &machine.packages;
        if !wanted.is_empty() && !made.contains_key(wanted) {
            let image = machine::packages::image(wanted, &|what| start.progress.say(what))?;
            made.insert(wanted.clone(), image);
        }
    }
    Ok(made)
}

/// The cards of a node, in the order of the links it is on.
fn cards(node: usize, joins: &[Vec<usize>]) -> Vec<Card> {
    let on = joins
        .iter()
        .enumerate()
        .filter(|(_, join)| join.contains(&node));
    on.enumerate()
        .map(|(card, (join, _))| Card {
            // Locally administered, as QEMU's own; unique by link and node.
            mac: format!("52:54:00:00:{join:02x}:{:02x}", node + 1),
            plug: Plug::Sockets {
                local: card_socket(card),
                remote: format!("../{}/{}", process::FOLDER, port_socket(join, node)),
            },
        })
        .collect()
}

/// The socket of a node's card, in its machine's folder.
fn card_socket(card: usize) -> String {
    format!("eth{card}.sock")
}

/// The socket of the relay's end, in the relay's folder.
fn port_socket(join: usize, node: usize) -> String {
    format!("{join}-{node}.sock")
}

/// Starts the relay that joins the machines; its sockets are there when this returns.
fn relay(start: &Start<'_>, joins: &[Vec<usize>], journal: &mut Journal) -> Result<(), LabError> {
    let links = joins.iter().enumerate().map(|(number, nodes)| {
        let link = start.lab.links.get(number);
        underlay::link_spec(start.lab, link, nodes, |node| {
            let before = joins[..number].iter().filter(|one| one.contains(&node));
            let card = card_socket(before.count());
            PortSpec::Unix {
                local: port_socket(number, node).into(),
                remote: format!("../{}/{card}", start.lab.nodes[node]).into(),
            }
        })
    });
    underlay::start_relay(start, links.collect(), journal)
}
