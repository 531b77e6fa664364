//! What a container sees of the disk: image `host`, the machine's own root, read-only, with its private places covered.
//!
//! Built in two steps. `build` runs with the runtime's privileges in a mount namespace of its own and leaves a small
//! tree (`/root`, and the host's `/proc` and `/sys`) as that namespace's root. The container's user namespace is made
//! after that, so every cover is locked for it: even a process with all its capabilities cannot lift one.
//! `inside` runs in the container's namespaces, mounts its own `/proc` and `/sys` and drops all but `/root`.
//!
//! The root is a tmpfs with one bind for each entry of the host's `/`, so that mount points such as `/.weft` need
//! no change on the host.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use crate::failure::{Failure, Step};
use crate::sys;

mod covers;
mod inside;

pub(crate) use inside::inside;

const NONE: Option<&str> = None;
/// Entries of `/` that are not the host's.
const OWN: [&str; 9] = [
    "proc", "sys", "dev", "run", "var", "root", "home", "tmp", ".weft",
];
/// For everything of the host's that is shown.
const SHOWN: u64 = sys::RDONLY | sys::NOSUID | sys::NODEV;

/// What is needed to build a root.
#[derive(Debug)]
pub(crate) struct Root<'a> {
    /// An empty folder to build in; its mounts exist only in the container's namespace.
    pub stage: &'a Path,
    /// The program that is shown as `/.weft`.
    pub exe: &'a Path,
    /// Paths that the container must not see.
    pub hide: &'a [PathBuf],
    /// For `/etc/hosts` and `/etc/hostname`.
    pub hostname: &'a str,
    /// The host's number for the container's user.
    pub owner: u32,
}

/// Builds the root and makes its stage the root of this mount namespace, which must be new.
pub(crate) fn build(root: &Root<'_>) -> Result<(), Failure> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .step("make mounts private")?;
    // Before the stage is mounted, or it would be seen in its own view.
    let exe = shown(root.exe, false)?;
    let host = host_entries()?;
    let stage = root.stage;
    tmpfs(
        stage,
        "mode=0755,size=1m",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
    )?;
    let view = stage.join("root");
    make_dir(&view)?;
    tmpfs(
        &view,
        &format!("mode=0755,size=1m,uid={0},gid={0}", root.owner),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
    )?;
    for name in ["proc", "sys"] {
        let here = Path::new("/").join(name);
        let tree =
            sys::open_tree(&here, false).step(&format!("copy the mount {}", here.display()))?;
        let there = stage.join(name);
        make_dir(&there)?;
        sys::move_mount(&tree, &there).step(&format!("mount {}", there.display()))?;
    }
    for entry in host {
        entry.place(&view)?;
    }
    for name in OWN {
        let own = view.join(name);
        if name == ".weft" {
            fs::write(&own, "").step("make /.weft")?
        } else {
            make_dir(&own)?
        }
    }
    sys::move_mount(&exe, &view.join(".weft")).step("mount /.weft")?;
    covers::devices(&view.join("dev"), root.owner)?;
    let covers = covers::prepare(stage, root)?;

    enter(stage)?;
    let back = open(
        "/",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .step("open the stage")?;
    // Covers follow the symbolic links of the container's view, never those of the host's.
    chroot("/root")
        .and_then(|()| chdir("/"))
        .step("enter the container's root")?;
    covers::own_folders(root.owner)?;
    covers.place(root.hide)?;
    mount(
        NONE,
        "/",
        NONE,
        MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV,
        NONE,
    )
    .step("make the root read-only")?;
    fchdir(back)
        .and_then(|()| chroot("."))
        .step("leave the container's root")
}

/// Makes `stage` the root of this mount namespace and lets go of the old one.
fn enter(stage: &Path) -> Result<(), Failure> {
    chdir(stage).step("enter the stage")?;
    pivot_root(".", ".").step("change the root to the stage")?;
    umount2(".", MntFlags::MNT_DETACH).step("let go of the host's root")?;
    chdir("/").step("enter the stage")
}

/// An entry of the host's `/` on its way into a container's.
struct Entry {
    name: OsString,
    what: What,
}

enum What {
    Link(PathBuf),
    Folder(OwnedFd),
    File(OwnedFd),
}

/// All entries that a container has nothing of its own for.
fn host_entries() -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for entry in fs::read_dir("/").step("read /")? {
        let entry = entry.step("read /")?;
        let (name, path) = (entry.file_name(), entry.path());
        if OWN.iter().any(|own| name.to_str() == Some(own)) {
            continue;
        }
        let kind = entry
            .file_type()
            .step(&format!("look at {}", path.display()))?;
        let what = if kind.is_symlink() {
            What::Link(fs::read_link(&path).step(&format!("read {}", path.display()))?)
        } else if kind.is_dir() {
            What::Folder(shown(&path, true)?)
        } else if kind.is_file() {
            What::File(shown(&path, false)?)
        } else {
            continue;
        };
        entries.push(Entry { name, what });
    }
    Ok(entries)
}

impl Entry {
    fn place(&self, view: &Path) -> Result<(), Failure> {
        let there = view.join(&self.name);
        let what = format!("show {}", there.display());
        let tree = match &self.what {
            What::Link(to) => return symlink(to, &there).step(&what),
            What::Folder(tree) => {
                make_dir(&there)?;
                tree
            }
            What::File(tree) => {
                fs::write(&there, "").step(&what)?;
                tree
            }
        };
        sys::move_mount(tree, &there).step(&what)
    }
}

/// A detached, read-only copy of a mount of the host.
fn shown(path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    let tree =
        sys::open_tree(path, recursive).step(&format!("copy the mount {}", path.display()))?;
    sys::mount_set(&tree, SHOWN).step(&format!("make the copy of {} read-only", path.display()))?;
    Ok(tree)
}

fn tmpfs(at: &Path, options: &str, flags: MsFlags) -> Result<(), Failure> {
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .step(&format!("mount a tmpfs at {}", at.display()))
}

fn make_dir(path: &Path) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.step(&format!("make {}", path.display())),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .step(&format!("set the mode of {}", path.display()))
}

/// Whether a path of the host lies where the container has something of its own anyway.
fn is_own(path: &Path) -> bool {
    let first = path.components().find_map(|c| match c {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    first.is_none_or(|name| OWN.iter().any(|own| name == *own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_component_decides_what_is_covered() {
        assert!(is_own(Path::new("/run/weft")));
        assert!(is_own(Path::new("/var")));
        assert!(is_own(Path::new("/")));
        assert!(!is_own(Path::new("/srv/run")));
        assert!(!is_own(Path::new("/running")));
    }
}
