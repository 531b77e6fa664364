//! One transaction: begin, the table away and made anew with all that it has, end. The kernel does all of it or nothing.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, GenAttribute, GenMessage, Hook as KernelHook,
    ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
    SetElementList, SetElementMessage, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::encode::{ACCEPT, DROP, hook, rule};
use super::{AddressSet, Table};
use crate::netns::{self, NetnsError};

/// Elements of a set in one message, so that an attribute stays under its 64 KiB.
const ELEMENTS: usize = 512;
/// The number of nf_tables among the subsystems of nfnetlink.
const NFTABLES: u16 = 10;
/// How long the kernel may take to answer, s.
const PATIENCE: i64 = 10;
/// `NFTA_SET_KEY_TYPE` of addresses, as nft(8) shows them.
const TYPES: (u32, u32) = (7, 8);

/// Rules that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel refused, or does not answer.
    #[error("packet filter: {verb} table {table}: {source}")]
    Kernel {
        /// What was tried.
        verb: &'static str,
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FilterError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Netns(error) => error.help(),
            Self::Kernel { source, .. } => match source.raw_os_error() {
                Some(libc::EPERM) => "run as root (CAP_NET_ADMIN is needed)".into(),
                Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT | libc::EINVAL) => {
                    "the kernel needs nf_tables with nft_chain_nat, nft_nat, nft_masq, nft_ct, nft_connlimit and nft_fib_inet"
                        .into()
                }
                _ => "`nft list ruleset` shows what is there".into(),
            },
        }
    }
}

/// Puts `table` in the place of the one of its name, or there if there is none.
///
/// # Errors
/// The kernel refused some part of it: nothing was changed.
pub fn replace(netns: impl AsFd, table: &Table) -> Result<(), FilterError> {
    let mut messages = vec![new_table(table), delete_table(table.name), new_table(table)];
    for set in &table.sets {
        messages.push(new_set(table.name, set));
        messages.extend(elements(table.name, set));
    }
    for chain in &table.chains {
        messages.push(new_chain(table.name, chain));
        messages.extend(chain.rules.iter().map(|r| {
            let attributes = vec![
                RuleAttribute::Table(table.name.to_owned()),
                RuleAttribute::Chain(chain.name.to_owned()),
                RuleAttribute::Expressions(rule(r)),
            ];
            let message = NfTablesMessage::NewRule(RuleMessage { attributes });
            (message, NLM_F_CREATE | NLM_F_APPEND)
        }));
    }
    let failed = |source| FilterError::Kernel {
        verb: "write",
        table: table.name,
        source,
    };
    netns::run_in_netns(netns, || transaction(messages))?.map_err(failed)
}

/// Takes the table away; one that is not there is as good.
///
/// # Errors
/// The kernel refused.
pub fn remove(netns: impl AsFd, table: &'static str) -> Result<(), FilterError> {
    let done = netns::run_in_netns(netns, || transaction(vec![delete_table(table)]))?;
    match done {
        Err(source) if source.raw_os_error() != Some(libc::ENOENT) => Err(FilterError::Kernel {
            verb: "delete",
            table,
            source,
        }),
        _ => Ok(()),
    }
}

/// The number of the namespace's rules as they are now, anybody's: it changes with every transaction.
///
/// # Errors
/// The kernel has no nf_tables.
pub fn generation(netns: impl AsFd) -> Result<u32, FilterError> {
    let failed = |source| FilterError::Kernel {
        verb: "look at",
        table: "(all)",
        source,
    };
    netns::run_in_netns(netns, read_generation)?.map_err(failed)
}

type Message = (NfTablesMessage, u16);

fn new_table(table: &Table) -> Message {
    let attributes = vec![TableAttribute::Name(table.name.to_owned())];
    let message = NfTablesMessage::NewTable(TableMessage { attributes });
    (message, NLM_F_CREATE)
}

fn delete_table(name: &str) -> Message {
    let attributes = vec![TableAttribute::Name(name.to_owned())];
    (NfTablesMessage::DeleteTable(TableMessage { attributes }), 0)
}

fn new_chain(table: &str, chain: &super::Chain) -> Message {
    let (number, priority, kind) = hook(chain.hook);
    let attributes = vec![
        ChainAttribute::Table(table.to_owned()),
        ChainAttribute::Name(chain.name.to_owned()),
        ChainAttribute::Hook(vec![
            KernelHook::Number(number.into()),
            KernelHook::Priority(priority.cast_unsigned()),
        ]),
        ChainAttribute::Policy(if chain.drops { DROP } else { ACCEPT }),
        ChainAttribute::Type(kind.to_owned()),
    ];
    let message = NfTablesMessage::NewChain(ChainMessage { attributes });
    (message, NLM_F_CREATE)
}

fn new_set(table: &str, set: &AddressSet) -> Message {
    let (kind, len) = if set.ipv6 {
        (TYPES.1, 16)
    } else {
        (TYPES.0, 4)
    };
    let attributes = vec![
        SetAttribute::Table(table.to_owned()),
        SetAttribute::Name(set.name.to_owned()),
        SetAttribute::KeyType(kind),
        SetAttribute::KeyLen(len),
        SetAttribute::Id(u32::from(set.ipv6) + 1),
    ];
    let message = NfTablesMessage::NewSet(SetMessage { attributes });
    (message, NLM_F_CREATE)
}

fn elements(table: &str, set: &AddressSet) -> Vec<Message> {
    let keys: Vec<_> = set
        .addresses
        .iter()
        .filter(|a| a.is_ipv6() == set.ipv6)
        .map(|address| {
            let bytes = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let key = SetElementAttribute::Key(DataAttribute::Value(bytes));
            ListAttribute::Element(vec![key])
        })
        .collect();
    let message = |keys: &[ListAttribute<SetElementAttribute>]| {
        let attributes = vec![
            SetElementList::Table(table.to_owned()),
            SetElementList::Set(set.name.to_owned()),
            SetElementList::Elements(keys.to_vec()),
        ];
        let message = NfTablesMessage::NewSetElement(SetElementMessage { attributes });
        (message, NLM_F_CREATE)
    };
    keys.chunks(ELEMENTS).map(message).collect()
}

pub(super) fn frame(
    inner: impl Into<NetfilterMessageInner>,
    header: NetfilterHeader,
    flags: u16,
    sequence: u32,
) -> Vec<u8> {
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, inner));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

pub(super) fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
    Ok(socket)
}

fn transaction(messages: Vec<Message>) -> io::Result<()> {
    let socket = open()?;
    let batch = || NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFTABLES);
    let last = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    let mut bytes = frame(ControlMessage::BatchBegin, batch(), 0, 0);
    for (sequence, (message, flags)) in (1..).zip(messages) {
        // An answer comes for what fails, and for the last in any case.
        let ack = if sequence == last { NLM_F_ACK } else { 0 };
        let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0);
        bytes.extend(frame(message, header, flags | ack, sequence));
    }
    bytes.extend(frame(ControlMessage::BatchEnd, batch(), 0, last + 1));
    socket.send(&bytes, 0)?;
    loop {
        let (answers, _) = socket.recv_from_full()?;
        for (sequence, _, answer) in parse(&answers)? {
            match answer {
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) if sequence == last => return Ok(()),
                _ => {}
            }
        }
    }
}

fn read_generation() -> io::Result<u32> {
    let socket = open()?;
    let message = NfTablesMessage::GetGen(GenMessage {
        attributes: Vec::new(),
    });
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0);
    socket.send(&frame(message, header, 0, 1), 0)?;
    let (answers, _) = socket.recv_from_full()?;
    for (.., answer) in parse(&answers)? {
        match answer {
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(NetfilterMessage {
                inner: NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(told)),
                ..
            }) => {
                let id = told.attributes.iter().find_map(|a| match a {
                    GenAttribute::Id(id) => Some(*id),
                    _ => None,
                });
                return id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
            }
            _ => {}
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Sequence number, flags, and what it says.
pub(super) type Answer = (u32, u16, NetlinkPayload<NetfilterMessage>);

/// The messages of a datagram.
pub(super) fn parse(datagram: &[u8]) -> io::Result<Vec<Answer>> {
    let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, e);
    let mut answers = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = NetlinkBuffer::new_checked(&rest).map_err(invalid)?.length() as usize;
        let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(invalid)?;
        let header = message.header;
        answers.push((header.sequence_number, header.flags, message.payload));
        // Each begins at a multiple of four bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(answers)
}
