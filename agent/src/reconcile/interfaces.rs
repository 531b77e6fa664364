//! Gives containers their interfaces, and repairs those that lost one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use weft_overlay::ContainerRef;
use weft_overlay::documents::NetworkSpec;
use weft_overlay::link::{ContainerNet, LinkError, VethSpec, configure_container};
use weft_overlay::mtu::network_mtu;

use super::{Observed, Reconciler};
use crate::local::LocalInterface;
use crate::mirror::State;
use crate::node::chain_of;

impl Reconciler {
    /// Gives every container that lives its interfaces; repairs those that lost one.
    pub(super) async fn plumb_all(
        &mut self,
        state: &State,
        observed: &BTreeMap<ContainerRef, Observed>,
    ) {
        let links = match self.netlink.links().await {
            Ok(links) => links,
            Err(error) => return self.problem("links", error),
        };
        self.repair_containers(state, observed, &links).await;
        let present: BTreeSet<String> = links.into_iter().map(|l| l.name).collect();
        for (container, seen) in observed {
            let interfaces = self.interfaces_of(container);
            let lacks = interfaces.iter().any(|i| !present.contains(&i.host_name()));
            // One that runs is looked at with all it has; see `repairs`.
            let fresh = lacks || !self.plumbed.contains(container);
            if *seen != Observed::Created || !fresh {
                continue;
            }
            match self.plumb(state, container, &interfaces).await {
                Ok(()) => {
                    self.plumbed.insert(container.clone());
                }
                // What somebody else made may never do: who asked for it is told.
                Err(cause) if self.foreign(container).is_some() => {
                    let record = self.file.get().containers.get(container);
                    let uid = record.map(|r| r.uid.clone()).unwrap_or_default();
                    self.failed(container, uid, cause);
                }
                Err(cause) => self.problem(format!("interfaces of container {container}"), cause),
            }
        }
    }

    pub(super) async fn plumb(
        &self,
        state: &State,
        container: &ContainerRef,
        interfaces: &[LocalInterface],
    ) -> Result<(), String> {
        let inside = self.inside(container)?;
        // Only the first of a container of its own takes everything else, too.
        let ours = self.foreign(container).is_none();
        for (index, interface) in interfaces.iter().enumerate() {
            let network = state.networks.get(&interface.network);
            let Some(network) = network else {
                return Err(format!("network {} does not exist", interface.network));
            };
            match &inside {
                Some(inside) => {
                    let first = ours && index == 0;
                    self.plumb_one(inside, interface, &network.value, first)
                        .await?;
                }
                None if interface.tap.is_some() => {
                    self.plumb_tap(interface, &network.value).await?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// One veth pair; up only when its inside is complete and the program is on it, so that the first packet
    /// is a right one and none passes unjudged.
    async fn plumb_one(
        &self,
        inside: &OwnedFd,
        interface: &LocalInterface,
        network: &NetworkSpec,
        first: bool,
    ) -> Result<(), String> {
        let refused = |e: LinkError| format!("{e}; {}", e.help());
        let net = self.inside_of(interface, network, first);
        let pair = VethSpec {
            name: interface.host_name(),
            mac: None,
            peer_name: net.interface.clone(),
            peer_mac: Some(interface.mac),
            mtu: net.mtu,
        };
        let ifindex = self
            .netlink
            .ensure_veth(&pair, Some(inside.as_fd()))
            .await
            .map_err(refused)?;
        self.netlink.quiet(&pair.name).await.map_err(refused)?;
        configure_container(inside, &net).await.map_err(refused)?;
        let attached = self.datapath.lock().attach_port(ifindex);
        attached.map_err(|e| format!("{}; {}", chain_of(&e), e.help()))?;
        self.netlink.set_up(&pair.name).await.map_err(refused)
    }

    /// What the container's end of an interface is to be.
    pub(super) fn inside_of(
        &self,
        interface: &LocalInterface,
        network: &NetworkSpec,
        first: bool,
    ) -> ContainerNet {
        let mtu = u32::from(network_mtu(
            network,
            self.underlay_mtu,
            self.shared.config.advertise,
        ));
        let (name, mac) = (interface.interface.to_string(), interface.mac);
        if interface.hop {
            return ContainerNet::hop(name, mac, mtu);
        }
        let addresses = interface.addresses.clone();
        ContainerNet::ordinary(name, mac, mtu, addresses, network, first)
    }
}
