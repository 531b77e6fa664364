//! System calls that nix has not. The only unsafe code of this crate; each function is a thin, safe face
//! over one call. Nothing here decides anything.

#![allow(unsafe_code, reason = "the one place for system calls")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

/// Attributes for `mount_set` (linux/mount.h).
pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}
const _: () = assert!(size_of::<MountAttr>() == 32); // MOUNT_ATTR_SIZE_VER0

fn path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

fn result(value: libc::c_long) -> Result<libc::c_long, Errno> {
    if value < 0 {
        Err(Errno::last())
    } else {
        Ok(value)
    }
}

fn owned(value: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(result(value)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just returned this descriptor to us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of this process, in new namespaces where flags say so. `None` in the child.
///
/// The caller must be single-threaded, as the shim is: then the child may allocate and lock like any process.
pub(crate) fn fork(flags: CloneFlags) -> Result<Option<Pid>, Errno> {
    let flags = libc::c_long::from(flags.bits()) | libc::c_long::from(libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack this is fork(2): the child has its own copy of the memory.
    let pid = result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(match libc::pid_t::try_from(pid) {
        Ok(0) | Err(_) => None,
        Ok(pid) => Some(Pid::from_raw(pid)),
    })
}

/// A detached copy of the mount at `at`, with what is mounted below it if `recursive`.
pub(crate) fn open_tree(at: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
    let at = path(at)?;
    // SAFETY: the path is a valid C string for the time of the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, at.as_ptr(), flags) })
}

/// Sets attributes of a detached mount and of all below it, and makes them private.
pub(crate) fn mount_set(tree: impl AsFd, attributes: u64) -> Result<(), Errno> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let attr = MountAttr {
        set: attributes,
        clear: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the struct lives through the call and its size is passed with it.
    result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | AT_RECURSIVE,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Puts a detached mount at `target`, following symbolic links.
pub(crate) fn move_mount(tree: impl AsFd, target: &Path) -> Result<(), Errno> {
    const F_EMPTY_PATH: libc::c_int = 0x4;
    const T_SYMLINKS: libc::c_int = 0x10;
    let target = path(target)?;
    // SAFETY: both paths are valid C strings for the time of the call.
    result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            F_EMPTY_PATH | T_SYMLINKS,
        )
    })
    .map(drop)
}

/// A descriptor of a process, which is never another one's.
pub(crate) fn pidfd(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Takes a capability out of the bounding set. False when the kernel does not know that number.
pub(crate) fn drop_bounding(capability: u32) -> Result<bool, Errno> {
    // SAFETY: no pointers.
    let dropped = unsafe {
        libc::prctl(
            libc::PR_CAPBSET_DROP,
            libc::c_ulong::from(capability),
            0,
            0,
            0,
        )
    };
    match result(dropped.into()) {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Sets the ambient set to `mask`, which must be within the inheritable one.
pub(crate) fn set_ambient(mask: u64) -> Result<(), Errno> {
    let ambient = |what: libc::c_int, capability: u32| {
        // SAFETY: no pointers.
        let done = unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::c_ulong::try_from(what).unwrap_or(0),
                libc::c_ulong::from(capability),
                0,
                0,
            )
        };
        result(done.into())
    };
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for capability in (0..u64::BITS).filter(|n| mask & (1 << n) != 0) {
        ambient(libc::PR_CAP_AMBIENT_RAISE, capability)?;
    }
    Ok(())
}

/// Sets the effective, permitted and inheritable sets of this thread to `mask`.
pub(crate) fn set_capabilities(mask: u64) -> Result<(), Errno> {
    // struct __user_cap_header_struct and two __user_cap_data_struct (linux/capability.h), version 3.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let (low, high) = ((mask & 0xffff_ffff) as u32, (mask >> 32) as u32);
    let data: [u32; 6] = [low, low, low, high, high, high];
    // SAFETY: version 3 reads one header and six words, which live through the call.
    result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Leaves the keyring of whoever started us for a new, empty one.
pub(crate) fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) })
        .map(drop)
}

/// Closes every descriptor from 3 on but `keep`.
///
/// Only in a copy of a process that ends by exec or `exit_now`: whatever owned the descriptors there must never be
/// used or dropped again.
pub(crate) fn close_all_but(keep: BorrowedFd<'_>) -> Result<(), Errno> {
    let close = |first: libc::c_uint, last: libc::c_uint| {
        if first > last {
            return Ok(());
        }
        // SAFETY: no pointers; by the contract above nothing uses these descriptors any more.
        result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
    };
    let keep = libc::c_uint::try_from(keep.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    close(3, keep.saturating_sub(1))?;
    close(keep.saturating_add(1).max(3), libc::c_uint::MAX)
}

/// Sets the loopback interface of this network namespace up.
pub(crate) fn loopback_up(socket: impl AsFd) -> Result<(), Errno> {
    // SAFETY: `ifreq` is plain data, for which all zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::try_from(*from).unwrap_or(0);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives through the call.
    let done = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::SIOCSIFFLAGS,
            &raw const request,
        )
    };
    result(done.into()).map(drop)
}

/// Gives `signal` its default action. Rust ignores SIGPIPE, and an exec'd program would inherit that.
pub(crate) fn default_action(signal: nix::sys::signal::Signal) -> Result<(), Errno> {
    // SAFETY: SIG_DFL installs no handler of ours.
    unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) }.map(drop)
}

/// Owns descriptors that came over a socket.
pub(crate) fn adopt(fds: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: SCM_RIGHTS just installed these descriptors in this process, and nobody else has them.
    fds.into_iter()
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect()
}

/// Ends this process at once, without the ends of anything that it was copied from.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit only ends the process; no handlers run.
    unsafe { libc::_exit(code) }
}

/// `execve`; returns only when it failed.
pub(crate) fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    match nix::unistd::execve(path, arguments, environment) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}
