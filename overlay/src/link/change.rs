//! Properties of links that exist, their addresses, and routes.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteScope;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::error::{io_error, is_gone};
use super::{LinkError, LinkInfo, Netlink, Route, sysctl};
use crate::ids::Mac;

impl Netlink {
    /// Sets a link up.
    pub async fn set_up(&self, name: &str) -> Result<(), LinkError> {
        let link = self.existing("set up", name).await?;
        if link.up {
            return Ok(());
        }
        self.set("set up", &link, |m| m.up()).await
    }

    /// Sets a link down.
    pub async fn set_down(&self, name: &str) -> Result<(), LinkError> {
        let link = self.existing("set down", name).await?;
        if !link.up {
            return Ok(());
        }
        self.set("set down", &link, |m| m.down()).await
    }

    /// Sets a link's MTU.
    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), LinkError> {
        let link = self.existing("set the MTU of", name).await?;
        if link.mtu == mtu {
            return Ok(());
        }
        self.set("set the MTU of", &link, |m| m.mtu(mtu)).await
    }

    /// Sets a link's Ethernet address.
    pub async fn set_mac(&self, name: &str, mac: Mac) -> Result<(), LinkError> {
        let link = self.existing("set the address of", name).await?;
        if link.mac == Some(mac) {
            return Ok(());
        }
        self.set("set the address of", &link, |m| m.address(mac.0.to_vec()))
            .await
    }

    /// Makes a link a port of a bridge, or of none.
    pub async fn set_master(&self, name: &str, master: Option<&str>) -> Result<(), LinkError> {
        let verb = "set the bridge of";
        let link = self.existing(verb, name).await?;
        let wanted = match master {
            Some(master) => Some(self.existing(verb, master).await?.index),
            None => None,
        };
        if link.master == wanted {
            return Ok(());
        }
        self.set(verb, &link, |m| m.controller(wanted.unwrap_or(0)))
            .await
    }

    /// Moves a link to another namespace under a name that is free there. One that is not here but
    /// there under that name has been moved already.
    pub async fn move_link(
        &self,
        name: &str,
        netns: impl AsFd,
        new_name: &str,
    ) -> Result<(), LinkError> {
        let verb = "move";
        let netns = netns.as_fd();
        let Some(link) = self.link(name).await? else {
            Netlink::in_netns(netns)?.existing(verb, new_name).await?;
            return Ok(());
        };
        self.set(verb, &link, |m| {
            m.name(new_name).setns_by_fd(netns.as_raw_fd())
        })
        .await
    }

    /// Gives a link another name; it must be down on older kernels.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<(), LinkError> {
        let Some(link) = self.link(name).await? else {
            self.existing("rename", new_name).await?;
            return Ok(());
        };
        self.set("rename", &link, |m| m.name(new_name)).await
    }

    /// Turns IPv6 off on a link: nothing of the node's own is sent on it.
    pub async fn quiet(&self, name: &str) -> Result<(), LinkError> {
        self.existing("turn IPv6 off on", name).await?;
        sysctl::write(self.netns(), &sysctl::without_ipv6(name))
    }

    /// Gives a link an address; without duplicate detection, which costs over a second.
    pub async fn add_address(&self, name: &str, address: IpNet) -> Result<(), LinkError> {
        let verb = "add an address to";
        let link = self.existing(verb, name).await?;
        let mut request = self
            .handle
            .address()
            .add(link.index, address.addr(), address.prefix_len())
            .replace();
        if address.addr().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let result = request.execute().await;
        result.map_err(|e| LinkError::refused(verb, format!("{name} ({address})"), e))
    }

    /// Takes an address from a link; one that it does not have is as good.
    pub async fn delete_address(&self, name: &str, address: IpNet) -> Result<(), LinkError> {
        let verb = "take an address from";
        let link = self.existing(verb, name).await?;
        let mut message = netlink_packet_route::address::AddressMessage::default();
        message.header.index = link.index;
        message.header.prefix_len = address.prefix_len();
        message.header.family = match address {
            IpNet::V4(_) => netlink_packet_route::AddressFamily::Inet,
            IpNet::V6(_) => netlink_packet_route::AddressFamily::Inet6,
        };
        message
            .attributes
            .push(AddressAttribute::Local(address.addr()));
        message
            .attributes
            .push(AddressAttribute::Address(address.addr()));
        let result = self.handle.address().del(message).execute().await;
        gone_is_done(verb, format!("{name} ({address})"), result)
    }

    /// Sets a route, in place of another one to the same destination.
    pub async fn replace_route(&self, route: &Route) -> Result<(), LinkError> {
        let verb = "set a route on";
        let message = self.route_message(verb, route).await?;
        let result = self.handle.route().add(message).replace().execute().await;
        result.map_err(|e| LinkError::refused(verb, describe(route), e))
    }

    /// Takes a route away; one that is not there is as good.
    pub async fn delete_route(&self, route: &Route) -> Result<(), LinkError> {
        let verb = "take a route from";
        let message = self.route_message(verb, route).await?;
        let result = self.handle.route().del(message).execute().await;
        gone_is_done(verb, describe(route), result)
    }

    /// Says for good which Ethernet address a neighbour has, so that nobody asks for it.
    pub async fn set_neighbour(
        &self,
        name: &str,
        neighbour: IpAddr,
        mac: Mac,
    ) -> Result<(), LinkError> {
        let verb = "set a neighbour on";
        let link = self.existing(verb, name).await?;
        let request = self.handle.neighbours().add(link.index, neighbour);
        let request = request
            .link_layer_address(&mac.0)
            .state(NeighbourState::Permanent);
        let result = request.replace().execute().await;
        result.map_err(|e| LinkError::refused(verb, format!("{name} ({neighbour})"), e))
    }

    async fn route_message(
        &self,
        verb: &'static str,
        route: &Route,
    ) -> Result<netlink_packet_route::route::RouteMessage, LinkError> {
        let link = self.existing(verb, &route.link).await?;
        let invalid = |why: String| LinkError::Refused {
            verb,
            link: describe(route),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, why),
        };
        let net = route.destination.trunc();
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(net.addr(), net.prefix_len())
            .map_err(|e| invalid(e.to_string()))?
            .output_interface(link.index);
        match route.gateway {
            Some(gateway) => {
                message = message
                    .gateway(gateway)
                    .map_err(|e| invalid(e.to_string()))?
            }
            // IPv6 has no scopes of routes; the kernel ignores them there.
            None => message = message.scope(RouteScope::Link),
        }
        if route.onlink {
            message = message.onlink();
        }
        Ok(message.build())
    }

    async fn set(
        &self,
        verb: &'static str,
        link: &LinkInfo,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), LinkError> {
        let message: LinkMessage = change(LinkUnspec::new_with_index(link.index)).build();
        let result = self.handle.link().set(message).execute().await;
        result.map_err(|e| LinkError::refused(verb, &link.name, e))
    }
}

fn describe(route: &Route) -> String {
    match route.gateway {
        Some(gateway) => format!("{} ({} via {gateway})", route.link, route.destination),
        None => format!("{} ({})", route.link, route.destination),
    }
}

fn gone_is_done(
    verb: &'static str,
    link: String,
    result: Result<(), rtnetlink::Error>,
) -> Result<(), LinkError> {
    match result.map_err(io_error) {
        Err(source) if !is_gone(&source) => Err(LinkError::Refused { verb, link, source }),
        _ => Ok(()),
    }
}
