//! What the kernel says of a pinned link. aya tells the program but not the interface, so the two calls are
//! made here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::syscall::bpf;

/// `BPF_OBJ_GET` and `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd`, include/uapi/linux/bpf.h.
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// A TCX link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// Id of the program that it runs.
    pub(super) program: u32,
    /// The interface; 0 once that is gone.
    pub(super) ifindex: u32,
}

/// The fields of `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The fields of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct ObjInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_link_info` with the `tcx` member of its union.
#[repr(C)]
#[derive(Default)]
struct TcxInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
}

/// What is pinned at `pin`.
pub(super) fn of_pin(pin: &Path) -> io::Result<LinkInfo> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = ObjGet {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = bpf(OBJ_GET, &get)?;
    // SAFETY: the kernel has just opened it, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = TcxInfo::default();
    let ask = ObjInfo {
        fd: fd.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<TcxInfo>()).unwrap_or(0),
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &ask)?;
    Ok(LinkInfo {
        program: info.program,
        ifindex: info.ifindex,
    })
}
