//! Which cgroup hierarchies a machine has, read from its mounts. Pure but for `delegate`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Controllers that containers use: limits by three, and the freezer to be listed with its container.
const WANTED: [&str; 4] = ["cpu", "memory", "pids", "freezer"];

/// Which interface a hierarchy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub mount: PathBuf,
    pub version: Version,
    pub controllers: BTreeSet<String>,
}

impl Hierarchy {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.contains(controller)
    }

    /// v2: lets children of `dir` have the controllers. One that refuses is simply not there for them,
    /// which shows when a limit is written.
    pub(super) fn delegate(&self, dir: &Path) {
        if self.version == Version::V2 {
            for controller in WANTED.iter().filter(|c| self.has(c)) {
                let _ =
                    std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }
}

/// The hierarchies in a `/proc/<pid>/mountinfo` (proc(5)), each once. `v2_controllers` reads those of a v2 mount.
pub(super) fn parse(
    mountinfo: &str,
    v2_controllers: impl Fn(&Path) -> Option<String>,
) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(mount), mut right) = (left.split(' ').nth(4), right.split(' ')) else {
            continue;
        };
        let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
        let mount = PathBuf::from(unescape(mount));
        let hierarchy = match kind {
            Some("cgroup2") => {
                let Some(controllers) = v2_controllers(&mount) else {
                    continue;
                };
                let controllers = controllers.split_whitespace().map(str::to_owned).collect();
                Hierarchy {
                    mount,
                    version: Version::V2,
                    controllers,
                }
            }
            Some("cgroup") => {
                let controllers: BTreeSet<String> = options
                    .split(',')
                    .filter(|o| WANTED.contains(o))
                    .map(str::to_owned)
                    .collect();
                if controllers.is_empty() {
                    continue;
                }
                Hierarchy {
                    mount,
                    version: Version::V1,
                    controllers,
                }
            }
            _ => continue,
        };
        // The same hierarchy may be mounted twice, and one mount may cover another.
        let same = |h: &Hierarchy| {
            h.mount == hierarchy.mount
                || (h.version == hierarchy.version && h.controllers == hierarchy.controllers)
        };
        if !found.iter().any(same) {
            found.push(hierarchy);
        }
    }
    found
}

/// Microseconds of CPU per period; at least the kernel's minimum of 1 ms.
pub(super) fn quota(cpus: f64, period: u64) -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked range"
    )]
    let quota = (cpus * period as f64).round() as u64;
    quota.max(1000)
}

/// Mount points have spaces and the like as `\040`.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let octal = (bytes[i] == b'\\')
            .then(|| bytes.get(i + 1..i + 4))
            .flatten();
        let code = octal
            .and_then(|o| std::str::from_utf8(o).ok())
            .and_then(|o| u8::from_str_radix(o, 8).ok());
        out.push(code.unwrap_or(bytes[i]));
        i += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &[Hierarchy]) -> Vec<String> {
        let name = |h: &Hierarchy| {
            let list: Vec<_> = h.controllers.iter().map(String::as_str).collect();
            format!("{:?} {} {}", h.version, h.mount.display(), list.join(","))
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn pure_v2() {
        let text =
            "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = parse(text, |_| Some("cpuset cpu io memory pids\n".to_owned()));
        assert_eq!(
            names(&found),
            ["V2 /sys/fs/cgroup cpu,cpuset,io,memory,pids"]
        );
    }

    #[test]
    fn pure_v1_with_joined_controllers() {
        let text = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                    33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let found = parse(text, |_| None);
        assert_eq!(
            names(&found),
            [
                "V1 /sys/fs/cgroup/cpu,cpuacct cpu",
                "V1 /sys/fs/cgroup/memory memory"
            ]
        );
    }

    #[test]
    fn hybrid_counts_the_empty_v2_tree_too_and_each_hierarchy_once() {
        let text = "40 31 0:37 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                    90 80 0:37 / /mnt/with\\040space rw - cgroup cgroup rw,pids\n";
        let found = parse(text, |_| Some(String::new()));
        assert_eq!(
            names(&found),
            ["V1 /sys/fs/cgroup/pids pids", "V2 /sys/fs/cgroup/unified "]
        );
    }

    #[test]
    fn escapes_and_quotas() {
        assert_eq!(unescape("/a\\040b\\134c\\"), "/a b\\c\\");
        assert_eq!(quota(0.5, 100_000), 50_000);
        assert_eq!(quota(0.001, 100_000), 1000);
    }
}
