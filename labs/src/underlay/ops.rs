//! Changes to a node's own network, as data: carried out in a namespace of this machine or inside a virtual one.

use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_overlay::link::{LinkError, Netlink, Route, sysctl};

/// One change. Doing it again does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum NetOp {
    /// Set a device up.
    Up {
        /// Its name.
        device: String,
    },
    /// Set a device down.
    Down {
        /// Its name.
        device: String,
    },
    /// Remove a device.
    Delete {
        /// Its name.
        device: String,
    },
    /// Give a device an MTU.
    Mtu {
        /// Its name.
        device: String,
        /// Bytes.
        mtu: u32,
    },
    /// Give a device an address.
    Address {
        /// Its name.
        device: String,
        /// With the prefix length.
        address: IpNet,
    },
    /// Set a value below `/proc/sys`.
    Sysctl {
        /// `net/ipv4/ip_forward`
        key: String,
        /// The value.
        value: String,
    },
    /// Send what is for `to` by this device, whatever was said before.
    Route {
        /// The destination.
        to: IpNet,
        /// The neighbour that takes it on; none: it is on the link.
        via: Option<IpAddr>,
        /// By which device.
        device: String,
    },
}

/// Carries changes out in order in the namespace of `netlink`.
pub(crate) async fn apply(netlink: &Netlink, ops: &[NetOp]) -> Result<(), LinkError> {
    for op in ops {
        match op {
            NetOp::Up { device } => netlink.set_up(device).await?,
            NetOp::Down { device } => netlink.set_down(device).await?,
            NetOp::Delete { device } => netlink.delete_link(device).await?,
            NetOp::Mtu { device, mtu } => netlink.set_mtu(device, *mtu).await?,
            NetOp::Address { device, address } => netlink.add_address(device, *address).await?,
            NetOp::Sysctl { key, value } => {
                sysctl::write(netlink.netns().as_fd(), &[(key.clone(), value)])?;
            }
            NetOp::Route { to, via, device } => {
                let route = match via {
                    None => Route::direct(*to, device),
                    Some(via) => Route {
                        // The neighbour's IPv4 address is of no subnet of this device; IPv6's is the link's.
                        onlink: via.is_ipv4(),
                        ..Route::via(*to, *via, device)
                    },
                };
                netlink.replace_route(&route).await?;
            }
        }
    }
    Ok(())
}
