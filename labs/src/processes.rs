//! Processes as /proc shows them: who belongs to a lab, who is still the one we knew.
//!
//! Owns: finding and ending a lab's processes. A process is ended only if its command line carries
//! the lab's random id, or if its number and start time are those that were noted.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

mod look;

pub(crate) use look::{Seen, Whose, look};

/// How often a condition on processes is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A process by number and start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks since boot (proc(5), field 22 of stat).
    pub(crate) start: u64,
}

impl Process {
    /// The process of that number now, unless it has ended.
    pub(crate) fn of(pid: i32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start = started(&stat)?;
        Some(Process { pid, start })
    }

    pub(crate) fn is_alive(self) -> bool {
        Process::of(self.pid) == Some(self)
    }

    /// Waits until it has let go of its memory, after which it runs no more; whether that came in time. The kernel may
    /// take another second for its BPF links.
    pub(crate) fn ending_by(self, deadline: Instant) -> bool {
        let line = format!("/proc/{}/cmdline", self.pid);
        while self.is_alive() && std::fs::read(&line).is_ok_and(|line| !line.is_empty()) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }

    /// Sends a signal, if it is still this process.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive() {
            // It may end in between; then there is nothing to do.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// The start time in a line of /proc/PID/stat, unless the process has ended. A zombie holds nothing any more, and its
/// parent reaps it when it likes; but the first thread of a killed process is one already while others still end, and
/// with them its files and locks are open.
fn started(stat: &str) -> Option<u64> {
    // The second field may hold anything, but ends at the last ')'.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let state = *fields.first()?;
    let threads: u32 = fields.get(17)?.parse().ok()?;
    if state == "X" || (state == "Z" && threads <= 1) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// All processes that carry `id` as an argument of their command line.
pub(crate) fn carrying(id: &str) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|b| *b == 0).any(|arg| arg == id.as_bytes()))
        })
        .filter_map(Process::of)
        .collect()
}

/// All processes in the process namespace of which this one is the first; none if it is in ours.
pub(crate) fn in_namespace_of(first: Process) -> Vec<Process> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(&first.pid.to_string());
    if !first.is_alive() || wanted.is_none() || wanted == namespace("self") {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str().map(str::to_owned))
        .filter(|pid| namespace(pid) == wanted)
        .filter_map(|pid| Process::of(pid.parse().ok()?))
        .collect()
}

/// As [`carrying`], those whose working folder is `folder`.
pub(crate) fn carrying_in(id: &str, folder: &std::path::Path) -> Vec<Process> {
    let mut found = carrying(id);
    found.retain(|process| {
        std::fs::read_link(format!("/proc/{}/cwd", process.pid)).is_ok_and(|cwd| cwd == folder)
    });
    found
}

/// Ends the first processes of a node's namespaces, by the lab's id and the node's name on their command lines.
pub(crate) fn end_holder(id: &str, node: &str, deadline: Instant) {
    let is_holder = |process: &Process| {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        let args: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        let wanted = [crate::holder::WORD, id, node].map(str::as_bytes);
        args.windows(3).any(|three| three == wanted)
    };
    for process in carrying(id).into_iter().filter(is_holder) {
        process.signal(Signal::SIGKILL);
        process.ending_by(deadline);
    }
}

/// Ends every process that carries `id`, also those that appear meanwhile. Returns how many there
/// were, and those that did not end by the deadline.
pub(crate) fn end_all(id: &str, deadline: Instant) -> (usize, Vec<Process>) {
    let mut seen: Vec<Process> = Vec::new();
    loop {
        let alive = carrying(id);
        for process in &alive {
            process.signal(Signal::SIGKILL);
            if !seen.contains(process) {
                seen.push(*process);
            }
        }
        if alive.is_empty() || Instant::now() >= deadline {
            return (seen.len(), alive);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_found_by_its_mark_and_ended() {
        let mark = format!("weft-labs-test-{}", std::process::id());
        let mut child = Command::new("sh")
            .args(["-c", "read x", &mark])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while carrying(&mark).is_empty() {
            assert!(Instant::now() < deadline, "not found");
            std::thread::yield_now();
        }
        let process = Process::of(child.id() as i32).unwrap();
        assert!(process.is_alive());
        assert!(
            !Process {
                start: process.start + 1,
                ..process
            }
            .is_alive()
        );
        let (ended, left) = end_all(&mark, deadline);
        assert_eq!((ended, left), (1, Vec::new()));
        child.wait().unwrap();
    }

    fn stat(state: char, threads: u32) -> String {
        format!("7 (a ) Z) {state} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0 0")
    }

    #[test]
    fn a_process_has_ended_when_its_last_thread_has() {
        assert_eq!(started(&stat('S', 9)), Some(4711));
        assert_eq!(started(&stat('Z', 9)), Some(4711));
        assert_eq!(started(&stat('Z', 1)), None);
        assert_eq!(started(&stat('X', 1)), None);
        assert_eq!(started("7 (cut"), None);
    }
}
