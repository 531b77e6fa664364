//! Network namespaces by file descriptor: open, make, and run something inside one.
//!
//! A thread's namespace is never changed under anybody: whatever must happen inside a namespace
//! happens on a thread of its own, which ends afterwards.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

/// A namespace that could not be opened, made or entered.
#[derive(Debug, thiserror::Error)]
#[error("network namespace: {verb} {subject}: {source}")]
pub struct NetnsError {
    /// What was tried.
    pub verb: &'static str,
    /// On what.
    pub subject: String,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl NetnsError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self.source.kind() {
            io::ErrorKind::PermissionDenied => "run as root (CAP_SYS_ADMIN is needed)".into(),
            io::ErrorKind::NotFound => "the process or namespace is gone: look at `weft ps`".into(),
            _ => "`weft doctor` shows what this kernel has".into(),
        }
    }
}

fn failed(verb: &'static str, subject: impl ToString, source: impl Into<io::Error>) -> NetnsError {
    NetnsError {
        verb,
        subject: subject.to_string(),
        source: source.into(),
    }
}

/// The calling thread's namespace.
pub fn current() -> Result<OwnedFd, NetnsError> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// The namespace of a process.
pub fn of_pid(pid: u32) -> Result<OwnedFd, NetnsError> {
    open(Path::new(&format!("/proc/{pid}/ns/net")))
}

/// The namespace at a path (`/proc/PID/ns/net` or a bind mount of one). Anything else is not even opened: that may
/// wait for ever, or do something.
pub fn open(path: &Path) -> Result<OwnedFd, NetnsError> {
    let seen = statfs(path).map_err(|e| failed("open", path.display(), e))?;
    if seen.filesystem_type() != NSFS_MAGIC {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is no namespace");
        return Err(failed("open", path.display(), error));
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    match file {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(failed("open", path.display(), error)),
    }
}

/// A new namespace that lives as long as something holds it: the descriptor, a process, a mount. Its
/// loopback is down.
pub fn create() -> Result<OwnedFd, NetnsError> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| failed("create", "a new one", e))?;
        current()
    })?
}

/// A namespace that lives until [`unpin`], whoever ends, at most until the machine does: the one at `path`, or else a
/// new one, mounted there. Its loopback is down. Whether it is new comes with it.
pub fn pinned(path: &Path) -> Result<(OwnedFd, bool), NetnsError> {
    if let Ok(there) = open(path) {
        return Ok((there, false));
    }
    let name = path.display();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| failed("make a folder for", &name, e))?;
    }
    std::fs::write(path, "").map_err(|e| failed("make a place for", &name, e))?;
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| failed("create", "a new one", e))?;
        let own = Some("/proc/thread-self/ns/net");
        let nothing = None::<&str>;
        mount(own, path, nothing, MsFlags::MS_BIND, nothing)
            .map_err(|e| failed("mount", &name, e))?;
        Ok((current()?, true))
    })?
}

/// Takes away what [`pinned`] made; what is not there is as good. It ends when nobody else holds it.
pub fn unpin(path: &Path) -> Result<(), NetnsError> {
    let name = path.display();
    match umount2(path, MntFlags::MNT_DETACH) {
        // Not mounted, or not there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => return Err(failed("unmount", &name, error)),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove", &name, error))
        }
        _ => Ok(()),
    }
}

/// Runs `work` on a fresh thread inside `netns`. /proc/sys/net there is that namespace's.
pub fn run_in_netns<R: Send>(
    netns: impl AsFd,
    work: impl FnOnce() -> R + Send,
) -> Result<R, NetnsError> {
    let netns = netns.as_fd();
    on_thread(move || {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(|e| failed("enter", "by descriptor", e))?;
        Ok(work())
    })?
}

fn on_thread<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, NetnsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("weft-netns".into())
            .spawn_scoped(scope, work)
            .map_err(|e| failed("start a thread for", "work inside one", e))?;
        // A panic in there is a bug of the caller's: it goes on here.
        thread
            .join()
            .map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
    })
}
