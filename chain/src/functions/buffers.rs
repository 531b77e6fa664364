//! Room in sockets for bursts: a function that waits for a processor must not lose what arrives meanwhile,
//! for that would look like a loss on the way.

use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

/// Asked of the kernel in each direction, bytes; it gives what rmem_max and wmem_max allow.
const SOCKET_BUFFER: usize = 8 << 20;

/// Asks for large buffers. Beyond the limit only with CAP_NET_ADMIN of the host; a smaller one works too.
pub(super) fn enlarge(socket: &impl AsFd) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &SOCKET_BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER);
    }
}
