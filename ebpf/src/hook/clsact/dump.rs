//! Reads an interface's ingress filters from the kernel (rtnetlink(7), `RTM_GETTFILTER`). aya finds filters by
//! name but does not tell which program they run.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// A BPF filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) priority: u16,
    pub(super) handle: u32,
    /// Id of its program.
    pub(super) program: u32,
    /// The name it was made with: its program's.
    pub(super) name: String,
}

/// include/uapi/linux/rtnetlink.h
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// include/uapi/linux/pkt_cls.h
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`, include/uapi/linux/pkt_sched.h
const INGRESS: u32 = 0xffff_fff2;
/// Sizes of `struct nlmsghdr` and `struct tcmsg`, bytes.
const HEADER: usize = 16;
const TCMSG: usize = 20;

/// The BPF filters at the ingress of an interface; none when it has no clsact, or is gone.
pub(super) fn ingress(ifindex: u32) -> io::Result<Vec<Filter>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(socket.as_raw_fd(), &request(ifindex), MsgFlags::empty())?;
    let mut filters = Vec::new();
    // The kernel fills at most 32 KiB of a dump at once (netlink_dump).
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if take(&buffer[..length], &mut filters)? {
            return Ok(filters);
        }
    }
}

fn request(ifindex: u32) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut bytes = Vec::with_capacity(HEADER + TCMSG);
    bytes.extend(((HEADER + TCMSG) as u32).to_ne_bytes());
    bytes.extend(RTM_GETTFILTER.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]); // sequence, port
    bytes.extend([0; 4]); // family, padding
    bytes.extend(ifindex.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes()); // any handle
    bytes.extend(INGRESS.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes()); // any priority and protocol
    bytes
}

/// Takes the filters out of one datagram; whether the dump ended with it.
fn take(mut bytes: &[u8], filters: &mut Vec<Filter>) -> io::Result<bool> {
    while let Some(length) = u32_at(bytes, 0) {
        let length = length as usize;
        let Some(message) = bytes.get(..length).filter(|m| m.len() >= HEADER) else {
            return Err(io::Error::other("a netlink message is cut off"));
        };
        match i32::from(u16_at(message, 4).unwrap_or(0)) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => {
                let code = u32_at(message, HEADER).unwrap_or(0).cast_signed();
                return match -code {
                    // No such device, or no queueing discipline there: no filters.
                    0 | libc::ENODEV | libc::EINVAL | libc::ENOENT => Ok(true),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
            kind if kind == i32::from(RTM_NEWTFILTER) => filters.extend(filter(message)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

/// A filter, if it is one of BPF with a program: the dump tells each priority without one, too.
fn filter(message: &[u8]) -> Option<Filter> {
    let handle = u32_at(message, HEADER + 8)?;
    let info = u32_at(message, HEADER + 16)?;
    let attributes = message.get(HEADER + TCMSG..)?;
    if attribute(attributes, TCA_KIND)? != b"bpf\0" {
        return None;
    }
    let options = attribute(attributes, TCA_OPTIONS)?;
    let name = attribute(options, TCA_BPF_NAME)?;
    Some(Filter {
        priority: (info >> 16) as u16,
        handle,
        program: u32_at(attribute(options, TCA_BPF_ID)?, 0)?,
        name: String::from_utf8_lossy(name.split(|b| *b == 0).next()?).into_owned(),
    })
}

/// The value of the first attribute of a kind.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two upper bits are flags (NLA_TYPE_MASK).
        let found = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
