//! Whether the packet filter of this network namespace looks at what comes in. What takes packets before it may then not
//! be used, or rules that an operator wrote would hold for some of them only.
//!
//! Rules are not read, only which chains there are and whether they can do anything. weft's own table is about what
//! leaves networks, and is not counted.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// The table that is weft's.
const OWN_TABLE: &str = "weft";
/// Tables of iptables whose rules see what comes in (`/proc/net/ip_tables_names`).
const LEGACY: [&str; 3] = ["filter", "mangle", "raw"];

/// include/uapi/linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h.
mod uapi {
    pub const NLM_F_REQUEST: u16 = 0x1;
    pub const NLM_F_DUMP: u16 = 0x300;
    /// The answer was put together while something changed.
    pub const NLM_F_DUMP_INTR: u16 = 0x10;
    pub const NLMSG_ERROR: u16 = 2;
    pub const NLMSG_DONE: u16 = 3;
    const NFTABLES: u16 = 10 << 8;
    pub const NEWCHAIN: u16 = NFTABLES | 3;
    pub const GETCHAIN: u16 = NFTABLES | 4;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_POLICY: u16 = 5;
    /// Rules in it, and jumps to it.
    pub const CHAIN_USE: u16 = 6;
    pub const CHAIN_TYPE: u16 = 7;
    pub const HOOK_NUMBER: u16 = 1;
    pub const NF_DROP: u32 = 0;
    /// Families: inet, ip, netdev, ip6.
    pub const INET: u8 = 1;
    pub const IPV4: u8 = 2;
    pub const NETDEV: u8 = 5;
    pub const IPV6: u8 = 10;
    /// Hooks of IP: before routing, for this host, and where a device takes packets in.
    pub const ARRIVING: [u32; 3] = [0, 1, 5];
    /// The one of devices.
    pub const DEVICE_IN: u32 = 0;
}

/// Whether anything in this thread's namespace may drop or change packets that come in.
///
/// # Errors
/// The kernel cannot be asked.
pub fn looks_at_what_arrives() -> io::Result<bool> {
    Ok(legacy()? || nf_tables()?)
}

fn legacy() -> io::Result<bool> {
    let mut any = false;
    for family in ["ip", "ip6"] {
        let path = format!("/proc/thread-self/net/{family}_tables_names");
        match std::fs::read_to_string(path) {
            Ok(names) => any |= names.lines().any(|name| LEGACY.contains(&name)),
            // No table of iptables was ever made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(any)
}

fn nf_tables() -> io::Result<bool> {
    let socket: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    send(socket.as_raw_fd(), &request(), MsgFlags::empty())?;
    let mut datagram = vec![0; 32 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut datagram, MsgFlags::empty())?;
        match judge(&datagram[..length])? {
            Judgement::More => {}
            Judgement::Looks => return Ok(true),
            Judgement::Ended => return Ok(false),
        }
    }
}

/// All chains of all families.
fn request() -> Vec<u8> {
    let mut bytes = 20u32.to_ne_bytes().to_vec();
    bytes.extend(uapi::GETCHAIN.to_ne_bytes());
    bytes.extend((uapi::NLM_F_REQUEST | uapi::NLM_F_DUMP).to_ne_bytes());
    bytes.extend([0; 8]);
    // Any family, version 0.
    bytes.extend([0; 4]);
    bytes
}

/// What a datagram of the answer says.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    More,
    Looks,
    Ended,
}

fn judge(datagram: &[u8]) -> io::Result<Judgement> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = word(rest, 0).ok_or_else(broken)? as usize;
        let kind = half(rest, 4).ok_or_else(broken)?;
        let flags = half(rest, 6).ok_or_else(broken)?;
        let body = rest.get(16..length).ok_or_else(broken)?;
        if flags & uapi::NLM_F_DUMP_INTR != 0 {
            // Nobody knows; it is asked again soon.
            return Ok(Judgement::Looks);
        }
        match kind {
            uapi::NLMSG_DONE => return Ok(Judgement::Ended),
            uapi::NLMSG_ERROR => return refused(body).map(|()| Judgement::Ended),
            uapi::NEWCHAIN if looks(body) => return Ok(Judgement::Looks),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Judgement::More)
}

/// An error that says that this kernel has no nf_tables is none.
fn refused(body: &[u8]) -> io::Result<()> {
    let code = word(body, 0).map_or(0, |code| code.cast_signed().wrapping_neg());
    match code {
        libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT | libc::EPROTONOSUPPORT => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Whether a chain sees what comes in, and can do anything with it.
fn looks(body: &[u8]) -> bool {
    let (Some(&family), Some(attributes)) = (body.first(), body.get(4..)) else {
        return false;
    };
    let Some(hook) = find(attributes, uapi::CHAIN_HOOK)
        .and_then(|hook| find(hook, uapi::HOOK_NUMBER))
        .and_then(big_word)
    else {
        // Only others jump to it.
        return false;
    };
    let arrives = match family {
        uapi::INET | uapi::IPV4 | uapi::IPV6 => uapi::ARRIVING.contains(&hook),
        uapi::NETDEV => hook == uapi::DEVICE_IN,
        _ => false,
    };
    let own = find(attributes, uapi::CHAIN_TABLE).is_some_and(|name| is(name, OWN_TABLE));
    let filters = find(attributes, uapi::CHAIN_TYPE).is_none_or(|kind| is(kind, "filter"));
    let number = |kind| find(attributes, kind).and_then(big_word);
    let acts = number(uapi::CHAIN_USE).is_none_or(|used| used > 0)
        || number(uapi::CHAIN_POLICY) == Some(uapi::NF_DROP);
    arrives && !own && filters && acts
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        let length = usize::from(length);
        // The upper two bits say how the value is written.
        if kind & 0x3fff == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

fn is(text: &[u8], wanted: &str) -> bool {
    text.strip_suffix(&[0]) == Some(wanted.as_bytes())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(four))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(two))
}

/// nf_tables writes its numbers in network order.
fn big_word(bytes: &[u8]) -> Option<u32> {
    word(bytes, 0).map(u32::from_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32 + 16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    /// A chain as the kernel tells of it.
    fn chain(
        family: u8,
        table: &str,
        kind: &str,
        hook: u32,
        (used, policy): (u32, u32),
    ) -> Vec<u8> {
        let text = |word: &str| [word.as_bytes(), &[0]].concat();
        let hook = attribute(uapi::HOOK_NUMBER, &hook.to_be_bytes());
        let body = [
            vec![family, 0, 0, 0],
            attribute(uapi::CHAIN_TABLE, &text(table)),
            attribute(uapi::CHAIN_HOOK | 0x8000, &hook),
            attribute(uapi::CHAIN_POLICY, &policy.to_be_bytes()),
            attribute(uapi::CHAIN_TYPE, &text(kind)),
            attribute(uapi::CHAIN_USE, &used.to_be_bytes()),
        ];
        message(uapi::NEWCHAIN, &body.concat())
    }

    #[test]
    fn chains_that_can_do_something_with_what_comes_in_count() {
        let looks = |chain: Vec<u8>| judge(&chain).unwrap() == Judgement::Looks;
        let accept = |used| (used, 1);
        assert!(looks(chain(1, "mine", "filter", 1, accept(1))));
        assert!(looks(chain(2, "mine", "filter", 0, accept(3))));
        assert!(looks(chain(5, "mine", "filter", 0, accept(1))));
        assert!(looks(chain(10, "mine", "filter", 1, (0, uapi::NF_DROP))));
        // Empty, what leaves, translation, a bridge's, weft's own.
        assert!(!looks(chain(1, "mine", "filter", 1, accept(0))));
        assert!(!looks(chain(1, "mine", "filter", 3, accept(1))));
        assert!(!looks(chain(2, "mine", "nat", 0, accept(1))));
        assert!(!looks(chain(7, "mine", "filter", 1, accept(1))));
        assert!(!looks(chain(1, "weft", "filter", 1, accept(1))));
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_not_beyond() {
        let empty = chain(1, "mine", "filter", 1, (0, 1));
        let full = chain(1, "mine", "filter", 1, (1, 1));
        let end = message(uapi::NLMSG_DONE, &[0; 4]);
        let all = |parts: [&Vec<u8>; 2]| judge(&parts.map(Vec::as_slice).concat()).unwrap();
        assert_eq!(judge(&empty).unwrap(), Judgement::More);
        assert_eq!(all([&empty, &end]), Judgement::Ended);
        assert_eq!(all([&empty, &full]), Judgement::Looks);
        assert!(judge(&full[..full.len() - 4]).is_err());
        let error = |code: i32| message(uapi::NLMSG_ERROR, &(-code).to_ne_bytes());
        let ended = judge(&error(libc::EOPNOTSUPP)).unwrap();
        assert_eq!(ended, Judgement::Ended, "a kernel without nf_tables");
        assert!(judge(&error(libc::EPERM)).is_err());
    }
}
