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

/// Whether the process has ended with all its threads: its first one may be a zombie while another still holds files.
pub fn has_ended(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    threads <= 1 && is_zombie(pid)
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
pub fn namespaces_of(pid: i32) -> impl Iterator<Item = String> {
    ["net", "mnt", "pid", "uts", "user", "ipc"]
        .into_iter()
        .filter_map(move |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok())
        .map(|link| link.to_string_lossy().into_owned())
}

/// Namespaces that some process is in.
pub fn namespaces() -> BTreeSet<String> {
    pids().into_iter().flat_map(namespaces_of).collect()
}

/// Processor time, in clock ticks: of all processors, and of these processes with their ended children.
pub fn busy(processes: &BTreeSet<i32>) -> (u64, u64) {
    let numbers = |text: &str| -> Vec<u64> {
        text.split_whitespace()
            .map(|word| word.parse().unwrap_or(0))
            .collect()
    };
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let all = numbers(stat.lines().next().expect("the line of all processors"));
    // user, nice and system, irq and softirq (proc_stat(5)), after the word `cpu`.
    let all = [1, 2, 3, 6, 7].map(|at| all[at]).iter().sum();
    let of = |pid: &i32| -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields 14 to 17 of proc_pid_stat(5).
        Some(numbers(&stat[stat.rfind(')')? + 1..])[11..15].iter().sum())
    };
    (all, processes.iter().filter_map(of).sum())
}

/// Clock ticks since boot, of which a second has 100 (USER_HZ, include/asm-generic/param.h).
pub fn ticks() -> u64 {
    let text = fs::read_to_string("/proc/uptime").expect("/proc/uptime");
    let seconds = text.split_whitespace().next().expect("a time");
    seconds.replace('.', "").parse().expect("a number")
}

/// Namespaces with a process that started before then. Their numbers are used again, for those that others make later.
pub fn namespaces_from_before(then: u64) -> BTreeSet<String> {
    let old = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Field 22 of proc_pid_stat(5); the second one, in brackets, may have blanks.
        let started = stat[stat.rfind(')')? + 1..].split_whitespace().nth(19)?;
        Some(started.parse::<u64>().ok()? < then)
    };
    // One that has ended and whose parent has not asked yet holds nothing.
    let lives = |pid: &i32| !is_zombie(*pid) && old(pid).unwrap_or(false);
    let all = pids().into_iter().filter(lives);
    all.flat_map(namespaces_of).collect()
}

/// A process in the network namespace with this link text.
pub fn process_in(netns: &str) -> Option<i32> {
    pids().into_iter().find(|pid| {
        fs::read_link(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|link| link.to_string_lossy() == netns)
    })
}

/// Processes with one of these words in an argument, or in a cgroup that has one in its path.
pub fn processes_of(words: &[&str]) -> BTreeSet<i32> {
    let has = |text: &str| words.iter().any(|word| text.contains(word));
    let own = std::process::id() as i32;
    let ours = |pid: &i32| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        has(&cgroups) || args(*pid).is_some_and(|args| args.iter().any(|arg| has(arg)))
    };
    let all = pids()
        .into_iter()
        .filter(|pid| *pid != own && !is_zombie(*pid));
    all.filter(ours).collect()
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

/// Where the datapath's own tests, which may run meanwhile, have their pins and namespaces; no lab has anything there.
const OF_OTHER_TESTS: [&str; 2] = ["/sys/fs/bpf/weft-test", "/run/netns/weft-"];

impl Traces {
    /// Everything of the machine that a lab of this name could have made.
    pub fn now(lab: &str) -> Traces {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
        Traces {
            links: names("/sys/class/net"),
            mounts: mounts
                .lines()
                .filter(|line| !line.contains(OF_OTHER_TESTS[1]))
                .map(str::to_owned)
                .collect(),
            cgroups: below(Path::new("/sys/fs/cgroup"), &|path| named(path, lab)),
            pins: below(Path::new("/sys/fs/bpf"), &|path| {
                !path.starts_with(OF_OTHER_TESTS[0])
            }),
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
