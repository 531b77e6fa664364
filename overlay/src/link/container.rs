//! The inside of a container's network namespace: loopback, addresses, routes, sysctls.

use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnet::IpNet;

use super::observe::names_of;
use super::{AddressInfo, ContainerNet, LinkError, LinkInfo, Netlink, Route, sysctl};

/// Sets up one interface of a container, which `ensure_veth` put into `netns`: what is missing is
/// added, addresses and IPv6 that do not belong are removed. A hop's interface gets no addresses, no
/// IPv6 and does not forward by itself.
pub async fn configure_container(netns: impl AsFd, net: &ContainerNet) -> Result<(), LinkError> {
    let netns = netns.as_fd();
    let inside = Netlink::in_netns(netns)?;
    let name = net.interface.as_str();
    inside.existing("configure", name).await?;
    inside.set_up("lo").await?;
    inside.set_mac(name, net.mac).await?;
    inside.set_mtu(name, net.mtu).await?;
    // Before it is up, so that not one packet of the kernel's own leaves.
    sysctl::write(netns, &sysctls(net))?;
    remove_strangers(&inside, net).await?;
    inside.set_up(name).await?;
    if net.hop {
        return Ok(());
    }
    for address in &net.addresses {
        inside.add_address(name, IpNet::from(*address)).await?;
    }
    for route in routes(net) {
        inside.replace_route(&route).await?;
    }
    Ok(())
}

/// What [`missing_inside`] says of a device with another MTU.
pub const MTU: &str = "with its MTU";

/// What an interface that was set up lacks now, in words: `address 10.10.0.7/32`. Routes that somebody replaced by
/// others to the same destination are the container's own affair.
pub async fn missing_inside(
    netns: impl AsFd,
    nets: &[ContainerNet],
) -> Result<Vec<String>, LinkError> {
    let inside = Netlink::in_netns(netns)?;
    let links = inside.links().await?;
    let names = names_of(&links);
    let addresses = inside.addresses_of(&names).await?;
    let routes = inside.routes_of(&names).await?;
    let lacks = nets
        .iter()
        .flat_map(|net| missing(net, &links, &addresses, &routes));
    Ok(lacks.collect())
}

fn missing(
    net: &ContainerNet,
    links: &[LinkInfo],
    addresses: &[AddressInfo],
    present: &[Route],
) -> Vec<String> {
    let name = net.interface.as_str();
    let Some(link) = links.iter().find(|link| link.name == name) else {
        return vec![format!("device {name}")];
    };
    let mut lacks = Vec::new();
    if !link.up {
        lacks.push(format!("device {name} up"));
    }
    if link.mac != Some(net.mac) {
        lacks.push(format!("device {name} with its MAC address {}", net.mac));
    }
    if link.mtu != net.mtu {
        lacks.push(format!("device {name} {MTU} {}", net.mtu));
    }
    for address in &net.addresses {
        let own = IpNet::from(*address);
        if !addresses
            .iter()
            .any(|seen| seen.link == name && seen.address == own)
        {
            lacks.push(format!("address {own}"));
        }
    }
    for route in routes(net) {
        let to = route.destination;
        if !present.iter().any(|seen| seen.destination == to) {
            lacks.push(format!("route {to}"));
        }
    }
    lacks
}

fn sysctls(net: &ContainerNet) -> Vec<(String, &'static str)> {
    let name = net.interface.as_str();
    let ipv6 = net.addresses.iter().any(IpAddr::is_ipv6);
    let mut values = if ipv6 && !net.hop {
        sysctl::static_ipv6(name)
    } else {
        sysctl::without_ipv6(name)
    };
    if net.hop {
        // The function behind the interface moves frames; the kernel must not route them as well.
        values.push((format!("net/ipv4/conf/{name}/forwarding"), "0"));
    } else {
        // Two interfaces of one container may answer each other's flows: both are checked by weft.
        values.push((format!("net/ipv4/conf/{name}/rp_filter"), "0"));
    }
    values
}

/// Addresses of an earlier life of the interface.
async fn remove_strangers(inside: &Netlink, net: &ContainerNet) -> Result<(), LinkError> {
    for seen in inside.addresses().await? {
        let wanted = !net.hop
            && net.addresses.contains(&seen.address.addr())
            && seen.address.prefix_len() == seen.address.max_prefix_len();
        if seen.link == net.interface && !wanted {
            inside.delete_address(&seen.link, seen.address).await?;
        }
    }
    Ok(())
}

/// The gateway on the link first, then what lies behind it.
fn routes(net: &ContainerNet) -> Vec<Route> {
    let mut routes = Vec::new();
    let has = |ipv6: bool| net.addresses.iter().any(|a| a.is_ipv6() == ipv6);
    let gateways = [
        net.gateway4.map(IpAddr::V4).filter(|_| has(false)),
        net.gateway6.map(IpAddr::V6).filter(|_| has(true)),
    ];
    for gateway in gateways.into_iter().flatten() {
        routes.push(Route::direct(IpNet::from(gateway), &net.interface));
        let family = net
            .routes
            .iter()
            .filter(|r| r.addr().is_ipv6() == gateway.is_ipv6());
        routes.extend(family.map(|net_behind| Route::via(*net_behind, gateway, &net.interface)));
    }
    routes
}
