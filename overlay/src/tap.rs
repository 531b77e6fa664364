//! TAP devices: one end is an interface of a network namespace, the other one a descriptor that frames are read from
//! and written to.
//!
//! The kernel may leave work on a frame undone, its checksum and its cutting into segments, and say so beside it
//! (Documentation/networking/tuntap.rst; `struct virtio_net_hdr`). Whoever hands such a frame to another device hands
//! over what was said, and the work is done there, or never, where both ends are on one machine.

// Two requests of the device that nix has not; each says why it is sound.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

mod request {
    nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);
    nix::ioctl_write_int_bad!(set_offload, libc::TUNSETOFFLOAD);
    nix::ioctl_write_int_bad!(set_persist, libc::TUNSETPERSIST);
}

/// Bytes of `struct virtio_net_hdr` without the number of buffers (include/uapi/linux/virtio_net.h).
const HEADER: usize = 10;

/// What the kernel has left undone on a frame; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undone([u8; HEADER]);

impl Undone {
    /// Whether the frame is as it would be on a wire.
    pub fn is_nothing(self) -> bool {
        // The flags, of which the second says that the checksum is known to be right, and the kind of segments.
        self.0[0] & 1 == 0 && self.0[1] == 0
    }
}

/// A TAP device. It is gone with this.
#[derive(Debug)]
pub struct Tap(File);

impl Tap {
    /// Makes the interface in the network namespace of this thread. Reads and writes never wait.
    pub fn create(name: &str) -> io::Result<Tap> {
        open(name, libc::IFF_VNET_HDR).map(Tap)
    }

    /// Makes the interface in the network namespace of this thread, to stay there for who opens it later.
    pub fn keep(name: &str) -> io::Result<()> {
        let file = open(name, 0)?;
        // SAFETY: the descriptor is open; the request takes a number.
        unsafe { request::set_persist(file.as_raw_fd(), 1) }?;
        Ok(())
    }

    /// Lets the kernel leave checksums and the cutting of TCP undone on what it sends from now on, or not.
    pub fn leave_undone(&self, yes: bool) -> io::Result<()> {
        let all = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        let offload = if yes { all as libc::c_int } else { 0 };
        // SAFETY: the descriptor is open; the request takes a number.
        unsafe { request::set_offload(self.0.as_raw_fd(), offload) }?;
        Ok(())
    }

    /// One frame: its length, and what is undone on it.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Undone)> {
        let mut undone = Undone::default();
        let mut parts = [IoSliceMut::new(&mut undone.0), IoSliceMut::new(buffer)];
        let read = (&self.0).read_vectored(&mut parts)?;
        Ok((read.saturating_sub(HEADER), undone))
    }

    /// One frame, and what is undone on it.
    pub fn send(&self, frame: &[u8], undone: Undone) -> io::Result<()> {
        let parts = [IoSlice::new(&undone.0), IoSlice::new(frame)];
        (&self.0).write_vectored(&parts).map(drop)
    }
}

fn open(name: &str, more: libc::c_int) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: integers and a union of such; all zero is a valid value.
    let mut wanted: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte is left for the end of the name.
    if name.len() >= wanted.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in wanted.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | more;
    wanted.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open and the request lives; the kernel reads it only.
    unsafe { request::set_interface(file.as_raw_fd(), &wanted) }?;
    Ok(file)
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
