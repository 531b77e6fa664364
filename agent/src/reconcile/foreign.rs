//! Interfaces of what others made: they are looked for, given to it and taken away; it itself is left alone.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::stat::fstat;
use weft_overlay::documents::NetworkSpec;
use weft_overlay::foreign::Foreign;
use weft_overlay::link::{LinkError, LinkInfo};
use weft_overlay::mtu::network_mtu;
use weft_overlay::tap::Tap;
use weft_overlay::{ContainerRef, netns};

use super::{Observed, Reconciler};
use crate::local::{LocalContainer, LocalInterface};
use crate::node::chain_of;

/// Where its interfaces are, if somebody else made that.
fn place(record: &LocalContainer) -> Option<Foreign> {
    let text = record.foreign.as_deref()?;
    Foreign::of(text).unwrap_or_default()
}

/// What tells a namespace from all others while it is open.
fn number(netns: &impl AsFd) -> Result<(u64, u64), String> {
    let seen = fstat(netns.as_fd()).map_err(|e| e.to_string())?;
    Ok((seen.st_dev, seen.st_ino))
}

impl Reconciler {
    pub(super) fn foreign(&self, container: &ContainerRef) -> Option<Foreign> {
        self.file.get().containers.get(container).and_then(place)
    }

    pub(super) fn made_tap(&self, container: &ContainerRef) -> bool {
        let record = self.file.get().containers.get(container);
        record.is_some_and(|record| record.made_tap)
    }

    /// Adds what others made and what is there; it counts as made until its interfaces were given to it once.
    pub(super) async fn observe_foreign(&self, observed: &mut BTreeMap<ContainerRef, Observed>) {
        for (container, record) in &self.file.get().containers {
            let there = match place(record) {
                Some(Foreign::Netns(path)) => netns::open(&path).is_ok(),
                Some(Foreign::Tap(name)) => {
                    let link = self.netlink.link(name.as_str()).await;
                    link.is_ok_and(|link| link.as_ref().is_some_and(LinkInfo::is_tap))
                }
                None => continue,
            };
            if there {
                let given = record.started.is_some();
                let state = if given {
                    Observed::Running
                } else {
                    Observed::Created
                };
                observed.insert(container.clone(), state);
            }
        }
    }

    /// Makes the tap device; a namespace is others' to make.
    pub(super) fn make_foreign(
        &mut self,
        container: &ContainerRef,
        place: &Foreign,
    ) -> Result<(), String> {
        match place {
            Foreign::Netns(path) => {
                let opened = netns::open(path);
                opened
                    .map(drop)
                    .map_err(|e| format!("{}; make it, or detach the endpoint", chain_of(&e)))
            }
            Foreign::Tap(name) => {
                let made = Tap::keep(name.as_str());
                made.map_err(|e| {
                    format!("tap device {name}: {e}; is /dev/net/tun there, and the name free?")
                })?;
                self.remember(|local| {
                    let record = local.containers.get_mut(container);
                    record.map(|record| record.made_tap = true)
                });
                self.again = true;
                Ok(())
            }
        }
    }

    /// The namespace in which a container's interfaces are; `None` when there is none (now).
    pub(super) fn inside(&self, container: &ContainerRef) -> Result<Option<OwnedFd>, String> {
        let opened = match self.foreign(container) {
            Some(Foreign::Netns(path)) => netns::open(&path),
            Some(Foreign::Tap(_)) => return Ok(None),
            None => match self.pids.get(container) {
                Some(pid) => netns::of_pid(*pid),
                None => return Ok(None),
            },
        };
        let inside = opened.map_err(|e| e.to_string())?;
        let its = number(&inside)?;
        if number(&self.netlink.netns())? == its {
            return Err("is the node's own network namespace; a container's cannot be".to_owned());
        }
        if self.foreign(container).is_some() {
            for (other, pid) in &self.pids {
                let theirs = netns::of_pid(*pid).ok().and_then(|ns| number(&ns).ok());
                if theirs == Some(its) {
                    return Err(format!(
                        "is the network namespace of container {other}; name its networks there"
                    ));
                }
            }
        }
        Ok(Some(inside))
    }

    /// A tap device with its program, up; what is behind it sets its own address.
    pub(super) async fn plumb_tap(
        &self,
        interface: &LocalInterface,
        network: &NetworkSpec,
    ) -> Result<(), String> {
        let refused = |e: LinkError| format!("{e}; {}", e.help());
        let name = interface.host_name();
        let mtu = network_mtu(network, self.underlay_mtu, self.shared.config.advertise);
        let link = self
            .netlink
            .existing("attach", &name)
            .await
            .map_err(refused)?;
        if !link.is_tap() {
            return Err(format!("device {name} is no tap device; name another"));
        }
        self.netlink
            .set_mtu(&name, u32::from(mtu))
            .await
            .map_err(refused)?;
        self.netlink.quiet(&name).await.map_err(refused)?;
        let attached = self.datapath.lock().attach_port(link.index);
        attached.map_err(|e| format!("{}; {}", chain_of(&e), e.help()))?;
        self.netlink.set_up(&name).await.map_err(refused)
    }
}
