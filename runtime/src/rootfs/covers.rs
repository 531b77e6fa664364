//! What lies over the host's files in a container: empty folders of its own, empty secrets, plain network files, devices.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::{NONE, Root, is_own, make_dir, set_mode, shown, tmpfs};
use crate::failure::{Failure, Step};
use crate::sys;

/// Files that keep secrets of the host; shown empty where they exist. Not what keeps secrets: that is the container's
/// user, which is never the host's root. This is for machines that let anybody read them.
const SECRETS: [&str; 8] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/krb5.keytab",
    "/etc/security/opasswd",
    "/etc/machine-id",
    "/etc/crypttab",
];
/// Folders that keep secrets of the host; shown empty where they exist.
const SECRET_FOLDERS: [&str; 3] = ["/etc/ssl/private", "/etc/sudoers.d", "/etc/letsencrypt"];
/// Device nodes of the host that are harmless to share.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links that programs expect in /dev.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// The container's own folders: name, mode, size of its tmpfs.
const FOLDERS: [(&str, u32, &str); 5] = [
    ("/run", 0o755, "64m"),
    ("/var", 0o755, "256m"),
    ("/root", 0o700, "64m"),
    ("/home", 0o755, "64m"),
    ("/tmp", 0o1777, "256m"),
];
/// Group `tty` of Debian, Ubuntu and Fedora.
const TTY: u32 = 5;

/// Detached mounts, ready to be laid over files.
pub(super) struct Covers {
    /// Target in the container and what lies over it.
    files: Vec<(PathBuf, OwnedFd)>,
    /// Any number of copies are made of this empty file; it is outside the container's root.
    empty: PathBuf,
    hidden: Vec<OwnedFd>,
}

/// Makes the files in `stage`, which the container's root does not hold.
pub(super) fn prepare(stage: &Path, root: &Root<'_>) -> Result<Covers, Failure> {
    let name = root.hostname;
    let empty = stage.join("empty");
    write(&empty, "", 0o444)?;
    let mut files = Vec::new();
    for (file, text) in [
        (
            "hosts",
            format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 {name}\n"),
        ),
        ("hostname", format!("{name}\n")),
        ("resolv.conf", String::new()),
    ] {
        let source = stage.join(file);
        write(&source, &text, 0o444)?;
        files.push((Path::new("/etc").join(file), shown(&source, false)?));
    }
    for secret in SECRETS.iter().map(PathBuf::from).chain(ssh_keys()) {
        if secret.exists() {
            files.push((secret, shown(&empty, false)?));
        }
    }
    let hidden_files = root.hide.iter().filter(|p| p.is_file()).count();
    let hidden = (0..hidden_files)
        .map(|_| shown(&empty, false))
        .collect::<Result<_, _>>()?;
    Ok(Covers {
        files,
        empty,
        hidden,
    })
}

fn ssh_keys() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/etc/ssh").into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| {
        let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("ssh_host_") && !name.ends_with(".pub")
    })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    fs::write(path, text).step(&format!("write {}", path.display()))?;
    set_mode(path, mode)
}

impl Covers {
    /// Lays everything out; the caller's root is the container's.
    pub(super) fn place(mut self, hide: &[PathBuf]) -> Result<(), Failure> {
        for (target, tree) in &self.files {
            // A link into /run, as systemd-resolved makes: its target was the host's and is gone.
            if fs::metadata(target).is_err()
                && fs::symlink_metadata(target).is_ok_and(|m| m.is_symlink())
            {
                let to = fs::read_link(target).step(&format!("read {}", target.display()))?;
                let to = Path::new("/etc").join(to);
                let made = to.parent().is_some_and(|p| fs::create_dir_all(p).is_ok())
                    && fs::write(&to, "").is_ok();
                if !made {
                    continue;
                }
            }
            match sys::move_mount(tree, target) {
                // The host has no such file, and the container does without.
                Err(nix::errno::Errno::ENOENT) => {}
                other => other.step(&format!("cover {}", target.display()))?,
            }
        }
        let folders = SECRET_FOLDERS
            .iter()
            .map(Path::new)
            .chain(hide.iter().map(PathBuf::as_path));
        for path in folders.filter(|p| !is_own(p)) {
            let Ok(kind) = fs::metadata(path) else {
                continue;
            };
            if kind.is_dir() {
                let flags = MsFlags::MS_RDONLY
                    | MsFlags::MS_NOSUID
                    | MsFlags::MS_NODEV
                    | MsFlags::MS_NOEXEC;
                tmpfs(path, "mode=0555,size=4k", flags)?;
            } else {
                let empty = self.hidden.pop();
                let empty = empty.ok_or_else(|| {
                    Failure::new(format!("no copy of {} is left", self.empty.display()))
                })?;
                sys::move_mount(&empty, path).step(&format!("cover {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// The container's own folders, empty; the caller's root is the container's.
pub(super) fn own_folders(owner: u32) -> Result<(), Failure> {
    for (path, mode, size) in FOLDERS {
        let options = format!("mode={mode:o},size={size},uid={owner},gid={owner}");
        tmpfs(
            Path::new(path),
            &options,
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        )?;
    }
    let mine = |path: &str, mode: u32| {
        let path = Path::new(path);
        make_dir(path)?;
        set_mode(path, mode)?;
        std::os::unix::fs::chown(path, Some(owner), Some(owner))
            .step(&format!("give {} away", path.display()))
    };
    for path in [
        "/run/lock",
        "/var/lib",
        "/var/log",
        "/var/cache",
        "/var/spool",
    ] {
        mine(path, 0o755)?;
    }
    mine("/var/tmp", 0o1777)?;
    for (to, link) in [("/run", "/var/run"), ("/run/lock", "/var/lock")] {
        symlink(to, link).step(&format!("link {link}"))?;
    }
    Ok(())
}

/// A `/dev` with what every program expects and nothing that reaches hardware.
pub(super) fn devices(dev: &Path, owner: u32) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    tmpfs(dev, "mode=0755,size=64k", flags)?;
    for name in DEVICES {
        let (here, there) = (Path::new("/dev").join(name), dev.join(name));
        let tree =
            sys::open_tree(&here, false).step(&format!("copy the device {}", here.display()))?;
        sys::mount_set(&tree, sys::NOSUID | sys::NOEXEC)
            .step(&format!("restrict the device {}", here.display()))?;
        fs::write(&there, "").step(&format!("make {}", there.display()))?;
        sys::move_mount(&tree, &there).step(&format!("mount {}", there.display()))?;
    }
    for (to, link) in LINKS {
        symlink(to, dev.join(link)).step(&format!("link /dev/{link}"))?;
    }
    for name in ["pts", "shm"] {
        make_dir(&dev.join(name))?;
    }
    let options = format!("newinstance,ptmxmode=0666,mode=0620,gid={}", owner + TTY);
    mount(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        flags,
        Some(options.as_str()),
    )
    .step("mount /dev/pts")?;
    tmpfs(
        &dev.join("shm"),
        "mode=1777,size=64m",
        flags | MsFlags::MS_NODEV,
    )?;
    mount(
        NONE,
        dev,
        NONE,
        MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags,
        NONE,
    )
    .step("make /dev read-only")
}
