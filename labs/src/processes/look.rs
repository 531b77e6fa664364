//! The processes of a container, an agent or a node, found in /proc: of this machine, or of a virtual one by
//! `lab-guest look` inside it.

use serde::{Deserialize, Serialize};

use super::Process;

/// Whose processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whose {
    /// All in the cgroup whose path ends so.
    Cgroup(String),
    /// This one; a start of 0 is not known.
    One(Process),
    /// All that descend from the process of this number, without it.
    Below(i32),
}

/// A process that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    #[serde(flatten)]
    pub(crate) process: Process,
    /// It takes no signal but SIGKILL until it goes on.
    pub(crate) stopped: bool,
    /// It is number 1 of its process namespace: with it end all others.
    pub(crate) first: bool,
}

/// Looks where this process is.
pub(crate) fn look(whose: &Whose) -> Vec<Seen> {
    let pids = match whose {
        Whose::Cgroup(end) => all()
            .into_iter()
            .filter(|pid| in_cgroup(*pid, end))
            .collect(),
        Whose::One(process) => vec![process.pid],
        Whose::Below(top) => below(*top),
    };
    let is_it = |process: &Process| match whose {
        Whose::One(wanted) => wanted.start == 0 || wanted == process,
        _ => true,
    };
    let alive = pids.into_iter().filter_map(Process::of).filter(is_it);
    alive.map(seen).collect()
}

fn seen(process: Process) -> Seen {
    let pid = process.pid;
    // proc(5): the first field after the name; T is stopped.
    let stopped = stat(pid).is_some_and(|stat| stat.starts_with('T'));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let innermost = numbers.and_then(|numbers| numbers.split_whitespace().last());
    Seen {
        process,
        stopped,
        first: innermost == Some("1"),
    }
}

fn all() -> Vec<i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The fields of a process's stat after its name.
fn stat(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat[stat.rfind(')')? + 1..].trim_start().to_owned())
}

fn in_cgroup(pid: i32, end: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .is_ok_and(|text| text.lines().any(|line| line.ends_with(end)))
}

/// By their parents' numbers.
fn below(top: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = all()
        .into_iter()
        .filter_map(|pid| {
            let parent = stat(pid)?.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![top];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(p, _)| p));
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;

    #[test]
    fn descendants_are_found_by_their_parents_and_told_when_they_stop() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo; read x"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let found = look(&Whose::Below(child.id() as i32));
        let sleeper = found[0].process;
        sleeper.signal(Signal::SIGSTOP);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !look(&Whose::One(sleeper))[0].stopped {
            assert!(std::time::Instant::now() < deadline, "it does not stop");
        }
        let later = Process {
            start: sleeper.start + 1,
            ..sleeper
        };
        let unknown = Process {
            start: 0,
            ..sleeper
        };
        assert_eq!(look(&Whose::One(later)), []);
        assert_eq!(look(&Whose::One(unknown)).len(), 1);
        sleeper.signal(Signal::SIGKILL);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1);
        assert!(!found[0].first && !found[0].stopped);
    }
}
