//! Makes a gateway as it is planned, looks whether it still is, and takes it away.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weft_ebpf_abi::GATEWAY_MAC;

use super::Gateway;
use super::plan::{TABLE, gateway_rules, inner_name, node_rules, transit4, transit6, up_name};
use crate::filter::{self, FilterError};
use crate::ids::Mac;
use crate::link::{DEFAULT4, DEFAULT6, LinkError, LinkKind, Netlink, Route, VethSpec, sysctl};
use crate::netns::{self, NetnsError};
use crate::network::{GATEWAY6, gateway4};

/// The gateway's end of the pair to the datapath.
const INNER: &str = "inner";
/// The gateway's end of the pair to the node.
const UP: &str = "up";
/// Who the gateway sends to in its network, whoever it is meant for: the datapath looks at the address inside.
const BEHIND4: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
const BEHIND6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const BEHIND_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 2]);
const NODE_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 3]);
const UP_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 4]);

/// Whether a namespace passes on IPv4, and IPv6.
const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

/// A gateway that could not be made or looked at.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Its namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A device, address, route or sysctl.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its rules.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl GatewayError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Netns(error) => error.help(),
            Self::Link(error) => error.help(),
            Self::Filter(error) => error.help(),
        }
    }
}

/// A gateway that was made.
#[derive(Debug)]
pub struct Hold {
    /// Its namespace.
    pub netns: OwnedFd,
    /// The datapath's end, which is down until its program is on it.
    pub ifindex: u32,
    /// The generation of its rules.
    pub generation: u32,
}

/// Makes the gateway whole but for the datapath's end, which stays as it is, up or down. `pin` is where its namespace
/// is held.
///
/// # Errors
/// What could not be made; the next call goes on from there.
pub async fn ensure(
    netlink: &Netlink,
    pin: &Path,
    gateway: &Gateway,
) -> Result<Hold, GatewayError> {
    let (netns, _) = netns::pinned(pin)?;
    let inside = Netlink::in_netns(&netns)?;
    inside.set_up("lo").await?;
    let six = gateway.cidr6.is_some();
    sysctl::write(&netns, &forwarding(six))?;
    filter::replace(&netns, &gateway_rules(gateway))?;
    let ifindex = inner_pair(netlink, &inside, gateway).await?;
    up_pair(netlink, &inside, gateway).await?;
    let generation = filter::generation(&netns)?;
    Ok(Hold {
        netns,
        ifindex,
        generation,
    })
}

async fn inner_pair(
    netlink: &Netlink,
    inside: &Netlink,
    gateway: &Gateway,
) -> Result<u32, GatewayError> {
    let pair = VethSpec {
        name: inner_name(gateway.index),
        mac: None,
        peer_name: INNER.into(),
        // What containers send is addressed to it.
        peer_mac: Some(Mac(GATEWAY_MAC)),
        mtu: gateway.mtu,
    };
    let ifindex = netlink.ensure_veth(&pair, Some(inside.netns())).await?;
    netlink.quiet(&pair.name).await?;
    sysctl::write(inside.netns(), &quiet(INNER, gateway.cidr6.is_some()))?;
    inside.set_up(INNER).await?;
    for (address, range, behind) in inner_addresses(gateway) {
        inside.add_address(INNER, IpNet::from(address)).await?;
        inside.set_neighbour(INNER, behind, BEHIND_MAC).await?;
        let route = Route::via(range, behind, INNER);
        inside.replace_route(&route).await?;
    }
    Ok(ifindex)
}

/// Its address in the network, the range behind it, and by whom it is reached.
fn inner_addresses(gateway: &Gateway) -> Vec<(IpAddr, IpNet, IpAddr)> {
    let four = |cidr: Ipv4Net| (gateway4(&cidr).into(), cidr.into(), BEHIND4.into());
    let six = |cidr: Ipv6Net| (GATEWAY6.into(), cidr.into(), BEHIND6.into());
    let all = gateway.cidr4.map(four).into_iter();
    all.chain(gateway.cidr6.map(six)).collect()
}

async fn up_pair(
    netlink: &Netlink,
    inside: &Netlink,
    gateway: &Gateway,
) -> Result<(), GatewayError> {
    let name = up_name(gateway.index);
    let pair = VethSpec {
        name: name.clone(),
        mac: Some(NODE_MAC),
        peer_name: UP.into(),
        peer_mac: Some(UP_MAC),
        mtu: gateway.underlay_mtu,
    };
    netlink.ensure_veth(&pair, Some(inside.netns())).await?;
    let six = gateway.cidr6.is_some();
    sysctl::write(netlink.netns(), &quiet(&name, six))?;
    sysctl::write(inside.netns(), &quiet(UP, six))?;
    netlink.set_up(&name).await?;
    inside.set_up(UP).await?;
    for (node, own, length, default) in up_addresses(gateway) {
        let net = |address| IpNet::new_assert(address, length);
        netlink.add_address(&name, net(node)).await?;
        inside.add_address(UP, net(own)).await?;
        // Nobody asks for anybody: what is addressed to the node itself is dropped.
        netlink.set_neighbour(&name, own, UP_MAC).await?;
        inside.set_neighbour(UP, node, NODE_MAC).await?;
        inside.replace_route(&Route::via(default, node, UP)).await?;
    }
    Ok(())
}

/// The node's address, the gateway's, their prefix length, and what lies behind.
fn up_addresses(gateway: &Gateway) -> Vec<(IpAddr, IpAddr, u8, IpNet)> {
    let (node4, own4) = transit4(gateway.index);
    let (node6, own6) = transit6(gateway.index);
    let four = gateway
        .cidr4
        .map(|_| (node4.into(), own4.into(), 31, DEFAULT4));
    let six = gateway
        .cidr6
        .map(|_| (node6.into(), own6.into(), 127, DEFAULT6));
    four.into_iter().chain(six).collect()
}

/// A gateway passes on. Errors that it sends by itself are few.
fn forwarding(six: bool) -> Vec<(String, &'static str)> {
    let mut values = vec![
        ("net/ipv4/ip_forward".to_owned(), "1"),
        ("net/ipv4/conf/all/send_redirects".to_owned(), "0"),
        ("net/ipv4/conf/default/send_redirects".to_owned(), "0"),
        ("net/ipv4/conf/all/accept_redirects".to_owned(), "0"),
        ("net/ipv4/conf/all/rp_filter".to_owned(), "0"),
    ];
    if six {
        values.push(("net/ipv6/conf/all/forwarding".to_owned(), "1"));
    }
    values
}

/// A device that says nothing by itself and takes no advice.
fn quiet(link: &str, six: bool) -> Vec<(String, &'static str)> {
    let mut values = if six {
        sysctl::static_ipv6(link)
    } else {
        sysctl::without_ipv6(link)
    };
    values.push((format!("net/ipv4/conf/{link}/rp_filter"), "0"));
    values.push((format!("net/ipv4/conf/{link}/accept_redirects"), "0"));
    values.push((format!("net/ipv4/conf/{link}/send_redirects"), "0"));
    values
}

/// What the gateway lacks inside, in words; nothing when it is whole.
///
/// # Errors
/// It cannot be looked at.
pub async fn lacks(hold: &Hold, gateway: &Gateway) -> Result<Vec<String>, GatewayError> {
    let mut lacks = Vec::new();
    if filter::generation(&hold.netns)? != hold.generation {
        lacks.push("its rules".to_owned());
    }
    let inside = Netlink::in_netns(&hold.netns)?;
    let links = inside.links().await?;
    for (name, mtu) in [(INNER, gateway.mtu), (UP, gateway.underlay_mtu)] {
        match links.iter().find(|link| link.name == name) {
            Some(link) if link.up && link.mtu == mtu => {}
            _ => lacks.push(format!("device {name} up")),
        }
    }
    let routes = inside.routes().await?;
    let wanted = inner_addresses(gateway)
        .into_iter()
        .map(|(_, range, _)| range);
    let defaults = up_addresses(gateway).into_iter().map(|(.., net)| net);
    for net in wanted.chain(defaults) {
        if !routes.iter().any(|route| route.destination == net) {
            lacks.push(format!("route {net}"));
        }
    }
    Ok(lacks)
}

/// Takes the gateway away; one that is not there is as good.
///
/// # Errors
/// What could not be taken away.
pub async fn remove(netlink: &Netlink, pin: &Path, index: u16) -> Result<(), GatewayError> {
    for name in [up_name(index), inner_name(index)] {
        // Another kind of device has only the name.
        let link = netlink.link(&name).await?;
        if link.is_some_and(|link| link.kind == LinkKind::Veth) {
            netlink.delete_link(&name).await?;
        }
    }
    Ok(netns::unpin(pin)?)
}

/// Whether a node passes on IPv4, and IPv6; a kernel without IPv6 does not.
pub fn passes_on(node: impl AsFd) -> [bool; 2] {
    FORWARDING.map(|key| sysctl::read(node.as_fd(), key).is_ok_and(|value| value == "1"))
}

/// The node's part for all its gateways: its rules, and that it passes on. Returns the generation of its rules.
///
/// # Errors
/// The kernel refused.
pub fn configure(
    node: impl AsFd,
    gateways: &[Gateway],
    nodes: &BTreeSet<IpAddr>,
    passed_on: [bool; 2],
    vxlan: u16,
) -> Result<u32, GatewayError> {
    let node = node.as_fd();
    if gateways.is_empty() {
        let before = FORWARDING.into_iter().zip(passed_on);
        let off = before.filter(|(_, passed)| !passed);
        let off: Vec<_> = off.map(|(key, _)| (key.to_owned(), "0")).collect();
        sysctl::write(node, &off)?;
        filter::remove(node, TABLE)?;
    } else {
        // The rules first: nothing passes that they do not allow.
        filter::replace(node, &node_rules(gateways, nodes, passed_on, vxlan))?;
        sysctl::write(node, &[(FORWARDING[0].to_owned(), "1")])?;
        if gateways.iter().any(|g| g.cidr6.is_some()) {
            forward6(node)?;
        }
    }
    Ok(filter::generation(node)?)
}

/// A node that passes IPv6 on takes router advertisements only where it is told so: it goes on taking them where it did
/// (Documentation/networking/ip-sysctl.rst, `accept_ra`).
fn forward6(node: std::os::fd::BorrowedFd<'_>) -> Result<(), GatewayError> {
    let all = FORWARDING[1];
    if sysctl::read(node, all)? == "1" {
        return Ok(());
    }
    let listening = netns::run_in_netns(node, || {
        let conf = PathBuf::from("/proc/sys/net/ipv6/conf");
        let names = std::fs::read_dir(&conf).into_iter().flatten().flatten();
        let takes = |name: &String| {
            let path = conf.join(name).join("accept_ra");
            std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
        };
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(takes).collect::<Vec<_>>()
    })?;
    let mut values: Vec<(String, &str)> = listening
        .into_iter()
        .map(|name| (format!("net/ipv6/conf/{name}/accept_ra"), "2"))
        .collect();
    values.push((all.to_owned(), "1"));
    Ok(sysctl::write(node, &values)?)
}
