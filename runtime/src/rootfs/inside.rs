//! The part of a container's root that only its own namespaces can make: `/proc`, `/sys`, and the end of all else.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::chdir;

use super::{NONE, enter};
use crate::failure::{Failure, Step};
use crate::sys;

/// Parts of /proc that concern the whole machine: readable, never writable.
const READ_ONLY: [&str; 5] = [
    "/proc/sys",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/proc/sysrq-trigger",
];
/// Files that tell of the whole machine's memory, keys and timing: shown empty.
const MASKED: [&str; 5] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/latency_stats",
    "/proc/sched_debug",
];
/// Folders of firmware and hardware: shown empty.
const MASKED_FOLDERS: [&str; 4] = [
    "/proc/acpi",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/kernel/security",
];

/// Finishes the root that `build` left, and makes it the root of this namespace. `tune` runs while /proc/sys can be written.
pub(crate) fn inside(tune: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    // A bind of the root onto itself is the one mount of it that this namespace may move.
    mount(
        Some("/root"),
        "/root",
        NONE,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NONE,
    )
    .step("bind the root")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // The kernel gives a user namespace these two only while the machine's own are in sight, so before `enter`.
    mount(Some("proc"), "/root/proc", Some("proc"), flags, NONE).step("mount /proc")?;
    mount(
        Some("sysfs"),
        "/root/sys",
        Some("sysfs"),
        flags | MsFlags::MS_RDONLY,
        NONE,
    )
    .step("mount /sys")?;
    enter(Path::new("/root"))?;
    tune()?;
    for path in READ_ONLY {
        cover(
            path,
            path,
            sys::RDONLY | sys::NOSUID | sys::NODEV | sys::NOEXEC,
        )?;
    }
    for path in MASKED {
        cover("/dev/null", path, sys::NOSUID | sys::NOEXEC)?;
    }
    for path in MASKED_FOLDERS {
        match mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            flags | MsFlags::MS_RDONLY,
            Some("mode=0555,size=4k"),
        ) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            other => other.step(&format!("cover {path}"))?,
        }
    }
    chdir("/").step("enter the root")
}

fn cover(source: &str, target: &str, attributes: u64) -> Result<(), Failure> {
    if !Path::new(target).exists() {
        return Ok(());
    }
    let tree =
        sys::open_tree(Path::new(source), false).step(&format!("copy the mount {source}"))?;
    sys::mount_set(&tree, attributes).step(&format!("restrict {target}"))?;
    sys::move_mount(&tree, Path::new(target)).step(&format!("cover {target}"))
}
