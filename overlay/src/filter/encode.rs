//! Rules as the kernel's expressions (include/uapi/linux/netfilter/nf_tables.h): each loads something into a register,
//! compares it, or acts. Numbers of attributes are big endian; what a register holds is in the order of whoever loaded it.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, InetHookNumber,
    ListAttribute, Lookup, Meta, MetaKey, Operator, Payload, Register, Verdict, VerdictAttribute,
};

use super::{Act, Hook, Rule, Test};

/// One expression of a rule.
pub(super) type Element = ListAttribute<ExpressionAttribute>;

/// `NF_ACCEPT` and `NF_DROP`.
pub(super) const ACCEPT: u32 = 1;
pub(super) const DROP: u32 = 0;

/// `NF_CT_STATE_BIT` of what include/uapi/linux/netfilter/nf_conntrack_common.h numbers.
const CT_INVALID: u32 = 1;
const CT_ESTABLISHED: u32 = 2;
const CT_RELATED: u32 = 4;
const CT_NEW: u32 = 8;
/// `IPS_DST_NAT` there.
const CT_DESTINATION_TRANSLATED: u32 = 1 << 5;
/// `IP_CT_DIR_REPLY`.
const CT_REPLY: u8 = 1;
/// `enum nft_ct_keys`.
const KEY_STATE: u32 = 0;
const KEY_DIRECTION: u32 = 1;
const KEY_STATUS: u32 = 2;
/// `enum nft_fib_flags`, and the result "type of address".
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
const FIB_TYPE: u32 = 3;
/// `RTN_UNICAST` and `RTN_LOCAL`, include/uapi/linux/rtnetlink.h.
const UNICAST: u32 = 1;
const LOCAL: u32 = 2;
/// `enum nft_payload_bases`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Bytes of an interface's name in a register, `IFNAMSIZ`.
const NAME: usize = 16;

/// Number, priority and type of a hook.
pub(super) fn hook(hook: Hook) -> (InetHookNumber, i32, &'static str) {
    match hook {
        Hook::RawArriving => (InetHookNumber::PreRouting, -300, "filter"),
        Hook::RawOwn => (InetHookNumber::LocalOut, -300, "filter"),
        Hook::Arriving => (InetHookNumber::PreRouting, -150, "filter"),
        Hook::Own => (InetHookNumber::LocalIn, 0, "filter"),
        Hook::Passing => (InetHookNumber::Forward, 0, "filter"),
        Hook::TranslateArriving => (InetHookNumber::PreRouting, -100, "nat"),
        Hook::TranslateOwn => (InetHookNumber::LocalOut, -100, "nat"),
        Hook::TranslateLeaving => (InetHookNumber::PostRouting, 100, "nat"),
    }
}

pub(super) fn rule(rule: &Rule) -> Vec<Element> {
    let mut elements = Vec::new();
    for one in &rule.tests {
        test(one, &mut elements);
    }
    act(&rule.act, &mut elements);
    elements
}

fn test(test: &Test, out: &mut Vec<Element>) {
    match test {
        Test::InPrefix(prefix) => device(MetaKey::Iifname, Operator::Equal, prefix, out),
        Test::OutPrefix(prefix) => device(MetaKey::Oifname, Operator::Equal, prefix, out),
        Test::NotOutPrefix(prefix) => device(MetaKey::Oifname, Operator::NotEqual, prefix, out),
        Test::Ipv6(six) => family(*six, out),
        Test::Protocol(number) => {
            out.push(meta(MetaKey::L4Proto));
            out.push(equal(vec![*number]));
        }
        Test::Port(port) => {
            out.push(payload(TRANSPORT, 2, 2));
            out.push(equal(port.to_be_bytes().to_vec()));
        }
        Test::Source(net) => address(net, (12, 8), out),
        Test::Destination(net) => address(net, (16, 24), out),
        Test::SourceIn { set, ipv6 } => member(set, *ipv6, (12, 8), out),
        Test::DestinationIn { set, ipv6 } => member(set, *ipv6, (16, 24), out),
        Test::SourceLocal => kind_of_address(FIB_SOURCE, Operator::Equal, LOCAL, out),
        Test::DestinationLocal => kind_of_address(FIB_DESTINATION, Operator::Equal, LOCAL, out),
        Test::DestinationNotUnicast => {
            kind_of_address(FIB_DESTINATION, Operator::NotEqual, UNICAST, out);
        }
        Test::Invalid => any_bit(KEY_STATE, CT_INVALID, out),
        Test::New => any_bit(KEY_STATE, CT_NEW, out),
        Test::Known => any_bit(KEY_STATE, CT_ESTABLISHED | CT_RELATED, out),
        Test::Related => any_bit(KEY_STATE, CT_RELATED, out),
        Test::Translated => any_bit(KEY_STATUS, CT_DESTINATION_TRANSLATED, out),
        Test::Reply => {
            out.push(flow(KEY_DIRECTION));
            out.push(equal(vec![CT_REPLY]));
        }
        // NFTA_CONNLIMIT_COUNT, and NFTA_CONNLIMIT_FLAGS with NFT_CONNLIMIT_F_INV: holds above it.
        Test::FlowsOver(count) => out.push(other("connlimit", &[(1, *count), (2, 1)])),
    }
}

fn act(act: &Act, out: &mut Vec<Element>) {
    match act {
        Act::Accept => out.push(verdict(ACCEPT)),
        Act::Drop => out.push(verdict(DROP)),
        Act::NoTrack => out.push(other("notrack", &[])),
        Act::Masquerade => out.push(other("masq", &[])),
        Act::SourceTo(to) => translate(0, *to, None, out),
        Act::DestinationTo(to) => translate(1, *to, None, out),
        Act::DestinationPort(to) => translate(1, to.ip(), Some(to.port()), out),
    }
}

/// NFTA_NAT_TYPE, NFTA_NAT_FAMILY, NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MIN.
fn translate(kind: u32, to: IpAddr, port: Option<u16>, out: &mut Vec<Element>) {
    let (family, bytes) = match to {
        IpAddr::V4(v4) => (IPV4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (IPV6, v6.octets().to_vec()),
    };
    out.push(load(Register::Reg1, bytes));
    let register = |r: Register| u32::from(r);
    let mut attributes = vec![
        (1, kind),
        (2, u32::from(family)),
        (3, register(Register::Reg1)),
    ];
    if let Some(port) = port {
        out.push(load(Register::Reg2, port.to_be_bytes().to_vec()));
        attributes.push((5, register(Register::Reg2)));
    }
    out.push(other("nat", &attributes));
}

fn device(key: MetaKey, op: Operator, prefix: &str, out: &mut Vec<Element>) {
    out.push(meta(key));
    let mut bytes = prefix.as_bytes().to_vec();
    bytes.truncate(NAME);
    out.push(compare(op, bytes));
}

fn family(six: bool, out: &mut Vec<Element>) {
    out.push(meta(MetaKey::Nfproto));
    out.push(equal(vec![if six { IPV6 } else { IPV4 }]));
}

/// `offsets` of the address in a header of IPv4 and of IPv6.
fn address(net: &IpNet, offsets: (u32, u32), out: &mut Vec<Element>) {
    let six = net.addr().is_ipv6();
    family(six, out);
    let of = |a: IpAddr| match a {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (offset, len) = place(six, offsets);
    out.push(payload(NETWORK, offset, len));
    out.push(mask(len, of(net.netmask())));
    out.push(equal(of(net.network())));
}

fn member(set: &str, six: bool, offsets: (u32, u32), out: &mut Vec<Element>) {
    family(six, out);
    let (offset, len) = place(six, offsets);
    out.push(payload(NETWORK, offset, len));
    let attributes = vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
    ];
    out.push(Expressions::Lookup(attributes).into());
}

fn place(six: bool, (four, of_six): (u32, u32)) -> (u32, u32) {
    if six { (of_six, 16) } else { (four, 4) }
}

fn kind_of_address(side: u32, op: Operator, kind: u32, out: &mut Vec<Element>) {
    // NFTA_FIB_DREG, NFTA_FIB_RESULT, NFTA_FIB_FLAGS.
    let attributes = [(1, u32::from(Register::Reg1)), (2, FIB_TYPE), (3, side)];
    out.push(other("fib", &attributes));
    out.push(compare(op, kind.to_ne_bytes().to_vec()));
}

fn any_bit(key: u32, bits: u32, out: &mut Vec<Element>) {
    out.push(flow(key));
    out.push(mask(4, bits.to_ne_bytes().to_vec()));
    out.push(compare(Operator::NotEqual, vec![0; 4]));
}

/// NFTA_CT_DREG and NFTA_CT_KEY.
fn flow(key: u32) -> Element {
    other("ct", &[(1, u32::from(Register::Reg1)), (2, key)])
}

fn meta(key: MetaKey) -> Element {
    let attributes = vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)];
    Expressions::Meta(attributes).into()
}

fn payload(base: u32, offset: u32, len: u32) -> Element {
    let attributes = vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(len),
    ];
    Expressions::Payload(attributes).into()
}

fn mask(len: u32, bits: Vec<u8>) -> Element {
    let none = vec![0; bits.len()];
    let attributes = vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(len),
        Bitwise::Mask(DataAttribute::Value(bits)),
        Bitwise::Xor(DataAttribute::Value(none)),
    ];
    Expressions::Bitwise(attributes).into()
}

fn equal(value: Vec<u8>) -> Element {
    compare(Operator::Equal, value)
}

fn compare(op: Operator, value: Vec<u8>) -> Element {
    let attributes = vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(op),
        Cmp::Data(DataAttribute::Value(value)),
    ];
    Expressions::Cmp(attributes).into()
}

fn load(register: Register, value: Vec<u8>) -> Element {
    let attributes = vec![
        Immediate::DestinationRegister(register),
        Immediate::Data(DataAttribute::Value(value)),
    ];
    Expressions::Immediate(attributes).into()
}

fn verdict(code: u32) -> Element {
    let code = vec![VerdictAttribute::Code(Verdict::Other(code))];
    let attributes = vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(code)),
    ];
    Expressions::Immediate(attributes).into()
}

/// An expression of a kind that the crate has no type for; all of its attributes are numbers.
fn other(kind: &str, attributes: &[(u16, u32)]) -> Element {
    let nla = |(kind, value): &(u16, u32)| DefaultNla::new(*kind, value.to_be_bytes().to_vec());
    let attributes = attributes.iter().map(nla).collect();
    Expressions::Other {
        expression_type: kind.to_owned(),
        attributes,
    }
    .into()
}
