//! Virtual machines: a kernel, and this very binary as everything else.
//!
//! - `kernel`, `modules`: what is booted. `program`, `cpio`, `initramfs`: what is inside.
//! - `packages`: programs of the distribution beside it.
//! - `qemu`: the command line. `accelerator`: whether the processor can carry it out.
//! - `keeper`: the process that holds a machine and passes frames (`protocol`) between its guest and clients.
//! - `saved`: a machine that stands still, is saved and is loaded. `qmp`: QEMU's monitor.
//! - `guest`: weft as process 1 in the machine. `client`: commands, files and changes from outside.
//!
//! Readiness is said by the guest, never slept for. A machine ends with its keeper, and a keeper is found by the lab's
//! id on its command line, so nothing stays behind. The relay joins machines.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

mod accelerator;
pub(crate) mod client;
mod cpio;
pub(crate) mod guest;
mod initramfs;
pub(crate) mod keeper;
mod kernel;
mod modules;
pub mod packages;
mod program;
pub(crate) mod protocol;
mod qemu;
mod qmp;
mod saved;

pub(crate) use accelerator::probe as accelerator;
pub(crate) use initramfs::write as write_initramfs;
pub use kernel::{Kernel, cache};
pub use qemu::{Accelerator, Card, Plug};
pub(crate) use saved::{Loaded, Standing};

use crate::command::Lines;
use crate::error::LabError;
use crate::processes::Process;
use keeper::Plan;
use protocol::{Hello, Request};

/// The archive that a machine boots, when it has one of its own.
const INITRAMFS: &str = "initramfs";
/// How long a machine may take to boot: without acceleration, on a machine that does other work too.
const BOOT_WITHIN: Duration = Duration::from_secs(60);
/// How long a request may take that the guest answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long processes may take to end after SIGKILL.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Lines of the console in an error.
const TAIL: usize = 20;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its host name.
    pub name: String,
    /// Its folder: sockets, console, log. Made if it is not there.
    pub folder: PathBuf,
    /// The weft binary that runs here and inside.
    pub weft_exe: PathBuf,
    /// On the command line of all its processes, by which they are found; 128 random bits in hex.
    pub id: String,
    /// What it boots.
    pub kernel: Kernel,
    /// Modules of the kernel that it must not have.
    pub without: Vec<String>,
    /// An archive that several machines share; none: it gets one of its own.
    pub initramfs: Option<PathBuf>,
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// Its processors.
    pub cpus: u32,
    /// Its network cards, `eth0` first.
    pub cards: Vec<Card>,
    /// Its disk: a folder as [`crate::disk::make`] makes it, below its own, relative to it; served by the disk's process.
    /// What weft keeps is on it. None: all is in memory.
    pub disk: Option<String>,
    /// An image of packages, as [`packages::image`] makes it: the programs that it has beside weft.
    pub packages: Option<PathBuf>,
    /// Who carries out its instructions; none: found out by booting, once.
    pub accelerator: Option<Accelerator>,
    /// Whether it ends with the thread that boots it; else it stays until it is ended.
    pub bound: bool,
}

impl Spec {
    /// A machine of 512 MiB and one processor, bound to who boots it.
    pub fn new(
        name: &str,
        folder: &Path,
        weft_exe: &Path,
        kernel: Kernel,
    ) -> Result<Spec, LabError> {
        Ok(Spec {
            name: name.to_owned(),
            folder: folder.to_owned(),
            weft_exe: weft_exe.to_owned(),
            id: crate::engine::lab_id()?,
            kernel,
            without: Vec::new(),
            initramfs: None,
            memory_mib: 512,
            cpus: 1,
            cards: Vec::new(),
            disk: None,
            packages: None,
            accelerator: None,
            bound: true,
        })
    }
}

/// A machine that is up.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// The release of the kernel that runs in it.
    pub kernel: String,
    /// Modules that it refused, with the reason.
    pub not_loaded: Vec<String>,
    /// How long it took from the start of QEMU until it served.
    pub booted_in: Duration,
    folder: PathBuf,
    weft_exe: PathBuf,
    id: String,
    keeper: Process,
}

impl Machine {
    /// Boots it; ready when this returns. What was begun is ended when it fails.
    pub fn boot(spec: &Spec) -> Result<Machine, LabError> {
        let accelerator = match spec.accelerator {
            Some(accelerator) => accelerator,
            None => accelerator::probe(&spec.kernel, &spec.weft_exe)?,
        };
        boot(spec, accelerator, BOOT_WITHIN)
    }

    /// A machine that runs already, known by its folder and its keeper; what its kernel said is not asked again.
    pub(crate) fn attach(
        name: &str,
        folder: &Path,
        weft_exe: &Path,
        id: &str,
        keeper: Process,
    ) -> Machine {
        Machine {
            name: name.to_owned(),
            kernel: String::new(),
            not_loaded: Vec::new(),
            booted_in: Duration::ZERO,
            folder: folder.to_owned(),
            weft_exe: weft_exe.to_owned(),
            id: id.to_owned(),
            keeper,
        }
    }

    /// Boots it anew after its end, as it was made: the same kernel, cards and disk. Ready when this returns.
    pub fn boot_again(&self) -> Result<Machine, LabError> {
        let life = Life {
            name: &self.name,
            folder: &self.folder,
            weft_exe: &self.weft_exe,
            id: &self.id,
        };
        start(&life, BOOT_WITHIN)
    }

    /// A command inside that shares our standard streams; its exit code is the command's.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(&self.weft_exe);
        command
            .args([keeper::WORD, &self.id, "exec"])
            .arg(&self.folder)
            .arg("--")
            .args(argv);
        command
    }

    /// Runs a command inside to its end.
    pub fn run(&self, argv: &[&str]) -> Result<Output, LabError> {
        self.command(argv)
            .stdin(Stdio::null())
            .output()
            .map_err(LabError::io("start", &self.weft_exe))
    }

    /// Copies a file of this machine in.
    pub fn copy_in(&self, from: &Path, to: &str, mode: u32) -> Result<(), LabError> {
        client::put(&self.folder, from, to, mode, ANSWER_WITHIN)
            .map(drop)
            .map_err(|cause| self.failed(format!("{to} cannot be written: {cause}")))
    }

    /// Copies a file of the machine out.
    pub fn copy_out(&self, from: &str, to: &Path) -> Result<(), LabError> {
        client::get(&self.folder, from, to, ANSWER_WITHIN)
            .map(drop)
            .map_err(|cause| self.failed(format!("{from} cannot be read: {cause}")))
    }

    /// A file of the machine as text.
    pub(crate) fn read(&self, path: &str) -> Result<String, LabError> {
        let mut bytes = Vec::new();
        client::read(&self.folder, path, &mut bytes, ANSWER_WITHIN)
            .map_err(|cause| self.failed(format!("{path} cannot be read: {cause}")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Starts a program inside, in the background; its number there.
    pub(crate) fn spawn(&self, argv: &[String]) -> Result<i32, LabError> {
        let request = Request::Spawn {
            argv: argv.to_vec(),
        };
        self.ask(&request).map(|pid| pid as i32)
    }

    /// Asks for something that is answered at once.
    pub(crate) fn ask(&self, request: &Request) -> Result<u64, LabError> {
        client::ask(&self.folder, request, ANSWER_WITHIN).map_err(|cause| self.failed(cause))
    }

    /// Switches it off as its own kernel does, and waits until it has ended.
    pub fn power_off(&self) -> Result<(), LabError> {
        self.ask(&Request::PowerOff)?;
        self.wait_gone("it does not switch off")
    }

    /// Ends it as a power cut would, as far as it can tell.
    pub fn kill(&self) -> Result<(), LabError> {
        self.keeper.signal(Signal::SIGKILL);
        self.wait_gone("its process does not end")
    }

    /// Sets its time of day to ours, so that times of several machines compare.
    pub(crate) fn set_clock(&self) -> Result<(), LabError> {
        client::set_clock(&self.folder, ANSWER_WITHIN)
            .map(drop)
            .map_err(|cause| self.failed(format!("its clock cannot be set: {cause}")))
    }

    /// The last lines of its console.
    pub fn console(&self) -> String {
        console(&self.folder)
    }

    /// Its sockets, console and log.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process that keeps it.
    pub(crate) fn keeper(&self) -> Process {
        self.keeper
    }

    fn wait_gone(&self, why: &str) -> Result<(), LabError> {
        let deadline = Instant::now() + GONE_WITHIN;
        while !crate::processes::carrying_in(&self.id, &self.folder).is_empty()
            || self.keeper.is_alive()
        {
            if Instant::now() >= deadline {
                return Err(self.failed(why));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn failed(&self, cause: impl ToString) -> LabError {
        LabError::failed(
            format!("machine {}", self.name),
            cause,
            format!(
                "its console is {}",
                self.folder.join(qemu::CONSOLE).display()
            ),
        )
    }
}

fn console(folder: &Path) -> String {
    crate::node::tail(&folder.join(qemu::CONSOLE), TAIL)
}

fn boot(spec: &Spec, accelerator: Accelerator, within: Duration) -> Result<Machine, LabError> {
    let folder = &spec.folder;
    std::fs::create_dir_all(folder).map_err(LabError::io("create the machine's folder", folder))?;
    let initramfs = match &spec.initramfs {
        Some(shared) => shared.clone(),
        None => {
            let own = folder.join(INITRAMFS);
            initramfs::write(&own, &spec.weft_exe, &spec.kernel, &spec.without)?;
            own
        }
    };
    let arguments = qemu::arguments(&qemu::Parts {
        name: &spec.name,
        id: &spec.id,
        kernel: &spec.kernel,
        initramfs: &initramfs.to_string_lossy(),
        memory_mib: spec.memory_mib,
        cpus: spec.cpus,
        cards: &spec.cards,
        disk: spec.disk.as_deref(),
        packages: spec.packages.as_deref(),
        accelerator,
    });
    let program = qemu::program()?.to_string_lossy().into_owned();
    let plan = Plan {
        command: std::iter::once(program).chain(arguments).collect(),
        bound_to: spec.bound.then(std::process::id),
    };
    let path = folder.join(keeper::PLAN);
    let text = serde_json::to_vec(&plan).unwrap_or_default();
    std::fs::write(&path, text).map_err(LabError::io("write", path))?;
    let life = Life {
        name: &spec.name,
        folder: &spec.folder,
        weft_exe: &spec.weft_exe,
        id: &spec.id,
    };
    start(&life, within)
}

/// What a machine is started by, once its folder says what it is made of.
struct Life<'a> {
    name: &'a str,
    folder: &'a Path,
    weft_exe: &'a Path,
    id: &'a str,
}

fn start(life: &Life<'_>, within: Duration) -> Result<Machine, LabError> {
    let (begun, deadline) = (Instant::now(), Instant::now() + within);
    let (lines, keeper) = open(life, None)?;
    serving(life, lines, keeper, begun, deadline)
}

/// Starts a machine's keeper; to boot it, or to load it from a file.
fn open(life: &Life<'_>, state: Option<&Path>) -> Result<(Lines, Process), LabError> {
    let mut command = Command::new(life.weft_exe);
    command
        .args([keeper::WORD, life.id, "keep"])
        .arg(life.folder)
        .args(state);
    let lines = Lines::start(command).map_err(|e| not_up(life, &e.to_string()))?;
    let keeper = lines
        .process()
        .ok_or_else(|| not_up(life, "its keeper ended at once"))?;
    Ok((lines, keeper))
}

/// Waits until the guest serves, and sets its clock.
fn serving(
    life: &Life<'_>,
    mut lines: Lines,
    keeper: Process,
    begun: Instant,
    deadline: Instant,
) -> Result<Machine, LabError> {
    let said = lines.next(deadline);
    let hello = match &said {
        Some(line) => match line.strip_prefix("ready ") {
            Some(hello) => serde_json::from_str::<Hello>(hello).map_err(|e| e.to_string()),
            None => Err(line.strip_prefix("error: ").unwrap_or(line).to_owned()),
        },
        None => Err(format!(
            "it was not ready within {} s",
            begun.elapsed().as_secs()
        )),
    };
    match hello {
        Ok(hello) => {
            lines.leave_running();
            let machine = Machine {
                name: life.name.to_owned(),
                kernel: hello.kernel,
                not_loaded: hello.not_loaded,
                booted_in: begun.elapsed(),
                folder: life.folder.to_owned(),
                weft_exe: life.weft_exe.to_owned(),
                id: life.id.to_owned(),
                keeper,
            };
            machine.set_clock()?;
            Ok(machine)
        }
        Err(cause) => {
            // Ends the keeper, and QEMU with it.
            drop(lines);
            Err(not_up(life, &cause))
        }
    }
}

fn not_up(life: &Life<'_>, cause: &str) -> LabError {
    let console = console(life.folder);
    let shown = if console.trim().is_empty() {
        "its console is empty".to_owned()
    } else {
        format!("the end of its console:\n{console}")
    };
    LabError::failed(
        format!("machine {}", life.name),
        format!("{cause}; {shown}"),
        format!(
            "everything it said is in {}, what it is made of in {}",
            life.folder.join(qemu::CONSOLE).display(),
            life.folder.join(keeper::PLAN).display()
        ),
    )
}
