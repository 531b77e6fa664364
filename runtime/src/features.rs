//! What this machine offers to containers, for `weft doctor` and for the choices that depend on it. Reads only.

use std::fs;
use std::path::Path;

use crate::cgroup::{self, Version};
use crate::launch::USERS;

/// First host number that containers' users are mapped to, above those of distributions' people and services.
const FIRST_USER: u32 = 1_000_000;
/// Containers' ranges of users; two containers of equal range are still apart by their namespaces.
const RANGES: u32 = 16_384;

/// One thing that containers need or use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// What it is for, and what is without it.
    pub why: &'static str,
    /// What was found.
    pub found: String,
}

/// Looks at this machine.
pub fn probe() -> Vec<Feature> {
    let feature = |name, present, why, found: String| Feature {
        name,
        present,
        why,
        found,
    };
    let namespace = |kind: &str| Path::new("/proc/self/ns").join(kind).exists();
    let missing: Vec<&str> = ["mnt", "pid", "uts", "ipc", "net", "cgroup"]
        .into_iter()
        .filter(|k| !namespace(k))
        .collect();
    let hierarchies = cgroup::hierarchies().unwrap_or_default();
    let v1 = hierarchies
        .iter()
        .filter(|h| h.version == Version::V1)
        .count();
    let layout = match (v1, hierarchies.len() - v1) {
        (0, 0) => "none mounted",
        (0, _) => "v2",
        (_, 0) => "v1",
        _ => "hybrid",
    };
    let lacking: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|c| !hierarchies.iter().any(|h| h.has(c)))
        .collect();
    let root = nix::unistd::geteuid().is_root();
    vec![
        feature(
            "root",
            root,
            "containers are made by root",
            if root { "yes" } else { "no" }.to_owned(),
        ),
        feature(
            "namespaces",
            missing.is_empty(),
            "containers cannot be made without mnt, pid, uts, ipc, net and cgroup namespaces",
            if missing.is_empty() {
                "all".to_owned()
            } else {
                format!("missing: {}", missing.join(", "))
            },
        ),
        feature(
            "user namespaces",
            user_namespaces(),
            "a container's root is an unprivileged user of the host; without them its processes are such a user, and none is root",
            fs::read_to_string("/proc/sys/user/max_user_namespaces").map_or_else(
                |_| "not in this kernel".to_owned(),
                |n| format!("up to {}", n.trim()),
            ),
        ),
        feature(
            "cgroup controllers",
            lacking.is_empty(),
            "limits of containers; a limit whose controller is missing is refused",
            if lacking.is_empty() {
                layout.to_owned()
            } else {
                format!("{layout}; missing: {}", lacking.join(", "))
            },
        ),
    ]
}

/// Whether a container can have users of its own: the kernel makes such namespaces, and this process has the
/// numbers to map into them.
pub(crate) fn user_namespaces() -> bool {
    let allowed = fs::read_to_string("/proc/sys/user/max_user_namespaces")
        .ok()
        .and_then(|n| n.trim().parse::<u64>().ok());
    let last = u64::from(FIRST_USER) + u64::from(RANGES) * u64::from(USERS);
    let covers =
        |file: &str| fs::read_to_string(file).is_ok_and(|map| holds(&map, FIRST_USER.into(), last));
    allowed.is_some_and(|n| n > 0) && covers("/proc/self/uid_map") && covers("/proc/self/gid_map")
}

/// Whether a uid_map (user_namespaces(7)) has all of `first..last` in one line.
fn holds(map: &str, first: u64, last: u64) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        matches!(numbers[..], [inside, _, count] if inside <= first && last <= inside + count)
    })
}

/// The host's number for a container's root: the same for the same name, mostly different for others.
pub(crate) fn first_user(id: &str) -> u32 {
    // FNV-1a, 32 bits.
    let hash = id.bytes().fold(0x811c_9dc5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    FIRST_USER + hash % RANGES * USERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_the_kernel_writes_them() {
        let all = "         0          0 4294967295\n";
        assert!(holds(all, 1_000_000, 2_000_000));
        assert!(!holds(
            "         0    1000000      65536\n",
            1_000_000,
            1_065_536
        ));
        assert!(!holds("", 0, 1));
    }

    #[test]
    fn users_are_far_from_the_hosts() {
        for id in ["a", "red.web1", "blue.web1"] {
            let first = first_user(id);
            assert!(
                first >= FIRST_USER
                    && first
                        .checked_add(USERS)
                        .is_some_and(|last| last < i32::MAX.unsigned_abs())
            );
        }
        assert_ne!(first_user("red.web1"), first_user("blue.web1"));
    }

    proptest::proptest! {
        #[test]
        fn ranges_never_overlap_in_part(a: String, b: String) {
            let (a, b) = (first_user(&a), first_user(&b));
            proptest::prop_assert!(a == b || a.abs_diff(b) >= USERS);
        }
    }
}
