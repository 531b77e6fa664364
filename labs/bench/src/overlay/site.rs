//! Two nodes of a lab with weft's containers, and beside them the same for every other way.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path as File;

use anyhow::Context;
use serde_json::Value;
use weft_overlay::netns::run_in_netns;

use super::kernel::{self, Node};
use super::{Ways, tool};
use crate::cluster::Cluster;
use crate::traffic::Path;

const LAB: &str = include_str!("../overlay.toml");
/// The device of a lab's link, and of a container; a node with links has its address on the loopback.
const UNDERLAY: &str = "eth0";

/// Of addresses, inside or under.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Four,
    Six,
}

/// The lab is up, and so is everything beside it.
pub struct Site {
    cluster: Cluster,
    nodes: [Node; 2],
    /// Of the kernel's way: two on the first node, one on the second.
    near: OwnedFd,
    beside: OwnedFd,
    far: OwnedFd,
}

impl Site {
    /// Nodes that know each other by addresses of this family.
    pub fn up(weft: &File, under: Family) -> anyhow::Result<Site> {
        let head = "name = \"bench\"\n";
        let source = match under {
            Family::Four => LAB.to_owned(),
            Family::Six => LAB.replacen(head, &format!("{head}underlay = \"ipv6\"\n"), 1),
        };
        let cluster = Cluster::up(weft, &source)?;
        let node = |number: u8| -> anyhow::Result<Node> {
            let netns = cluster.netns(&format!("n{number}"))?;
            Ok(Node {
                address: address(&netns, "lo", under)?,
                netns,
                device: UNDERLAY,
                number,
            })
        };
        let nodes = [node(1)?, node(2)?];
        let mtu = tool::mtu(&nodes[0].netns, "weft-vxlan")?;
        kernel::join(&nodes, mtu)?;
        let near = kernel::container(&nodes[0], 2, mtu)?;
        let beside = kernel::container(&nodes[0], 3, mtu)?;
        let far = kernel::container(&nodes[1], 4, mtu)?;
        Ok(Site {
            cluster,
            nodes,
            near,
            beside,
            far,
        })
    }

    /// From one node to the other, with addresses of this family inside.
    pub fn cross(&self, inside: Family) -> anyhow::Result<Ways> {
        let bare = Path {
            near: self.nodes[0].netns.try_clone()?,
            far: self.nodes[1].netns.try_clone()?,
            to: self.nodes[1].address,
        };
        let kernel = Path {
            near: self.near.try_clone()?,
            far: self.far.try_clone()?,
            to: kernel::addresses(2, 4)[inside as usize],
        };
        Ok(vec![
            ("weft", self.weft("red/b", inside)?),
            ("kernel", kernel),
            ("bare", bare),
        ])
    }

    /// From one container to another one of the same node.
    pub fn same(&self) -> anyhow::Result<Ways> {
        let bridge = Path {
            near: self.near.try_clone()?,
            far: self.beside.try_clone()?,
            to: kernel::addresses(1, 3)[0],
        };
        Ok(vec![
            ("weft", self.weft("red/c", Family::Four)?),
            ("bridge", bridge),
        ])
    }

    fn weft(&self, to: &str, inside: Family) -> anyhow::Result<Path> {
        let far = self.cluster.container(to)?;
        Ok(Path {
            near: self.cluster.container("red/a")?,
            to: address(&far, UNDERLAY, inside)?,
            far,
        })
    }
}

/// The first address of a device that is known beyond its link.
pub fn address(netns: &OwnedFd, device: &str, family: Family) -> anyhow::Result<IpAddr> {
    let which = match family {
        Family::Four => "-4",
        Family::Six => "-6",
    };
    let words = [which, "-json", "address", "show", "scope", "global"];
    let said = run_in_netns(netns, || {
        std::process::Command::new("ip")
            .args(words)
            .args(["dev", device])
            .output()
    })?
    .context("ip cannot be started")?;
    let found: Value = serde_json::from_slice(&said.stdout).context("what ip says")?;
    // Older ones write an empty object for what they leave out.
    let devices = found.as_array().into_iter().flatten();
    let mut all = devices
        .flat_map(|device| device["addr_info"].as_array().into_iter().flatten())
        .filter_map(|address| address["local"].as_str());
    let text = all
        .next()
        .with_context(|| format!("{device} has no such address: {found}"))?;
    Ok(text.parse()?)
}
