//! A container's cgroups: found, made, limited, emptied and removed in every hierarchy that matters here,
//! be the machine pure v1, pure v2 or hybrid. Owns the folder `<parent>/<id>` of each. Never touches limits of others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_overlay::documents::Resources;

use crate::error::Error;
use crate::failure::{Failure, Step};

mod layout;

pub(crate) use layout::{Hierarchy, Version};

/// How long emptied cgroups may take to be removable: processes leave them after their parents saw their end.
const REMOVAL: Duration = Duration::from_secs(5);
/// Between looks at a cgroup that is not yet empty.
const PAUSE: Duration = Duration::from_millis(1);
/// How often a parent may be removed by another container's end while we make ours below it.
const MAKE_ATTEMPTS: u32 = 20;
/// CFS period, us: the kernel's default.
const PERIOD: u64 = 100_000;

/// The hierarchies of this machine, as this process sees them.
pub(crate) fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(layout::parse(&mounts, |v2| {
        fs::read_to_string(v2.join("cgroup.controllers")).ok()
    }))
}

/// Refuses limits that no hierarchy can hold.
pub(crate) fn check(
    id: &str,
    resources: &Resources,
    hierarchies: &[Hierarchy],
) -> Result<(), Error> {
    let wanted = [
        ("cpus", "cpu", resources.cpus.is_some()),
        ("memory", "memory", resources.memory.is_some()),
        ("pids", "pids", resources.pids.is_some()),
    ];
    for (limit, controller, asked) in wanted {
        if asked && !hierarchies.iter().any(|h| h.has(controller)) {
            return Err(Error::Limit {
                id: id.to_owned(),
                limit,
                controller,
            });
        }
    }
    Ok(())
}

/// Files of a hierarchy's cgroup and what they are set to; `true` marks those that may be missing.
fn settings(hierarchy: &Hierarchy, resources: &Resources) -> Vec<(&'static str, String, bool)> {
    let mut list = Vec::new();
    let v2 = hierarchy.version == Version::V2;
    if let (Some(cpus), true) = (resources.cpus, hierarchy.has("cpu")) {
        let quota = layout::quota(cpus, PERIOD);
        if v2 {
            list.push(("cpu.max", format!("{quota} {PERIOD}"), false));
        } else {
            list.push(("cpu.cfs_period_us", PERIOD.to_string(), false));
            list.push(("cpu.cfs_quota_us", quota.to_string(), false));
        }
    }
    if let (Some(bytes), true) = (resources.memory, hierarchy.has("memory")) {
        if v2 {
            list.push(("memory.max", bytes.to_string(), false));
            list.push(("memory.swap.max", "0".to_owned(), true));
        } else {
            list.push(("memory.limit_in_bytes", bytes.to_string(), false));
            list.push(("memory.memsw.limit_in_bytes", bytes.to_string(), true));
        }
    }
    if let (Some(pids), true) = (resources.pids, hierarchy.has("pids")) {
        list.push(("pids.max", pids.to_string(), false));
    }
    list
}

/// Makes `<parent>/<id>` in every hierarchy and sets its limits. Returns the folders.
pub(crate) fn make(parent: &str, id: &str, resources: &Resources) -> Result<Vec<PathBuf>, Failure> {
    let hierarchies = hierarchies().step("read /proc/self/mountinfo")?;
    let mut made = Vec::new();
    for hierarchy in &hierarchies {
        let dir = hierarchy.mount.join(parent).join(id);
        let done = make_dir(hierarchy, parent, &dir).and_then(|()| {
            made.push(dir.clone());
            for (file, value, optional) in settings(hierarchy, resources) {
                let path = dir.join(file);
                match fs::write(&path, &value) {
                    Err(_) if optional => {}
                    other => other.step(&format!("write {value} to {}", path.display()))?,
                }
            }
            Ok(())
        });
        if let Err(failure) = done {
            let _ = remove(&made);
            return Err(failure);
        }
    }
    Ok(made)
}

fn make_dir(hierarchy: &Hierarchy, parent: &str, dir: &Path) -> Result<(), Failure> {
    let mut last = None;
    for _ in 0..MAKE_ATTEMPTS {
        let mut at = hierarchy.mount.clone();
        for part in Path::new(parent).components() {
            hierarchy.delegate(&at);
            at.push(part);
            match fs::create_dir(&at) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => last = Some(e),
                _ => {}
            }
        }
        hierarchy.delegate(&at);
        match fs::create_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => last = last.or(Some(e)),
            // Left by a container of this name whose shim was killed: its processes are none of ours.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                kill_all(&[dir.to_owned()]);
                return Ok(());
            }
            Err(e) => return Err(e).step(&format!("make the cgroup {}", dir.display())),
        }
    }
    let last = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
    Err(last).step(&format!("make the cgroup {}", dir.display()))
}

/// Puts a process into the container's cgroups. Pid 0 is the caller.
pub(crate) fn join(dirs: &[PathBuf], pid: i32) -> Result<(), Failure> {
    for dir in dirs {
        let procs = dir.join("cgroup.procs");
        fs::write(&procs, pid.to_string()).step(&format!("write to {}", procs.display()))?;
    }
    Ok(())
}

/// Kills all that is in the cgroups, once. What forks meanwhile is met by the next call.
pub(crate) fn kill_all(dirs: &[PathBuf]) {
    for dir in dirs {
        if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
            continue;
        }
        let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in procs
            .lines()
            .filter_map(|l| l.parse::<i32>().ok())
            .filter(|pid| *pid > 1)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Kills what is left and removes the folders, then parents that nobody uses any more.
pub(crate) fn remove(dirs: &[PathBuf]) -> Result<(), Failure> {
    let deadline = Instant::now() + REMOVAL;
    for dir in dirs {
        loop {
            match fs::remove_dir(dir) {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                Err(e)
                    if e.raw_os_error() == Some(Errno::EBUSY as i32)
                        && Instant::now() < deadline =>
                {
                    kill_all(std::slice::from_ref(dir));
                    std::thread::sleep(PAUSE);
                }
                Err(e) => return Err(e).step(&format!("remove the cgroup {}", dir.display())),
            }
        }
        // A parent that others use is not empty, and stays.
        for parent in dir
            .ancestors()
            .skip(1)
            .take_while(|p| p.join("cgroup.procs").exists())
        {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(version: Version, controllers: &[&str]) -> Hierarchy {
        Hierarchy {
            mount: PathBuf::from("/sys/fs/cgroup"),
            version,
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        }
    }

    #[test]
    fn limits_are_written_in_each_versions_words() {
        let asked = Resources {
            cpus: Some(0.5),
            memory: Some(64 << 20),
            pids: Some(10),
        };
        let files = |h: &Hierarchy| {
            settings(h, &asked)
                .into_iter()
                .map(|(f, v, _)| format!("{f}={v}"))
                .collect::<Vec<_>>()
        };
        let v2 = files(&hierarchy(Version::V2, &["cpu", "memory", "pids"]));
        assert_eq!(
            v2,
            [
                "cpu.max=50000 100000",
                "memory.max=67108864",
                "memory.swap.max=0",
                "pids.max=10"
            ]
        );
        let v1 = files(&hierarchy(Version::V1, &["cpu", "cpuacct"]));
        assert_eq!(v1, ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"]);
        assert!(files(&hierarchy(Version::V2, &[])).is_empty());
    }

    #[test]
    fn a_limit_without_its_controller_is_an_error_and_no_limit_is_none() {
        let none = [hierarchy(Version::V2, &["memory"])];
        let asked = Resources {
            cpus: Some(1.0),
            ..Resources::default()
        };
        assert!(matches!(
            check("c", &asked, &none),
            Err(Error::Limit {
                limit: "cpus",
                controller: "cpu",
                ..
            })
        ));
        check("c", &Resources::default(), &[]).unwrap();
    }
}
