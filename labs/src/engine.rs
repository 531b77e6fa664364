//! Up, steps, down: the commands of `weft lab`.
//!
//! Owns: the order of things and what is printed around them. A lab stays up when its engine is
//! killed; `down` finds all of it by the journal. Never: talks to an agent except by the binary.

use std::io::IsTerminal;
use std::path::Path;

use serde_json::json;

use crate::backend::Backend;
use crate::builtin;
use crate::cancel::Cancel;
use crate::error::LabError;
use crate::machine::Kernel;
use crate::options::{Host, Outcome, RunOptions};
use crate::place::Place;
use crate::report::{self, Report};
use crate::steps::{self, ByHand};

mod agents;
mod bring_up;
mod contents;
mod converge;
mod etcd;
mod fits;
mod graph;
mod inside;
mod ledger;
mod life;
mod links;
mod list;
mod plan;
mod snapshot;
mod tear_down;

pub(crate) use agents::{agent_of, arguments as agent_arguments};
pub(crate) use bring_up::{Running, lab_id};
pub(crate) use contents::containers;
pub use graph::graph;
pub use inside::{cp, exec, logs, shell};
pub use life::{kill, start};
pub use plan::print as plan;
pub use snapshot::{restore, snapshot};

/// `weft lab run`: up, steps, down. Prints the report; an error is one of the lab's own making, a
/// step that does not hold is an [`Outcome`].
pub fn run(options: &RunOptions) -> Result<Outcome, LabError> {
    let by_hand = by_hand(options)?;
    let started = begin(options);
    if let (Err(error), Some(path)) = (&started, &options.junit) {
        let name = options.name.as_deref().unwrap_or(&options.source);
        report::write_junit_broken(path, name, error)?;
    }
    let (mut running, mut report, cancel) = started?;
    let outcome = steps::run_all(&mut running, &mut report, by_hand, &cancel);
    report.ladder = steps::ladder(&running);
    report.links = report::ask_links(&running.place).map_err(|error| error.to_string());
    let interrupted = cancel.is_set();
    let written = options
        .junit
        .as_deref()
        .map(|path| report.write_junit(path));
    let keep = options.keep || options.keep_on_failure && !outcome.all_passed();
    if keep && !interrupted {
        report.print(&outcome);
        report.print_next(&running);
        return written.unwrap_or(Ok(())).map(|()| outcome);
    }
    progress(&options.host, "taking the lab down");
    let place = running.place.clone();
    drop(running);
    let removed = tear_down::down(&place);
    if !interrupted {
        report.print(&outcome);
    }
    removed?;
    if interrupted {
        return Err(LabError::Interrupted(place.name().to_owned()));
    }
    written.unwrap_or(Ok(())).map(|()| outcome)
}

fn by_hand(options: &RunOptions) -> Result<ByHand, LabError> {
    match (options.step, std::io::stdin().is_terminal()) {
        (false, _) => Ok(ByHand::Not),
        (true, true) => Ok(ByHand::Asked),
        (true, false) => Err(LabError::Refused {
            subject: format!("lab {}", options.source),
            cause: "--step waits for a person, and standard input is no terminal".to_owned(),
            help: "run it in a terminal, or leave --step out; --only runs single steps".to_owned(),
        }),
    }
}

/// Whether the nodes of this lab run on this machine's own kernel, and need what `weft doctor` looks for.
pub fn runs_here(options: &RunOptions) -> Result<bool, LabError> {
    let (lab, _) = builtin::read(&options.source, options.backend.as_deref())?;
    Ok(lab.backend == Backend::Netns)
}

/// `weft lab up`: leaves the lab up, runs no steps. One that is up becomes what the file says.
pub fn up(options: &RunOptions) -> Result<(), LabError> {
    let (lab, text) = converge::read(options)?;
    if converge::is_up(&Place::new(&options.host.root, &lab.name))? {
        return converge::up(options, &lab, &text);
    }
    let (running, report, _) = begin(options)?;
    report.print_up(&running);
    report.print_next(&running);
    Ok(())
}

fn begin(options: &RunOptions) -> Result<(Running, Report, Cancel), LabError> {
    let (mut lab, text) = builtin::read(&options.source, options.backend.as_deref())?;
    if let Some(name) = &options.name {
        lab.name = check_name(name)?;
    }
    lab.keep_only(&options.only)?;
    need_root(&lab.name, lab.backend)?;
    if lab.etcd {
        etcd::program()?;
    }
    fits::check(&lab)?;
    let cancel = Cancel::on_signals()?;
    let mut report = Report::new(&lab, options.host.json);
    let place = Place::new(&options.host.root, &lab.name);
    let host = &options.host;
    let brought = bring_up::bring_up(host, lab, &text, &cancel, &mut report, &|what| {
        progress(host, what)
    });
    match brought {
        Ok(running) => Ok((running, report, cancel)),
        // The lab that was refused is not ours to take down.
        Err(bring_up::Failure::Refused(error)) => Err(error),
        Err(bring_up::Failure::Broken(error)) => {
            progress(host, "taking the lab down");
            if let Err(second) = tear_down::down(&place) {
                eprintln!("{second}");
            }
            if cancel.is_set() {
                return Err(LabError::Interrupted(place.name().to_owned()));
            }
            Err(error)
        }
    }
}

/// `weft lab down NAME`: removes whatever the journal tells of, and says what that was.
pub fn down(host: &Host, name: &str) -> Result<(), LabError> {
    let name = check_name(name)?;
    let found = list::Found::read(host, &name)?;
    need_root(&name, found.backend)?;
    let place = Place::new(&host.root, &name);
    let removed = tear_down::down(&place)?;
    if host.json {
        println!("{}", removed.json());
    } else {
        println!("{removed}");
    }
    Ok(())
}

/// `weft lab ls`.
pub fn ls(host: &Host) -> Result<(), LabError> {
    list::print(host)
}

/// `weft lab kernel`: brings what virtual machines boot, and says where it is.
pub fn kernel(host: &Host, wanted: &str) -> Result<(), LabError> {
    let found = Kernel::find(wanted, &|what| progress(host, what))?;
    let modules = found.modules.as_deref().unwrap_or(Path::new(""));
    if host.json {
        let kernel = json!({"kernel": found.release, "image": found.image, "modules": modules});
        println!("{kernel}");
        return Ok(());
    }
    println!("kernel   {}", found.release);
    println!("image    {}", found.image.display());
    println!("modules  {}", modules.display());
    Ok(())
}

/// `weft lab inspect NAME`.
pub fn inspect(host: &Host, name: &str) -> Result<(), LabError> {
    list::inspect(host, &check_name(name)?)
}

fn check_name(name: &str) -> Result<String, LabError> {
    match name.parse::<weft_overlay::NodeName>() {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(LabError::NotFound {
            subject: format!("lab {name:?}"),
            cause: "this cannot be a lab's name".to_owned(),
            help: "use 1 to 63 of a-z, 0-9 and '-', not first or last".to_owned(),
        }),
    }
}

/// Machines are programs like others; namespaces are not.
fn need_root(name: &str, backend: Backend) -> Result<(), LabError> {
    if backend == Backend::Qemu || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(LabError::failed(
        format!("lab {name}"),
        "it needs root: it makes namespaces, network devices and BPF programs",
        "run the same command with sudo, or on virtual machines with --backend qemu",
    ))
}

/// Says what is being done, to a person who waits.
fn progress(host: &Host, what: &str) {
    if !host.json && std::io::stderr().is_terminal() {
        eprintln!("  {what} ...");
    }
}
