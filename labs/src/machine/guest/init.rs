//! Process 1 of a machine: file systems, modules, host name, loopback. Everything is in the archive that the kernel
//! unpacked, or in an image of packages below it; on a disk is the state alone.

use std::fs;
use std::path::Path;

use anyhow::Context;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::waitpid;
use nix::unistd::{chdir, chroot};

use crate::machine::initramfs::{MODULES, ORDER};

/// weft, inside.
pub(crate) const PROGRAM: &str = "/usr/bin/weft";
/// Said to a machine whose state is on a disk.
pub(crate) const ON_DISK: &str = "weft.disk=/dev/vda ";
/// What is on the disk: what weft keeps.
const STATE: &str = "/var/lib/weft";
/// Where programs are looked for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What could not be loaded, for the server to tell.
pub(super) const NOT_LOADED: &str = "/run/weft-not-loaded";

const NONE: Option<&str> = None;
const QUIET: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// Makes the machine what a booted one is.
pub(super) fn prepare() -> anyhow::Result<()> {
    own_root().context("make a root that can be changed")?;
    mounts()?;
    let not_loaded = load_modules().context("load modules")?;
    fs::write(NOT_LOADED, not_loaded.join("\n"))?;
    if let Some(device) = option("weft.packages") {
        packages(&device).context("put the packages below the root")?;
    }
    if let Some(device) = option("weft.disk") {
        fs::create_dir_all(STATE).context(STATE)?;
        mount(
            Some(device.as_str()),
            STATE,
            Some("ext4"),
            MsFlags::empty(),
            NONE,
        )
        .with_context(|| format!("mount {device} at {STATE}"))?;
    }
    let name = option("weft.name").unwrap_or_else(|| "machine".to_owned());
    nix::unistd::sethostname(&name).context("set the host name")?;
    fs::write("/etc/hostname", format!("{name}\n"))?;
    fs::write(
        "/etc/hosts",
        format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n"),
    )?;
    Ok(())
}

/// A container changes its root away from ours, which is not allowed from the very first one: this puts the same
/// tree over it.
fn own_root() -> anyhow::Result<()> {
    let over = Path::new("/mnt");
    fs::create_dir_all(over)?;
    mount(Some("/"), over, NONE, MsFlags::MS_BIND, NONE)?;
    take_root(over)
}

/// Makes the tree at this mount point the root.
fn take_root(over: &Path) -> anyhow::Result<()> {
    chdir(over)?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
    chroot(".")?;
    chdir("/")?;
    Ok(())
}

/// A root in which the files of the image are too, below those of the archive; what changes is in memory.
fn packages(device: &str) -> anyhow::Result<()> {
    let shared = MsFlags::empty();
    mount(
        Some("tmpfs"),
        "/mnt",
        Some("tmpfs"),
        shared,
        Some("mode=755"),
    )?;
    for folder in ["image", "upper", "work", "root"] {
        fs::create_dir(Path::new("/mnt").join(folder))?;
    }
    // The image is never written, so it has no journal to replay.
    let only_read = MsFlags::MS_RDONLY;
    mount(Some(device), "/mnt/image", Some("ext4"), only_read, NONE)
        .with_context(|| format!("mount {device}"))?;
    // weft first: it and its libraries are those that run the lab.
    let layers = "lowerdir=/:/mnt/image,upperdir=/mnt/upper,workdir=/mnt/work";
    mount(
        Some("overlay"),
        "/mnt/root",
        Some("overlay"),
        shared,
        Some(layers),
    )
    .context("mount the overlay")?;
    for place in ["/proc", "/sys", "/dev", "/run", "/tmp"] {
        let there = format!("/mnt/root{place}");
        mount(Some(place), there.as_str(), NONE, MsFlags::MS_MOVE, NONE)
            .with_context(|| format!("move {place}"))?;
    }
    take_root(Path::new("/mnt/root"))?;
    // Containers have overlays of their own, which may not stand on this one (Documentation/filesystems/overlayfs.rst).
    fs::create_dir_all(STATE)?;
    mount(
        Some("tmpfs"),
        STATE,
        Some("tmpfs"),
        shared,
        Some("mode=700"),
    )
    .with_context(|| format!("mount tmpfs at {STATE}"))?;
    Ok(())
}

fn mounts() -> anyhow::Result<()> {
    let device = MsFlags::MS_NOSUID;
    let shared = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let all = [
        ("proc", "/proc", QUIET, ""),
        ("sysfs", "/sys", QUIET, ""),
        ("devtmpfs", "/dev", device, "mode=755"),
        ("devpts", "/dev/pts", device, "gid=5,mode=620,ptmxmode=666"),
        ("tmpfs", "/dev/shm", shared, "mode=1777"),
        ("tmpfs", "/run", shared, "mode=755"),
        ("tmpfs", "/tmp", shared, "mode=1777"),
        ("cgroup2", "/sys/fs/cgroup", QUIET, ""),
        ("bpf", "/sys/fs/bpf", QUIET, "mode=700"),
    ];
    for (kind, place, flags, options) in all {
        fs::create_dir_all(place).with_context(|| place.to_owned())?;
        mount(Some(kind), place, Some(kind), flags, Some(options))
            .with_context(|| format!("mount {kind} at {place}"))?;
    }
    Ok(())
}

/// Loads what the archive lists, in its order, and frees the memory of the files. What the kernel refuses is told,
/// with its reason, to whoever asks why something is missing.
fn load_modules() -> anyhow::Result<Vec<String>> {
    let folder = Path::new(MODULES);
    let order = fs::read_to_string(folder.join(ORDER)).unwrap_or_default();
    let mut refused = Vec::new();
    for file in order.lines() {
        let path = folder.join(file);
        let opened = fs::File::open(&path).with_context(|| path.display().to_string())?;
        match finit_module(&opened, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => refused.push(format!("{file}: {error}")),
        }
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(refused)
}

/// `name=value` of the kernel's command line.
fn option(name: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
}

/// Reaps all that nobody else does, until the server has ended.
pub(super) fn reap_until(server: i32) -> anyhow::Result<()> {
    loop {
        match waitpid(None, None) {
            Ok(status) if status.pid().is_some_and(|pid| pid.as_raw() == server) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for the server"),
        }
    }
}

/// Writes what disks still hold and switches off. Process 1 must not end: if this fails, the kernel panics, which
/// ends the machine too.
pub(super) fn power_off() {
    nix::unistd::sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
}
