//! Packet filters and address translation of a network namespace: nf_tables by netlink, in our own words.
//!
//! A [`Table`] is written as a whole, in one transaction, in the place of the one of its name: a packet meets the old
//! rules or the new ones. Translations that were made stay with their flows. A packet that a rule of others drops
//! is dropped.
//!
//! - `encode`: from rules to the kernel's expressions. - `socket`: the transaction, and the generation, by which it is
//!   seen whether somebody changed any rule since. - `chains`: what others have.

mod chains;
mod encode;
mod socket;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

pub use chains::{closed_by_others, looks_at_what_arrives};
pub use socket::{FilterError, generation, remove, replace};

/// All rules of weft in a namespace, for both families (`inet`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Sets that rules look into.
    pub sets: Vec<AddressSet>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// Addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// Its name.
    pub name: &'static str,
    /// Whether they are IPv6 addresses; others are left out.
    pub ipv6: bool,
    /// The addresses.
    pub addresses: BTreeSet<IpAddr>,
}

/// Rules that are asked at one point of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where.
    pub hook: Hook,
    /// Whether what no rule decides is dropped.
    pub drops: bool,
    /// The rules, first match decides.
    pub rules: Vec<Rule>,
}

/// A point of a packet's way; priorities as nft(8) names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Arrived, before flows are known ("raw").
    RawArriving,
    /// Begun here, before flows are known ("raw").
    RawOwn,
    /// Arrived, before routing, flows known (priority "mangle").
    Arriving,
    /// For this namespace itself ("filter").
    Own,
    /// Passing through ("filter").
    Passing,
    /// Translation of the destination of a flow that arrives ("dstnat").
    TranslateArriving,
    /// The same of a flow that begins here ("dstnat").
    TranslateOwn,
    /// Translation of the source of a flow that leaves ("srcnat").
    TranslateLeaving,
}

/// If all of it is so, that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub tests: Vec<Test>,
    /// What is done.
    pub act: Act,
}

impl Rule {
    /// A rule.
    pub fn new(tests: impl Into<Vec<Test>>, act: Act) -> Rule {
        Rule {
            tests: tests.into(),
            act,
        }
    }
}

/// A transport protocol that has ports.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Transport {
    /// IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

/// Something that is so or not of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It came in by a device whose name begins so.
    InPrefix(&'static str),
    /// It goes out by a device whose name begins so.
    OutPrefix(&'static str),
    /// It does not go out by a device whose name begins so.
    NotOutPrefix(&'static str),
    /// It is of IPv6, or else of IPv4.
    Ipv6(bool),
    /// Its IP protocol.
    Protocol(u8),
    /// Its destination port, behind a test of its protocol.
    Port(u16),
    /// Where it comes from.
    Source(IpNet),
    /// Where it goes to.
    Destination(IpNet),
    /// It comes from an address of a set.
    SourceIn {
        /// The set's name.
        set: &'static str,
        /// Whether the set's addresses are of IPv6.
        ipv6: bool,
    },
    /// It goes to an address of a set.
    DestinationIn {
        /// The set's name.
        set: &'static str,
        /// Whether the set's addresses are of IPv6.
        ipv6: bool,
    },
    /// It comes from an address of this namespace.
    SourceLocal,
    /// It goes to an address of this namespace.
    DestinationLocal,
    /// It goes to what is no single host by way of a route.
    DestinationNotUnicast,
    /// Its flow is none, or in no order.
    Invalid,
    /// It is the first packet of its flow.
    New,
    /// Its flow was answered, or it is an error of a flow that is known.
    Known,
    /// It is an error of a flow that is known.
    Related,
    /// It answers its flow.
    Reply,
    /// Its flow's destination was translated.
    Translated,
    /// More flows than so many passed this rule and are alive.
    FlowsOver(u32),
}

/// What is done with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It goes on.
    Accept,
    /// It ends here.
    Drop,
    /// It is of no flow, and none is remembered for it.
    NoTrack,
    /// Its flow takes the source address of the device that it leaves by.
    Masquerade,
    /// Its flow takes this source address.
    SourceTo(IpAddr),
    /// Its flow takes this destination address, and keeps its port.
    DestinationTo(IpAddr),
    /// Its flow takes this destination.
    DestinationPort(SocketAddr),
}
