//! What the machine shows of a lab from outside: processes, namespaces, links, mounts, cgroups, pins,
//! files. Read from /proc and /sys, so that nothing of the product judges itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running process.
pub struct Process {
    pub pid: i32,
    pub args: Vec<String>,
}

/// All processes that have not ended.
pub fn processes() -> Vec<Process> {
    pids()
        .into_iter()
        .filter(|pid| !is_zombie(*pid))
        .filter_map(|pid| {
            Some(Process {
                pid,
                args: args(pid)?,
            })
        })
        .collect()
}

fn pids() -> Vec<i32> {
    fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat[stat.rfind(')')? + 1..].trim_start().starts_with('Z')))
        .unwrap_or(true)
}

/// The command line of a process.
pub fn args(pid: i32) -> Option<Vec<String>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let args: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|arg| !arg.is_empty())
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect();
    (!args.is_empty()).then_some(args)
}

/// Sends a signal by name.
pub fn signal(pid: i32, name: &str) {
    let signal: Signal = format!("SIG{name}").parse().expect("a signal's name");
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("SIG{name} to {pid}: {e}"));
}

/// The namespaces of a process, as `net:[4026531840]`.
fn namespaces_of(pid: i32) -> impl Iterator<Item = String> {
    ["net", "mnt", "pid", "uts", "user", "ipc"]
        .into_iter()
        .filter_map(move |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok())
        .map(|link| link.to_string_lossy().into_owned())
}

/// Namespaces that some process is in.
pub fn namespaces() -> BTreeSet<String> {
    pids().into_iter().flat_map(namespaces_of).collect()
}

/// A process in the network namespace with this link text.
pub fn process_in(netns: &str) -> Option<i32> {
    pids().into_iter().find(|pid| {
        fs::read_link(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|link| link.to_string_lossy() == netns)
    })
}

/// What could be left of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    pub links: BTreeSet<String>,
    pub mounts: BTreeSet<String>,
    pub cgroups: BTreeSet<PathBuf>,
    pub pins: BTreeSet<PathBuf>,
    pub files: BTreeSet<PathBuf>,
    pub processes: BTreeSet<String>,
}

impl Traces {
    /// Everything of the machine that a lab of this name could have made.
    pub fn now(lab: &str) -> Traces {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
        Traces {
            links: names("/sys/class/net"),
            mounts: mounts.lines().map(str::to_owned).collect(),
            cgroups: below(Path::new("/sys/fs/cgroup"), &|path| named(path, lab)),
            pins: below(Path::new("/sys/fs/bpf"), &|_| true),
            files: below(Path::new("/var/lib/weft"), &|path| named(path, lab)),
            processes: processes()
                .into_iter()
                .filter(|process| process.args.iter().any(|arg| arg.contains(lab)))
                .filter(|process| process.pid != std::process::id() as i32)
                .map(|process| format!("{} {}", process.pid, process.args.join(" ")))
                .collect(),
        }
    }
}

fn names(folder: &str) -> BTreeSet<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn named(path: &Path, lab: &str) -> bool {
    path.iter().any(|part| part == lab)
}

fn below(folder: &Path, keep: &dyn Fn(&Path) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&path, keep));
        }
        if keep(&path) {
            found.insert(path);
        }
    }
    found
}
