//! Names, addresses and rules of gateways.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Gateway;
use crate::filter::{Act, AddressSet, Chain, Hook, Rule, Table, Test};
use crate::network::{GATEWAY6, gateway4};

/// The table's name, in the node's namespace and in each gateway's.
pub const TABLE: &str = "weft";
/// What the datapath's ends of gateways are called.
pub const INNER_PREFIX: &str = "wefti";
/// What the node's ends of gateways are called.
pub const UP_PREFIX: &str = "weftu";
/// Transit addresses, a pair for each gateway; link-local (RFC 3927), so that nobody routes them. The well-known
/// addresses of clouds lie above.
pub const TRANSIT4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 64, 0), 18);
/// The same of IPv6 (RFC 4193).
pub const TRANSIT6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd77, 0x6566, 0x7400, 0, 0, 0, 0, 0), 112);
/// Gateways that a node can have.
pub const GATEWAYS_MAX: u16 = 1 << (32 - TRANSIT4.prefix_len() - 1);
/// Flows that may pass a gateway at the same time, so that one network cannot fill the node's table of flows.
pub const FLOWS_MAX: u32 = 16_384;

const LINK_LOCAL4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);
const LINK_LOCAL6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
const LOOPBACK4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const LOOPBACK6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
/// The sets of nodes' addresses.
const NODES4: &str = "nodes4";
const NODES6: &str = "nodes6";

/// The datapath's end.
pub fn inner_name(index: u16) -> String {
    format!("{INNER_PREFIX}{index}")
}

/// The node's end.
pub fn up_name(index: u16) -> String {
    format!("{UP_PREFIX}{index}")
}

/// Transit addresses of the node's end and of the gateway's (RFC 3021).
pub fn transit4(index: u16) -> (Ipv4Addr, Ipv4Addr) {
    let first = u32::from(TRANSIT4.network()) + 2 * u32::from(index % GATEWAYS_MAX);
    (Ipv4Addr::from(first), Ipv4Addr::from(first + 1))
}

/// The same of IPv6 (RFC 6164).
pub fn transit6(index: u16) -> (Ipv6Addr, Ipv6Addr) {
    // The first address of a range is its routers' (RFC 4291 section 2.6.1): they begin behind it.
    let first = u128::from(TRANSIT6.network()) + 2 * (1 + u128::from(index % GATEWAYS_MAX));
    (Ipv6Addr::from(first), Ipv6Addr::from(first + 1))
}

/// The rules in a gateway's namespace.
pub fn gateway_rules(gateway: &Gateway) -> Table {
    let (inner, up) = (|| Test::InPrefix("inner"), || Test::InPrefix("up"));
    let (to_inner, to_up) = (|| Test::OutPrefix("inner"), || Test::OutPrefix("up"));
    let mut arriving = Vec::new();
    let mut passing = vec![
        Rule::new([Test::Invalid], Act::Drop),
        Rule::new([inner(), to_up(), Test::Reply], Act::Accept),
        Rule::new([up(), to_inner(), Test::Reply], Act::Accept),
        Rule::new([Test::Related], Act::Accept),
        Rule::new([Test::New, Test::FlowsOver(FLOWS_MAX)], Act::Drop),
    ];
    for (publish, to) in &gateway.published {
        let protocol = Test::Protocol(publish.transport.number());
        let six = Test::Ipv6(to.is_ipv6());
        arriving.push(Rule::new(
            [
                up(),
                six,
                protocol.clone(),
                Test::Port(publish.outside.get()),
            ],
            Act::DestinationPort(SocketAddr::new(*to, publish.inside.get())),
        ));
        // Also of flows that began earlier: what is published no more ends at once.
        passing.push(Rule::new(
            [
                up(),
                to_inner(),
                Test::Translated,
                Test::Destination(IpNet::from(*to)),
                protocol,
                Test::Port(publish.inside.get()),
            ],
            Act::Accept,
        ));
    }
    if gateway.egress {
        passing.push(Rule::new([inner(), to_up()], Act::Accept));
    }
    let mut leaving = vec![Rule::new([to_up()], Act::Masquerade)];
    let mut unanswerable: Vec<(IpNet, IpAddr)> = Vec::new();
    if let Some(cidr) = gateway.cidr4 {
        let as_gateway = IpAddr::V4(gateway4(&cidr));
        unanswerable.extend([(cidr.into(), as_gateway), (LINK_LOCAL4.into(), as_gateway)]);
    }
    if let Some(cidr) = gateway.cidr6 {
        let as_gateway = IpAddr::V6(GATEWAY6);
        unanswerable.extend([(cidr.into(), as_gateway), (TRANSIT6.into(), as_gateway)]);
    }
    for (from, as_gateway) in unanswerable {
        let tests = [to_inner(), Test::Source(from)];
        leaving.push(Rule::new(tests, Act::SourceTo(as_gateway)));
    }
    let own = [ICMP, ICMP6].map(|p| Rule::new([Test::Protocol(p)], Act::Accept));
    Table {
        name: TABLE,
        sets: Vec::new(),
        chains: vec![
            chain("arriving", Hook::TranslateArriving, arriving),
            Chain {
                drops: true,
                ..chain("passing", Hook::Passing, passing)
            },
            Chain {
                drops: true,
                ..chain("own", Hook::Own, own.to_vec())
            },
            chain("leaving", Hook::TranslateLeaving, leaving),
        ],
    }
}

/// The rules in the node's namespace, of all gateways. `nodes` are the addresses of all nodes; `passed_on`: whether this
/// node passed on IPv4 and IPv6 before it had gateways: what it did not, it does not now. `vxlan` is the tunnels' UDP port.
pub fn node_rules(
    gateways: &[Gateway],
    nodes: &BTreeSet<IpAddr>,
    passed_on: [bool; 2],
    vxlan: u16,
) -> Table {
    let from = || Test::InPrefix(UP_PREFIX);
    let to = || Test::OutPrefix(UP_PREFIX);
    let mut published = Vec::new();
    for gateway in gateways {
        for (publish, address) in &gateway.published {
            let (_, four) = transit4(gateway.index);
            let (_, six) = transit6(gateway.index);
            let transit = if address.is_ipv6() {
                six.into()
            } else {
                four.into()
            };
            published.push((*publish, address.is_ipv6(), transit));
        }
    }
    let offered = |before: &[Test]| -> Vec<Rule> {
        let rule = |(publish, six, transit): &(crate::publish::Publish, bool, IpAddr)| {
            let mut tests = before.to_vec();
            tests.extend([
                Test::Ipv6(*six),
                Test::Protocol(publish.transport.number()),
                Test::Port(publish.outside.get()),
                Test::DestinationLocal,
            ]);
            Rule::new(tests, Act::DestinationTo(*transit))
        };
        published.iter().map(rule).collect()
    };
    // A process of the node reaches them by the node's addresses, not by those of its loopback, whose packets never
    // leave (`route_localnet`).
    let loopback = [LOOPBACK4.into(), LOOPBACK6.into()];
    let mut own = loopback
        .map(|net| Rule::new([Test::Destination(net)], Act::Accept))
        .to_vec();
    own.extend(offered(&[]));
    // Somebody else's translation may have led it elsewhere since it arrived.
    let mut passing = vec![Rule::new([from(), to()], Act::Drop)];
    passing.extend(closed(vxlan));
    passing.extend([
        Rule::new([from()], Act::Accept),
        Rule::new([to(), Test::Known], Act::Accept),
        Rule::new([to(), Test::Translated], Act::Accept),
        Rule::new([to()], Act::Drop),
    ]);
    for (six, passed) in [false, true].into_iter().zip(passed_on) {
        if !passed {
            passing.push(Rule::new([Test::Ipv6(six)], Act::Drop));
        }
    }
    let set = |name, ipv6| AddressSet {
        name,
        ipv6,
        addresses: nodes.clone(),
    };
    Table {
        name: TABLE,
        sets: vec![set(NODES4, false), set(NODES6, true)],
        chains: vec![
            chain("untracked", Hook::RawArriving, untracked(vxlan)),
            chain("untracked-own", Hook::RawOwn, untracked(vxlan)),
            chain("arriving", Hook::Arriving, guard(vxlan)),
            chain("own", Hook::Own, own_only(from)),
            chain("published", Hook::TranslateArriving, offered(&[])),
            chain("published-own", Hook::TranslateOwn, own),
            chain("passing", Hook::Passing, passing),
            chain("leaving", Hook::TranslateLeaving, leaving()),
        ],
    }
}

/// The tunnels' datagrams are no flows: each has a source port of its inner flow's, and tenants could fill the node's table
/// with them.
fn untracked(vxlan: u16) -> Vec<Rule> {
    let tunnel = [Test::Protocol(UDP), Test::Port(vxlan)];
    vec![
        Rule::new([Test::InPrefix(UP_PREFIX)], Act::Accept),
        Rule::new(tunnel, Act::NoTrack),
    ]
}

/// What comes out of a gateway never reaches a node, nor what only this node is to reach.
fn guard(vxlan: u16) -> Vec<Rule> {
    let from = || Test::InPrefix(UP_PREFIX);
    let mut rules = vec![Rule::new([from(), Test::Invalid], Act::Drop)];
    rules.extend(closed(vxlan));
    rules.push(Rule::new([from(), Test::DestinationNotUnicast], Act::Drop));
    rules
}

/// What of a gateway's packets passes whatever their destination, and where no others may go. Datagrams to the tunnels'
/// port would be taken, anywhere, for those of this node.
fn closed(vxlan: u16) -> Vec<Rule> {
    let from = || Test::InPrefix(UP_PREFIX);
    let member = |set, ipv6| Test::DestinationIn { set, ipv6 };
    let mut rules = vec![
        Rule::new([from(), Test::Protocol(UDP), Test::Port(vxlan)], Act::Drop),
        Rule::new([from(), Test::Reply], Act::Accept),
        Rule::new([from(), Test::Related], Act::Accept),
        Rule::new([from(), member(NODES4, false)], Act::Drop),
        Rule::new([from(), member(NODES6, true)], Act::Drop),
    ];
    let nets: [IpNet; 3] = [LINK_LOCAL4.into(), LINK_LOCAL6.into(), TRANSIT6.into()];
    rules.extend(nets.map(|net| Rule::new([from(), Test::Destination(net)], Act::Drop)));
    rules
}

/// A node's own services are for no gateway, whoever's translation led there.
fn own_only(from: impl Fn() -> Test) -> Vec<Rule> {
    vec![
        Rule::new([from(), Test::Reply], Act::Accept),
        Rule::new([from(), Test::Related], Act::Accept),
        Rule::new([from()], Act::Drop),
    ]
}

/// What leaves the gateways leaves the node as the node's own; and nodes come to a gateway as its own node, for no
/// container may answer to a node's address.
fn leaving() -> Vec<Rule> {
    let transit: [IpNet; 2] = [TRANSIT4.into(), TRANSIT6.into()];
    let away = |net| {
        Rule::new(
            [Test::NotOutPrefix(UP_PREFIX), Test::Source(net)],
            Act::Masquerade,
        )
    };
    let to = || Test::OutPrefix(UP_PREFIX);
    let node = |set, ipv6| Test::SourceIn { set, ipv6 };
    let mut rules = transit.map(away).to_vec();
    rules.extend([
        Rule::new([to(), Test::SourceLocal], Act::Masquerade),
        Rule::new([to(), node(NODES4, false)], Act::Masquerade),
        Rule::new([to(), node(NODES6, true)], Act::Masquerade),
    ]);
    rules
}

fn chain(name: &'static str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        hook,
        drops: false,
        rules,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gateway_has_transit_addresses_of_its_own_in_the_range() {
        let mut seen = BTreeSet::new();
        for index in 0..GATEWAYS_MAX {
            let ((a, b), (c, d)) = (transit4(index), transit6(index));
            assert!(TRANSIT4.contains(&a) && TRANSIT4.contains(&b));
            assert!(TRANSIT6.contains(&c) && TRANSIT6.contains(&d));
            let all: [IpAddr; 4] = [a.into(), b.into(), c.into(), d.into()];
            assert!(all.into_iter().all(|one| seen.insert(one)), "{index}");
        }
        assert!(!TRANSIT4.contains(&Ipv4Addr::new(169, 254, 169, 254)));
    }

    #[test]
    fn what_the_node_did_not_pass_on_before_it_does_not_pass_on_now() {
        let last = |passed_on| {
            let table = node_rules(&[], &BTreeSet::new(), passed_on, 4789);
            let passing = table.chains.into_iter().find(|c| c.name == "passing");
            passing.unwrap().rules.pop().unwrap()
        };
        let dropped = |six| Rule::new([Test::Ipv6(six)], Act::Drop);
        assert_eq!(last([false, true]), dropped(false));
        assert_eq!(last([true, false]), dropped(true));
        let own = Rule::new([Test::OutPrefix(UP_PREFIX)], Act::Drop);
        assert_eq!(last([true, true]), own);
    }
}
