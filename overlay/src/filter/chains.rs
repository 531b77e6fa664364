//! The chains that others made: only which there are and what they could do, their rules are not read.

use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_DUMP, NetlinkPayload};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DevHookNumber, Hook, HookNumber, InetHookNumber, NfTablesMessage,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use super::encode::DROP;
use super::socket::{frame, open, parse};
use crate::gateway::TABLE;
use crate::netns;

/// `NLM_F_DUMP_INTR`, include/uapi/linux/netlink.h: the answer was put together while something changed.
const INTERRUPTED: u16 = 0x10;
/// Tables of iptables whose rules see what comes in (`/proc/net/ip_tables_names`).
const LEGACY: [&str; 3] = ["filter", "mangle", "raw"];

/// A chain at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    family: NetfilterProtoFamily,
    table: String,
    name: String,
    kind: String,
    hook: HookNumber,
    /// Its policy is to drop.
    drops: bool,
    /// Rules in it, and jumps to it.
    used: u32,
}

/// Whether anything of others may drop or change packets that come into a namespace. What takes packets before that may
/// then not be used, or rules that an operator wrote would hold for some of them only.
///
/// # Errors
/// The kernel cannot be asked.
pub fn looks_at_what_arrives(netns: impl AsFd) -> io::Result<bool> {
    netns::run_in_netns(netns, || {
        Ok(legacy()? || all()?.is_none_or(|chains| chains.iter().any(looks)))
    })
    .map_err(io::Error::other)?
}

/// The chains of others that drop what passes through unless one of their rules lets it pass, as nft(8) names them: weft's
/// own rules cannot let anything pass there.
///
/// # Errors
/// The kernel cannot be asked.
pub fn closed_by_others(netns: impl AsFd) -> io::Result<Vec<String>> {
    let chains = netns::run_in_netns(netns, all).map_err(io::Error::other)??;
    let passing = HookNumber::Inet(InetHookNumber::Forward);
    let closed = |seen: &Seen| {
        let family = match seen.family {
            NetfilterProtoFamily::Inet => "inet",
            NetfilterProtoFamily::IPv4 => "ip",
            NetfilterProtoFamily::IPv6 => "ip6",
            _ => return None,
        };
        let closed = seen.hook == passing && seen.drops && seen.table != TABLE;
        closed.then(|| format!("chain {} of table {family} {}", seen.name, seen.table))
    };
    Ok(chains
        .unwrap_or_default()
        .iter()
        .filter_map(closed)
        .collect())
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

/// Whether a chain sees what comes in, and can do anything with it.
fn looks(seen: &Seen) -> bool {
    use InetHookNumber::{Ingress, LocalIn, PreRouting};
    let arrives = match seen.family {
        NetfilterProtoFamily::Inet | NetfilterProtoFamily::IPv4 | NetfilterProtoFamily::IPv6 => {
            [PreRouting, LocalIn, Ingress]
                .map(HookNumber::Inet)
                .contains(&seen.hook)
        }
        NetfilterProtoFamily::NetDev => seen.hook == HookNumber::Dev(DevHookNumber::Ingress),
        _ => false,
    };
    arrives && seen.kind == "filter" && seen.table != TABLE && (seen.used > 0 || seen.drops)
}

/// All chains at hooks; `None` when they changed meanwhile.
fn all() -> io::Result<Option<Vec<Seen>>> {
    let socket = open()?;
    let message = NfTablesMessage::GetChain(ChainMessage {
        attributes: Vec::new(),
    });
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0);
    socket.send(&frame(message, header, NLM_F_DUMP, 1), 0)?;
    let mut found = Vec::new();
    loop {
        let (answers, _) = socket.recv_from_full()?;
        for (_, flags, answer) in parse(&answers)? {
            if flags & INTERRUPTED != 0 {
                return Ok(None);
            }
            match answer {
                NetlinkPayload::Done(_) => return Ok(Some(found)),
                NetlinkPayload::Error(error) => return refused(error.to_io()),
                NetlinkPayload::InnerMessage(NetfilterMessage {
                    header,
                    inner: NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)),
                    ..
                }) => found.extend(seen(header.family, chain.attributes)),
                _ => {}
            }
        }
    }
}

/// An error that says that this kernel has no nf_tables is none.
fn refused(error: io::Error) -> io::Result<Option<Vec<Seen>>> {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT | libc::EPROTONOSUPPORT) => {
            Ok(Some(Vec::new()))
        }
        _ => Err(error),
    }
}

/// A chain as the kernel tells of it; one without a hook is only jumped to.
fn seen(family: NetfilterProtoFamily, attributes: Vec<ChainAttribute>) -> Option<Seen> {
    let mut chain = Seen {
        family,
        table: String::new(),
        name: String::new(),
        kind: String::new(),
        hook: HookNumber::Other(u32::MAX),
        drops: false,
        used: 0,
    };
    let mut hooked = false;
    for attribute in attributes {
        match attribute {
            ChainAttribute::Table(text) => chain.table = text,
            ChainAttribute::Name(text) => chain.name = text,
            ChainAttribute::Type(text) => chain.kind = text,
            ChainAttribute::Policy(policy) => chain.drops = policy == DROP,
            ChainAttribute::Use(used) => chain.used = used,
            ChainAttribute::Hook(hook) => {
                for part in hook {
                    if let Hook::Number(number) = part {
                        (chain.hook, hooked) = (number, true);
                    }
                }
            }
            _ => {}
        }
    }
    hooked.then_some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use NetfilterProtoFamily::{Bridge, IPv4, IPv6, Inet, NetDev};

    fn chain(
        family: NetfilterProtoFamily,
        table: &str,
        kind: &str,
        hook: HookNumber,
        used: u32,
    ) -> Seen {
        Seen {
            family,
            table: table.into(),
            name: "in".into(),
            kind: kind.into(),
            hook,
            drops: false,
            used,
        }
    }

    #[test]
    fn chains_that_can_do_something_with_what_comes_in_count() {
        let input = || HookNumber::Inet(InetHookNumber::LocalIn);
        let device = || HookNumber::Dev(DevHookNumber::Ingress);
        assert!(looks(&chain(Inet, "mine", "filter", input(), 1)));
        assert!(looks(&chain(
            IPv4,
            "mine",
            "filter",
            HookNumber::Inet(InetHookNumber::PreRouting),
            3
        )));
        assert!(looks(&chain(NetDev, "mine", "filter", device(), 1)));
        let drops = Seen {
            drops: true,
            ..chain(IPv6, "mine", "filter", input(), 0)
        };
        assert!(looks(&drops));
        // Empty, what leaves, translation, a bridge's, weft's own.
        let leaves = HookNumber::Inet(InetHookNumber::LocalOut);
        assert!(!looks(&chain(Inet, "mine", "filter", input(), 0)));
        assert!(!looks(&chain(Inet, "mine", "filter", leaves, 1)));
        assert!(!looks(&chain(IPv4, "mine", "nat", input(), 1)));
        assert!(!looks(&chain(Bridge, "mine", "filter", input(), 1)));
        assert!(!looks(&chain(Inet, "weft", "filter", input(), 1)));
    }

    #[test]
    fn a_kernel_without_nf_tables_has_no_chains() {
        let error = io::Error::from_raw_os_error;
        assert_eq!(refused(error(libc::EOPNOTSUPP)).unwrap(), Some(Vec::new()));
        assert!(refused(error(libc::EPERM)).is_err());
    }
}
