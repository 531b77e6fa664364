//! Devices: made if they are not there, made anew if they are set to something else that cannot be changed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};

use super::error::io_error;
use super::{LinkError, LinkInfo, LinkKind, Netlink, VethSpec, VxlanSpec, sysctl};

impl Netlink {
    /// A VXLAN device as `spec` says, up; its number. One with another port or other flags is made
    /// anew: they cannot be changed.
    pub async fn ensure_vxlan(&self, spec: &VxlanSpec) -> Result<u32, LinkError> {
        let verb = "create VXLAN device";
        let name = spec.name.as_str();
        let right = spec.flags();
        if let Some(link) = self.of_kind(verb, name, LinkKind::Vxlan).await?
            && link.vxlan != Some(right)
        {
            tracing::warn!(link = name, found = ?link.vxlan, wanted = ?right, "VXLAN device is made anew");
            self.delete_link(name).await?;
        }
        if self.link(name).await?.is_none() {
            let mut message = LinkVxlan::new(name, 0)
                .collect_metadata(true)
                // Raw netlink creates them learning (only iproute2 turns it off with `external`).
                .learning(false)
                .port(spec.port)
                .udp_csum(true)
                .udp_zero_csum6_tx(false)
                .udp_zero_csum6_rx(false)
                .mtu(spec.mtu);
            if let Some(mac) = spec.mac {
                message = message.address(mac.0.to_vec());
            }
            self.create(verb, name, message.build()).await?;
        }
        if let Some(mac) = spec.mac {
            self.set_mac(name, mac).await?;
        }
        self.set_mtu(name, spec.mtu).await?;
        // The node itself has nothing to say into the tunnel.
        sysctl::write(self.netns(), &sysctl::without_ipv6(name))?;
        self.set_up(name).await?;
        Ok(self.existing(verb, name).await?.index)
    }

    /// A bridge, up; its number. It forwards at once (no spanning tree) and does not snoop multicast.
    pub async fn ensure_bridge(&self, name: &str) -> Result<u32, LinkError> {
        let verb = "create bridge";
        if self.of_kind(verb, name, LinkKind::Bridge).await?.is_none() {
            let message = LinkBridge::new(name)
                .forward_delay(0)
                .mcast_snooping(false)
                .build();
            self.create(verb, name, message).await?;
        }
        self.set_up(name).await?;
        Ok(self.existing(verb, name).await?.index)
    }

    /// A veth pair, this end here and the other in `peer_netns` (`None`: here too); this end's number.
    /// A pair whose other end is not where it should be is made anew. Neither end is set up.
    pub async fn ensure_veth(
        &self,
        spec: &VethSpec,
        peer_netns: Option<BorrowedFd<'_>>,
    ) -> Result<u32, LinkError> {
        let verb = "create veth";
        let peer_netns = peer_netns.unwrap_or_else(|| self.netns());
        if let Some(link) = self.of_kind(verb, &spec.name, LinkKind::Veth).await?
            && !is_pair(
                &link,
                Netlink::in_netns(peer_netns)?.link(&spec.peer_name).await?,
            )
        {
            self.delete_link(&spec.name).await?;
        }
        if self.link(&spec.name).await?.is_none() {
            self.create(verb, &spec.name, veth_message(spec, peer_netns))
                .await?;
        }
        if let Some(mac) = spec.mac {
            self.set_mac(&spec.name, mac).await?;
        }
        self.set_mtu(&spec.name, spec.mtu).await?;
        let inside = Netlink::in_netns(peer_netns)?;
        if let Some(mac) = spec.peer_mac {
            inside.set_mac(&spec.peer_name, mac).await?;
        }
        inside.set_mtu(&spec.peer_name, spec.mtu).await?;
        Ok(self.existing(verb, &spec.name).await?.index)
    }

    /// Deletes a link; one that is not there is as good.
    pub async fn delete_link(&self, name: &str) -> Result<(), LinkError> {
        let verb = "delete";
        let Some(link) = self.link(name).await? else {
            return Ok(());
        };
        match self
            .handle
            .link()
            .del(link.index)
            .execute()
            .await
            .map_err(io_error)
        {
            Err(e) if !super::error::is_gone(&e) => Err(LinkError::Refused {
                verb,
                link: name.to_owned(),
                source: e,
            }),
            _ => Ok(()),
        }
    }

    /// The link of that name, if it exists; an error if it is something else.
    async fn of_kind(
        &self,
        verb: &'static str,
        name: &str,
        wanted: LinkKind,
    ) -> Result<Option<LinkInfo>, LinkError> {
        match self.link(name).await? {
            Some(link) if link.kind != wanted => Err(LinkError::Kind {
                verb,
                link: name.to_owned(),
                found: link.kind,
                wanted,
            }),
            found => Ok(found),
        }
    }

    /// Creates; one that appeared meanwhile is as good, its kind is looked at by the caller's next pass.
    async fn create(
        &self,
        verb: &'static str,
        name: &str,
        message: LinkMessage,
    ) -> Result<(), LinkError> {
        match self.handle.link().add(message).execute().await {
            Ok(()) => Ok(()),
            Err(error) => Err(LinkError::refused(verb, name, error)),
        }
    }
}

fn is_pair(this: &LinkInfo, other: Option<LinkInfo>) -> bool {
    other.is_some_and(|other| {
        other.kind == LinkKind::Veth
            && this.peer == Some(other.index)
            && other.peer == Some(this.index)
    })
}

fn veth_message(spec: &VethSpec, peer_netns: BorrowedFd<'_>) -> LinkMessage {
    let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(spec.peer_name.clone())
        .mtu(spec.mtu)
        .setns_by_fd(peer_netns.as_fd().as_raw_fd());
    if let Some(mac) = spec.peer_mac {
        peer = peer.address(mac.0.to_vec());
    }
    let mut this = LinkVeth::new(&spec.name, &spec.peer_name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
        .mtu(spec.mtu);
    if let Some(mac) = spec.mac {
        this = this.address(mac.0.to_vec());
    }
    this.build()
}
