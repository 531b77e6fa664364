//! A machine's disk as a real one: what was written is not there after a power cut until it was flushed.
//!
//! A process of the lab serves the disk to QEMU over NBD. It answers writes from a cache in its memory, as the cache
//! of a drive does, and writes them to the image only on a flush. So a machine that is killed loses nothing, and one
//! whose power is cut loses what a drive may lose: any part, sector by sector, of what was not flushed.
//! - `volatile`: the cache and what a cut leaves of it; pure. `nbd`: the protocol. `serve`: the process.
//! - `control`: what the process is asked.
//!
//! Never: what is on the disk; the image is made by [`make`], the file system by the machine's own kernel.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{Whence, lseek};

use crate::command::Lines;
use crate::error::LabError;

mod control;
mod nbd;
mod serve;
mod volatile;

pub(crate) use control::save;
pub use control::{Cut, cut};

/// The hidden word of the command line.
pub const WORD: &str = "lab-disk";
/// Where QEMU finds it, in the disk's folder.
pub(crate) const NBD: &str = "nbd.sock";
const CONTROL: &str = "control.sock";
const IMAGE: &str = "image";
/// Makes the file system; its package is e2fsprogs everywhere.
pub(crate) const MKFS: &str = "mkfs.ext4";
/// How long the process may take to make its sockets.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// `lab-disk ID FOLDER`: serves the image in FOLDER until it is ended. ID is the lab's, by which it is found.
pub fn main(args: &[String]) -> ! {
    let done = match args {
        [_, folder] => serve::run(Path::new(folder)),
        _ => Err(anyhow::anyhow!(
            "`weft {WORD}` is started by `weft lab`; it is not for people"
        )),
    };
    if let Err(error) = done {
        // The engine reads this line; there is nobody else to tell.
        let _ = writeln!(std::io::stdout(), "error: {error:#}");
        std::process::exit(1);
    }
    std::process::exit(0)
}

/// Makes an image of this size in `folder`, with an empty ext4 file system.
pub fn make(folder: &Path, mebibytes: u32) -> Result<(), LabError> {
    std::fs::create_dir_all(folder).map_err(LabError::io("create the disk's folder", folder))?;
    let image = folder.join(IMAGE);
    File::create(&image)
        .and_then(|file| file.set_len(u64::from(mebibytes) << 20))
        .map_err(LabError::io("make the disk's image", &image))?;
    let failed = |cause: String| {
        let help = "install e2fsprogs, or remove `disk`";
        LabError::failed(format!("disk {}", image.display()), cause, help)
    };
    let output = Command::new(MKFS)
        .env("PATH", administrators())
        .args(["-q", "-F"])
        .arg(&image)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(format!("{MKFS} cannot be started: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("{MKFS}: {said}")))
}

/// Where programs are, and where a user's own search does not look for those of administrators.
pub(crate) fn administrators() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&own).filter(|folder| folder.is_absolute());
    let more = ["/usr/sbin".into(), "/sbin".into()];
    std::env::join_paths(own.chain(more)).unwrap_or_default()
}

/// Puts a saved image into `folder`, in place of the one that is there; nobody serves it.
pub(crate) fn replace(folder: &Path, saved: &Path) -> Result<(), LabError> {
    let image = folder.join(IMAGE);
    copy(saved, &image).map_err(LabError::io("restore the disk's image", &image))
}

/// Copies an image; what was never written takes no room in the copy either.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut end = 0;
    // Past the last data there is none: ENXIO (lseek(2)).
    while let Ok(start) = lseek(&from, end, Whence::SeekData) {
        end = lseek(&from, start, Whence::SeekHole)?;
        from.seek(SeekFrom::Start(start as u64))?;
        to.seek(SeekFrom::Start(start as u64))?;
        io::copy(&mut (&from).take((end - start) as u64), &mut to)?;
    }
    Ok(())
}

/// Starts the process that serves the image in `folder`; its sockets are there when this returns.
pub fn start(exe: &Path, id: &str, folder: &Path) -> Result<(), LabError> {
    let failed = |cause: String| {
        let subject = format!("disk {}", folder.display());
        LabError::failed(subject, cause, "run the command again")
    };
    let mut command = Command::new(exe);
    command.args([WORD, id]).arg(folder);
    let mut lines = Lines::start(command).map_err(|e| failed(e.to_string()))?;
    match lines.next(Instant::now() + READY_WITHIN) {
        Some(line) if line == "ready" => {
            lines.leave_running();
            Ok(())
        }
        said => {
            let said = said.unwrap_or_else(|| "it does not start".to_owned());
            Err(failed(format!("{said} {}", lines.finish().trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let image = File::create(&one).unwrap();
        image.set_len(64 << 20).unwrap();
        for at in [0, 5 << 20, (64 << 20) - 4096] {
            image.write_all_at(&[7; 4096], at).unwrap();
        }
        copy(&one, &two).unwrap();
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());
        let blocks = |path: &Path| std::fs::metadata(path).unwrap().blocks();
        assert!(blocks(&two) <= blocks(&one), "{} blocks", blocks(&two));
        assert!(blocks(&one) < 1000);
        // What was in a file before is gone.
        std::fs::write(&one, b"").unwrap();
        copy(&one, &two).unwrap();
        assert_eq!(std::fs::metadata(&two).unwrap().len(), 0);
    }
}
