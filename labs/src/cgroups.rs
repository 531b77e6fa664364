//! The cgroups of a lab: found in every hierarchy of the machine, v1 and v2, and removed.
//!
//! Never: makes any; the container runtime does, below the parent that the engine names.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a busy cgroup is tried again.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// The cgroup below which a lab's nodes put theirs.
pub(crate) fn parent_of(lab: &str) -> String {
    format!("weft/{lab}")
}

/// The mount points of all hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts") else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (place, kind) = (fields.nth(1)?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Removes the cgroup `path` and all below it in every hierarchy. Returns how many were removed,
/// and what could not be by the deadline.
pub(crate) fn remove(path: &str, deadline: Instant) -> (usize, Vec<String>) {
    let mut removed = 0;
    let mut left = Vec::new();
    for hierarchy in hierarchies() {
        let top = hierarchy.join(path);
        loop {
            match remove_tree(&top, &mut removed) {
                Ok(()) => break,
                // Processes leave a cgroup a moment after they have ended.
                Err(_) if Instant::now() < deadline => std::thread::sleep(TRY_EVERY),
                Err(error) => {
                    left.push(format!("cgroup {}: {error}", top.display()));
                    break;
                }
            }
        }
    }
    (removed, left)
}

/// Removes one cgroup in every hierarchy if nothing is in it.
pub(crate) fn remove_if_empty(path: &str) {
    for hierarchy in hierarchies() {
        // Not empty: somebody else's; not there: as good.
        let _ = std::fs::remove_dir(hierarchy.join(path));
    }
}

/// Deepest first. The files of a cgroup go with it.
fn remove_tree(top: &Path, removed: &mut usize) -> io::Result<()> {
    let entries = match std::fs::read_dir(top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path(), removed)?;
        }
    }
    std::fs::remove_dir(top)?;
    *removed += 1;
    Ok(())
}
