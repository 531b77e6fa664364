//! The bpf(2) calls that aya does not offer go by this one.

use std::io;

/// Calls bpf(2) with the fields of `union bpf_attr` that the command reads, in a `repr(C)` struct of integers.
/// Addresses among them must be of memory that lives across the call, with the lengths that are given beside
/// them.
pub(crate) fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` with its true size; what the addresses in it need is
    // said above, and both callers keep it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
