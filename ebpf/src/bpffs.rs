//! The BPF file system: mounted where it is needed.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::Error;

/// Makes sure that `dir` exists on a bpffs: mounts one at `/sys/fs/bpf` when `dir` lies below it and
/// none is there, else at `dir` itself.
///
/// # Errors
/// [`Error::Bpffs`] when it cannot be mounted or the folder not be made.
pub fn ensure(dir: &Path) -> Result<(), Error> {
    let standard = Path::new("/sys/fs/bpf");
    let point: PathBuf = if dir.starts_with(standard) {
        standard.into()
    } else {
        dir.into()
    };
    let fail = |action| {
        let path = point.clone();
        move |source| Error::Bpffs {
            path,
            action,
            source,
        }
    };
    if !point.exists() {
        fs::create_dir_all(&point).map_err(fail("making the folder"))?;
    }
    let there = is_bpffs(&point) || (dir.exists() && is_bpffs(dir));
    if !there {
        mount(
            Some("bpf"),
            &point,
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .map_err(|errno| fail("mounting")(errno.into()))?;
    }
    fs::create_dir_all(dir).map_err(|source| Error::Bpffs {
        path: dir.into(),
        action: "making the folder",
        source,
    })
}

/// Whether a bpffs is mounted here.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}
