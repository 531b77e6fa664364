//! An AF_PACKET socket on one interface, and batches of frames with their virtio-net headers.
//!
//! The header (struct virtio_net_hdr, linux/virtio_net.h) says how large the segments of a large
//! packet are and which checksum is not filled in yet. It is passed on as it came, so 64 kB packets
//! without checksums go through unharmed; without it they would leave too large and with bad sums.
//!
//! The only file of this crate with unsafe code: nix has neither PACKET_VNET_HDR nor recvmmsg into
//! buffers that live longer than one call.
#![allow(
    unsafe_code,
    reason = "AF_PACKET options and batched reads and writes are not in nix"
)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::stop::Stop;
use super::{FunctionError, wait};

/// Frames that are read at once.
pub(super) const BATCH: usize = 32;
/// Bytes of struct virtio_net_hdr.
pub(super) const HEADER: usize = 10;
/// Room for a frame: virtio-net header, Ethernet header with tags, and the largest packet that TCP
/// makes before jumbograms (64 KiB, GSO_LEGACY_MAX_SIZE in linux/netdevice.h), to whole pages.
const FRAME: usize = 17 * 4096;
/// How long a write waits for room before the frame counts as lost.
const SEND_LIMIT: Duration = Duration::from_millis(50);

/// A socket on an interface.
pub(super) struct PacketSocket {
    fd: OwnedFd,
}

/// Frames as they were read: each is a virtio-net header and an Ethernet frame.
pub(super) struct Batch {
    buffers: Box<[u8]>,
    lengths: [usize; BATCH],
    cut: [bool; BATCH],
    count: usize,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let buffers = vec![0u8; BATCH * FRAME].into_boxed_slice();
        Batch {
            buffers,
            lengths: [0; BATCH],
            cut: [false; BATCH],
            count: 0,
        }
    }
    /// How many frames there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }
    /// A frame without its virtio-net header; `None` when it did not fit.
    pub(super) fn frame(&self, at: usize) -> Option<&[u8]> {
        let whole = self.lengths[at] >= HEADER && !self.cut[at];
        whole.then(|| &self.buffers[at * FRAME + HEADER..at * FRAME + self.lengths[at]])
    }
}

fn set(fd: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and `value` lives and is as long as said during the call.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl PacketSocket {
    /// Waits for `interface` to be up, at most `limit`, and takes every frame that arrives there from
    /// now on.
    pub(super) fn open(
        interface: &str,
        limit: Duration,
        stop: &Stop,
    ) -> Result<PacketSocket, FunctionError> {
        let index = wait::interface(interface, limit, stop)?;
        let failed = |verb: &'static str| {
            move |source: io::Error| FunctionError::Packet {
                interface: interface.to_owned(),
                verb,
                source,
            }
        };
        // Protocol 0: nothing arrives before the options are set and the socket is bound.
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the result is checked before it is used.
        let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if raw < 0 {
            return Err(failed("make a packet socket")(io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        set(&fd, libc::PACKET_VNET_HDR, 1).map_err(failed("ask for virtio-net headers"))?;
        set(&fd, libc::PACKET_IGNORE_OUTGOING, 1)
            .map_err(failed("ignore its own frames (Linux 4.20)"))?;
        super::buffers::enlarge(&fd);
        let limit = TimeVal::new(0, i64::try_from(SEND_LIMIT.as_micros()).unwrap_or(0));
        setsockopt(&fd, sockopt::SendTimeout, &limit)
            .map_err(|e| failed("set a time limit")(e.into()))?;
        bind(&fd, index).map_err(failed("listen"))?;
        Ok(PacketSocket { fd })
    }

    /// Reads what is there, without waiting, and gives how many frames that was.
    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<usize> {
        batch.count = 0;
        let mut parts: [libc::iovec; BATCH] = std::array::from_fn(|_| EMPTY);
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|_| NO_MESSAGE);
        for ((part, header), buffer) in parts
            .iter_mut()
            .zip(&mut headers)
            .zip(batch.buffers.chunks_exact_mut(FRAME))
        {
            *part = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: FRAME,
            };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: `headers` has BATCH entries, each with one part that points at a buffer of its own,
        // FRAME bytes long, in `batch.buffers`, which is borrowed for the whole call.
        let got = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        batch.count = got as usize;
        for (at, header) in headers.iter().enumerate().take(batch.count) {
            batch.lengths[at] = header.msg_len as usize;
            batch.cut[at] = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        }
        Ok(batch.count)
    }

    /// Sends the frames of `batch` that `keep` names (all of them whole), and gives how many the
    /// kernel took. A frame that it refuses is passed over.
    pub(super) fn send(&self, batch: &Batch, keep: &[usize]) -> usize {
        let mut parts: [libc::iovec; BATCH] = std::array::from_fn(|_| EMPTY);
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|_| NO_MESSAGE);
        let count = keep.len().min(BATCH);
        for ((part, header), at) in parts.iter_mut().zip(&mut headers).zip(&keep[..count]) {
            let bytes = &batch.buffers[at * FRAME..at * FRAME + batch.lengths[*at]];
            // The kernel only reads through this pointer; the type is shared with reading.
            let base = bytes.as_ptr().cast_mut().cast();
            *part = libc::iovec {
                iov_base: base,
                iov_len: bytes.len(),
            };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        let (mut next, mut taken) = (0, 0);
        while next < count {
            let rest = &mut headers[next..count];
            // SAFETY: `rest` is as long as said, and each entry's part points at bytes of
            // `batch.buffers`, which is borrowed for the whole call and only read.
            let sent = unsafe {
                libc::sendmmsg(
                    self.fd.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    0,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => {
                    taken += sent;
                    next += sent.max(1);
                }
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                Err(_) => next += 1,
            }
        }
        taken
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const EMPTY: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};
// SAFETY: an mmsghdr of zeros is a message without address, parts and control data.
const NO_MESSAGE: libc::mmsghdr = unsafe { std::mem::zeroed() };

fn bind(fd: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: a sockaddr_ll of zeros is valid; the fields that matter are set below.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` lives and is as long as said during the call.
    let done = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
