//! What exists: links, addresses, routes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo as KernelInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use rtnetlink::RouteMessageBuilder;

use super::error::{io_error, is_gone};
use super::{AddressInfo, LinkError, LinkInfo, LinkKind, Netlink, Route, VxlanInfo};
use crate::ids::Mac;

impl Netlink {
    /// All links, by number.
    pub async fn links(&self) -> Result<Vec<LinkInfo>, LinkError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| LinkError::refused("list", "links", e))?;
        let mut links: Vec<LinkInfo> = messages.iter().map(link_info).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// One link, if it exists.
    pub async fn link(&self, name: &str) -> Result<Option<LinkInfo>, LinkError> {
        let request = self.handle.link().get().match_name(name);
        let found: Result<Vec<LinkMessage>, _> = request.execute().try_collect().await;
        match found.map_err(io_error) {
            Ok(messages) => Ok(messages.first().map(link_info)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(LinkError::Refused {
                verb: "look up",
                link: name.to_owned(),
                source,
            }),
        }
    }

    /// One link that must exist for `verb`.
    pub async fn existing(&self, verb: &'static str, name: &str) -> Result<LinkInfo, LinkError> {
        let link = name.to_owned();
        self.link(name)
            .await?
            .ok_or(LinkError::Missing { verb, link })
    }

    /// MTU of a link that exists.
    pub async fn mtu_of(&self, name: &str) -> Result<u32, LinkError> {
        Ok(self.existing("read the MTU of", name).await?.mtu)
    }

    /// All addresses.
    pub async fn addresses(&self) -> Result<Vec<AddressInfo>, LinkError> {
        self.addresses_of(&self.names().await?).await
    }

    /// All addresses, of links whose names are known.
    pub(super) async fn addresses_of(
        &self,
        names: &BTreeMap<u32, String>,
    ) -> Result<Vec<AddressInfo>, LinkError> {
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| LinkError::refused("list", "addresses", e))?;
        Ok(messages
            .iter()
            .filter_map(|m| address_info(m, names))
            .collect())
    }

    /// The unicast routes of the main table, of both families.
    pub async fn routes(&self) -> Result<Vec<Route>, LinkError> {
        self.routes_of(&self.names().await?).await
    }

    /// The same, of links whose names are known.
    pub(super) async fn routes_of(
        &self,
        names: &BTreeMap<u32, String>,
    ) -> Result<Vec<Route>, LinkError> {
        let mut routes = Vec::new();
        for message in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let messages: Vec<RouteMessage> = self
                .handle
                .route()
                .get(message)
                .execute()
                .try_collect()
                .await
                .map_err(|e| LinkError::refused("list", "routes", e))?;
            routes.extend(messages.iter().filter_map(|m| route_info(m, names)));
        }
        routes.sort();
        Ok(routes)
    }

    async fn names(&self) -> Result<BTreeMap<u32, String>, LinkError> {
        Ok(names_of(&self.links().await?))
    }
}

/// The names of links by number.
pub(super) fn names_of(links: &[LinkInfo]) -> BTreeMap<u32, String> {
    links.iter().map(|l| (l.index, l.name.clone())).collect()
}

fn link_info(message: &LinkMessage) -> LinkInfo {
    let mut info = LinkInfo {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Device,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        peer: None,
        vxlan: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => info.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
            LinkAttribute::Controller(index) => info.master = Some(*index),
            LinkAttribute::Link(index) => info.peer = Some(*index),
            LinkAttribute::Address(bytes) => {
                info.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
            }
            LinkAttribute::LinkInfo(parts) => read_kind(parts, &mut info),
            _ => {}
        }
    }
    if info.kind != LinkKind::Veth {
        info.peer = None;
    }
    info
}

fn read_kind(parts: &[KernelInfo], info: &mut LinkInfo) {
    for part in parts {
        match part {
            KernelInfo::Kind(InfoKind::Bridge) => info.kind = LinkKind::Bridge,
            KernelInfo::Kind(InfoKind::Veth) => info.kind = LinkKind::Veth,
            KernelInfo::Kind(InfoKind::Vxlan) => info.kind = LinkKind::Vxlan,
            KernelInfo::Kind(other) => info.kind = LinkKind::Other(other.to_string()),
            KernelInfo::Data(InfoData::Vxlan(data)) => info.vxlan = Some(vxlan_info(data)),
            _ => {}
        }
    }
}

fn vxlan_info(data: &[InfoVxlan]) -> VxlanInfo {
    let mut info = VxlanInfo::default();
    for part in data {
        match part {
            InfoVxlan::Port(port) => info.port = *port,
            InfoVxlan::CollectMetadata(on) => info.external = *on,
            InfoVxlan::Learning(on) => info.learning = *on,
            InfoVxlan::UDPCsum(on) => info.udp_csum = *on,
            InfoVxlan::UDPZeroCsumTX(on) => info.udp6_zero_csum_tx = *on,
            _ => {}
        }
    }
    info
}

fn address_info(message: &AddressMessage, names: &BTreeMap<u32, String>) -> Option<AddressInfo> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // Of a point-to-point address, `Local` is ours and `Address` the other's.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(a) => address = address.or(Some(*a)),
            _ => {}
        }
    }
    Some(AddressInfo {
        link: names.get(&message.header.index)?.clone(),
        address: IpNet::new(address?, message.header.prefix_len).ok()?,
        tentative: message.header.flags.contains(AddressHeaderFlags::Tentative),
    })
}

fn route_info(message: &RouteMessage, names: &BTreeMap<u32, String>) -> Option<Route> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut gateway, mut link) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(a) => destination = ip(a)?,
            RouteAttribute::Gateway(a) => gateway = ip(a),
            RouteAttribute::Oif(index) => link = names.get(index).cloned(),
            _ => {}
        }
    }
    Some(Route {
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        gateway,
        link: link?,
        onlink: header.flags.contains(RouteFlags::Onlink),
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}
