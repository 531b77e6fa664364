//! `weft lab snapshot` and `restore`: all machines and links of a lab at one instant, as files, and back.
//!
//! The links stand first, then the machines, so nothing is on its way to a machine that stands already; what a machine
//! sends before it stands too waits at its link and is saved there. Owns: the order, and what is in a snapshot's
//! folder. Never: how a machine or a link is saved; see `machine::saved`, `relay` and `disk`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::list::Found;
use super::{check_name, progress};
use crate::backend::Backend;
use crate::disk;
use crate::error::LabError;
use crate::journal::{Entry, Journal, RELAY};
use crate::machine::{Loaded, Machine, Standing};
use crate::options::Host;
use crate::place::Place;
use crate::processes;
use crate::relay::{Client, Reply, Request, process};

/// Files in a snapshot's folder: what it is, and what was true of the lab then.
const ABOUT: &str = "snapshot.json";
const JOURNAL: &str = "journal";
const SOURCE: &str = "lab.toml";
const LINKS: &str = "links";
/// How long processes may take to end after SIGKILL.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// Milliseconds since the epoch.
    taken_ms: u64,
    machines: Vec<String>,
    /// Those of them that have a disk.
    disks: Vec<String>,
    /// Links whose frames are written to files.
    captures: Vec<(String, PathBuf)>,
}

impl About {
    fn read(folder: &Path) -> Option<About> {
        let text = std::fs::read(folder.join(ABOUT)).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// A lab on virtual machines that this command may work on.
struct Lab {
    found: Found,
    place: Place,
}

impl Lab {
    fn of(host: &Host, name: &str) -> Result<Lab, LabError> {
        let name = check_name(name)?;
        let found = Found::read(host, &name)?;
        if found.backend != Backend::Qemu {
            return Err(LabError::Refused {
                subject: format!("lab {name}"),
                cause: format!("the backend {} cannot save a running kernel", found.backend),
                help: "bring it up with --backend qemu".to_owned(),
            });
        }
        let place = Place::new(&host.root, &name);
        Ok(Lab { found, place })
    }

    fn machines(&self, host: &Host) -> Result<Vec<Machine>, LabError> {
        let all = self.found.names().into_iter().map(|name| {
            let (name, keeper) = self.found.node(&name)?;
            let folder = self.place.node(&name);
            let exe = &host.weft_exe;
            Ok(Machine::attach(&name, &folder, exe, &self.found.id, keeper))
        });
        all.collect()
    }

    fn disk(&self, node: &str) -> PathBuf {
        self.place.node(node).join(crate::backend::DISK)
    }
}

/// `weft lab snapshot LAB NAME`: the lab stands while it is written, and goes on.
pub fn snapshot(host: &Host, lab: &str, name: &str) -> Result<(), LabError> {
    let lab = Lab::of(host, lab)?;
    let name = check_snapshot(name)?;
    let _held = lab.place.hold()?;
    let machines = lab.machines(host)?;
    let snapshots = lab.place.snapshots();
    // No snapshot has a name with a dot; what an earlier try left is written over.
    let new = snapshots.join(".new");
    let _ = std::fs::remove_dir_all(&new);
    std::fs::create_dir_all(&new).map_err(LabError::io("create", &new))?;
    progress(host, "writing machines, disks and links");
    let begun = Instant::now();
    let written = write(&lab, &machines, &new);
    let spread = match written {
        Ok(spread) => spread,
        Err(error) => {
            // Half a snapshot may be what filled the disk.
            let _ = std::fs::remove_dir_all(&new);
            return Err(error);
        }
    };
    let stood = begun.elapsed();
    let folder = snapshots.join(&name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(&new, &folder).map_err(LabError::io("create", &folder))?;
    // They stood, and are behind by that.
    for machine in &machines {
        machine.set_clock()?;
    }
    let size = size_of(&folder);
    let lab = lab.place.name();
    if host.json {
        let stood_ms = stood.as_millis() as u64;
        let spread_us = spread.as_micros() as u64;
        let line = json!({
            "lab": lab, "snapshot": name, "machines": machines.len(), "stood_ms": stood_ms,
            "spread_us": spread_us, "bytes": size, "folder": folder,
        });
        println!("{line}");
    } else {
        println!(
            "lab {lab}: snapshot {name} of {} machines, {} MiB; the lab stood for {:.1} s, its machines within {:.1} ms of each other",
            machines.len(),
            size >> 20,
            stood.as_secs_f64(),
            spread.as_secs_f64() * 1000.0,
        );
        println!("weft lab restore {lab} {name}   brings it back");
    }
    Ok(())
}

/// Writes all of it; between the first machine that stood and the last.
fn write(lab: &Lab, machines: &[Machine], folder: &Path) -> Result<Duration, LabError> {
    let mut links = Client::connect(&process::control(&lab.place))?;
    links.ask(&Request::Freeze)?;
    // A guest's answer passes QEMU's loop, as do the frames that had left their links before.
    let mut standing = each(machines.iter(), Machine::hold)?;
    let stops = each(standing.iter_mut(), |one| {
        one.stop().map(|()| Instant::now())
    })?;
    let (first, last) = (stops.iter().min(), stops.iter().max());
    let spread = last.zip(first).map_or(Duration::ZERO, |(l, f)| *l - *f);

    let disks = machines.iter().map(|machine| machine.name.clone());
    let disks: Vec<String> = disks.filter(|node| lab.disk(node).is_dir()).collect();
    let about = About {
        taken_ms: now_ms(),
        machines: machines.iter().map(|m| m.name.clone()).collect(),
        captures: captures(&mut links)?,
        disks: disks.clone(),
    };
    links.ask(&Request::Save {
        file: folder.join(LINKS),
    })?;
    let named = standing.iter_mut().zip(machines);
    each(named, |(one, machine)| {
        one.save(&memory(folder, &machine.name))
    })?;
    each(disks.iter(), |node| {
        disk::save(&lab.disk(node), &image(folder, node))
    })?;
    for (from, to) in [(lab.place.journal(), JOURNAL), (lab.place.source(), SOURCE)] {
        let to = folder.join(to);
        std::fs::copy(from, &to).map_err(LabError::io("write", to))?;
    }
    // Last: a folder without it is no snapshot.
    let path = folder.join(ABOUT);
    let text = serde_json::to_vec(&about).unwrap_or_default();
    std::fs::write(&path, text).map_err(LabError::io("write", path))?;
    each(standing.into_iter(), Standing::go)?;
    links.ask(&Request::Go)?;
    Ok(spread)
}

fn captures(links: &mut Client) -> Result<Vec<(String, PathBuf)>, LabError> {
    let Reply::Stats(stats) = links.ask(&Request::Stats { link: None })? else {
        return Ok(Vec::new());
    };
    let captures = stats.into_iter().filter_map(|link| {
        let capture = link.capture?;
        Some((link.link, capture.file))
    });
    Ok(captures.collect())
}

/// `weft lab restore LAB NAME`: the lab as it stood, whatever became of it since.
pub fn restore(host: &Host, lab: &str, name: &str) -> Result<(), LabError> {
    let lab = Lab::of(host, lab)?;
    let folder = lab.place.snapshots().join(name);
    let about = About::read(&folder).ok_or_else(|| LabError::NotFound {
        subject: format!("snapshot {name}"),
        cause: format!("lab {} has none of that name", lab.place.name()),
        help: match all(&lab.place)[..] {
            [] => format!("`weft lab snapshot {} NAME` takes one", lab.place.name()),
            ref some => format!("it has {}", some.join(", ")),
        },
    })?;
    let _held = lab.place.hold()?;
    let begun = Instant::now();
    progress(host, "ending the machines as they are");
    let (_, alive) = processes::end_all(&lab.found.id, Instant::now() + GONE_WITHIN);
    if let Some(process) = alive.first() {
        return Err(LabError::failed(
            format!("lab {}", lab.place.name()),
            format!("process {} does not end", process.pid),
            format!("remove the lab with `weft lab down {}`", lab.place.name()),
        ));
    }
    progress(host, "loading machines, disks and links");
    let went = load(host, &lab, &about, &folder).map_err(|error| {
        LabError::failed(
            format!("lab {}", lab.place.name()),
            format!("it is not back: {error}"),
            format!(
                "run the command again, or remove the lab with `weft lab down {}`",
                lab.place.name()
            ),
        )
    });
    let machines = went?.len();
    let took = begun.elapsed();
    let ago = Duration::from_millis(now_ms().saturating_sub(about.taken_ms));
    let lab = lab.place.name();
    if host.json {
        let took_ms = took.as_millis() as u64;
        let line = json!({
            "lab": lab, "snapshot": name, "machines": machines, "restored_in_ms": took_ms,
            "taken_ago_ms": ago.as_millis() as u64,
        });
        println!("{line}");
    } else {
        println!(
            "lab {lab} is back at {name} of {} ago: {machines} machines in {:.1} s",
            spoken(ago),
            took.as_secs_f64()
        );
        println!(
            "clocks  time since boot goes on from then, so connections, timers and leases are as they were; the time \
             of day is today's"
        );
        println!("        commands that ran in it by `weft lab exec` are ended");
    }
    Ok(())
}

fn load(host: &Host, lab: &Lab, about: &About, folder: &Path) -> Result<Vec<Machine>, LabError> {
    let (place, id, exe) = (&lab.place, &lab.found.id, &host.weft_exe);
    put_back(&folder.join(SOURCE), &place.source())?;
    put_back(&folder.join(JOURNAL), &place.journal())?;
    let mut journal = Journal::open(&place.journal())?;
    for node in &about.disks {
        disk::replace(&lab.disk(node), &image(folder, node))?;
        disk::start(exe, id, &lab.disk(node))?;
    }
    let links = process::start(exe, id, place, 0, Vec::new(), Some(folder.join(LINKS)))?;
    journal.write(&started(RELAY, links))?;
    let mut links = Client::connect(&process::control(place))?;
    for (link, file) in &about.captures {
        links.ask(&Request::Capture {
            link: link.clone(),
            file: Some(file.clone()),
            append: true,
        })?;
    }
    let loaded = each(about.machines.iter(), |node| {
        Machine::load(node, &place.node(node), exe, id, &memory(folder, node))
    })?;
    for (node, machine) in about.machines.iter().zip(&loaded) {
        journal.write(&started(node, machine.keeper()))?;
    }
    links.ask(&Request::Go)?;
    each(loaded.into_iter(), Loaded::go)
}

fn started(node: &str, process: processes::Process) -> Entry {
    Entry::Started {
        node: node.to_owned(),
        pid: process.pid,
        start: process.start,
    }
}

/// Whole or not at all.
fn put_back(from: &Path, to: &Path) -> Result<(), LabError> {
    let new = to.with_extension("new");
    std::fs::copy(from, &new)
        .and_then(|_| std::fs::File::open(&new)?.sync_data())
        .and_then(|()| std::fs::rename(&new, to))
        .map_err(LabError::io("restore", to))
}

/// Does it for all at once; the first error, when all are done.
fn each<T: Send, R: Send>(
    all: impl Iterator<Item = T>,
    one: impl Fn(T) -> Result<R, LabError> + Sync,
) -> Result<Vec<R>, LabError> {
    let one = &one;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.map(|item| scope.spawn(move || one(item))).collect();
        let results: Vec<_> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        results.into_iter().collect()
    })
}

/// The snapshots of a lab by name.
pub(super) fn all(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.snapshots())
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let whole = entries.filter(|entry| About::read(&entry.path()).is_some());
    let mut names: Vec<String> = whole
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn check_snapshot(name: &str) -> Result<String, LabError> {
    match name.parse::<weft_overlay::NodeName>() {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(LabError::Refused {
            subject: format!("snapshot {name:?}"),
            cause: "this cannot be a snapshot's name".to_owned(),
            help: "use 1 to 63 of a-z, 0-9 and '-', not first or last".to_owned(),
        }),
    }
}

fn memory(folder: &Path, node: &str) -> PathBuf {
    folder.join(format!("{node}.memory"))
}

fn image(folder: &Path, node: &str) -> PathBuf {
    folder.join(format!("{node}.disk"))
}

fn size_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    files.map(|file| file.blocks() * 512).sum()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

/// A span as a person says it.
fn spoken(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_one_only_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::new(root.path(), "lab");
        assert!(all(&place).is_empty());
        for name in ["b", "a", "half"] {
            let folder = place.snapshots().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let about = About {
                taken_ms: 1,
                machines: vec!["n1".into()],
                disks: Vec::new(),
                captures: vec![("n1-n2".into(), "/x".into())],
            };
            if name != "half" {
                let text = serde_json::to_vec(&about).unwrap();
                std::fs::write(folder.join(ABOUT), text).unwrap();
                assert_eq!(About::read(&folder), Some(about));
            }
        }
        assert_eq!(all(&place), ["a", "b"]);
    }

    #[test]
    fn spans_are_said_in_the_unit_that_fits() {
        let said = [5, 130, 8000].map(|s| spoken(Duration::from_secs(s)));
        assert_eq!(said, ["5 s", "2 min", "2 h"]);
    }
}
