//! The VXLAN device of a node, and what the programs are told of it.

use weft_ebpf_abi as abi;
use weft_overlay::NodeId;
use weft_overlay::link::{LinkInfo, Netlink, VxlanSpec};

use super::{NodeConfig, NodeError, chain_of};
use crate::plan::tables::map_address;

/// Its name; there is one a network namespace and UDP port.
pub const NAME: &str = "weft-vxlan";

/// The underlay's MTU, bytes: which of its interfaces a packet takes is the routes' choice, and may change.
pub async fn underlay_mtu(config: &NodeConfig, netlink: &Netlink) -> Result<u32, NodeError> {
    let mut least = u32::MAX;
    for name in &config.underlay {
        let mtu = netlink.mtu_of(name).await.map_err(|e| {
            NodeError::new(
                format!("underlay {name}"),
                &e,
                "name the interfaces that carry --advertise with --underlay",
            )
        })?;
        least = least.min(mtu);
    }
    Ok(least)
}

/// The same of links that were listed; `None` when one of the interfaces is not among them.
pub fn least_mtu(config: &NodeConfig, links: &[LinkInfo]) -> Option<u32> {
    let of = |name: &String| links.iter().find(|l| l.name == *name).map(|l| l.mtu);
    let all: Option<Vec<u32>> = config.underlay.iter().map(of).collect();
    all?.into_iter().min()
}

/// Makes the device, or finds it; its index.
pub async fn ensure(
    config: &NodeConfig,
    netlink: &Netlink,
    underlay_mtu: u32,
) -> Result<u32, NodeError> {
    let failed = |e: weft_overlay::link::LinkError| {
        NodeError::new(format!("VXLAN device {NAME}"), &e, e.help())
    };
    let spec = VxlanSpec::over(NAME, config.vxlan_port, underlay_mtu, config.advertise);
    let index = netlink.ensure_vxlan(&spec).await.map_err(failed)?;
    netlink.set_up(NAME).await.map_err(failed)?;
    Ok(index)
}

/// What the programs must know of the node, and whether datagrams take the short way in.
pub fn node_config(
    config: &NodeConfig,
    id: NodeId,
    overlay: u32,
    short_way: bool,
) -> abi::NodeConfig {
    let port = u32::from(config.vxlan_port);
    abi::NodeConfig {
        abi: abi::ABI_VERSION,
        node: id.0,
        vxlan_ifindex: overlay,
        short_way_port: if short_way { port } else { 0 },
        vtep: map_address(config.advertise),
    }
}

/// An error of the datapath as the node's.
pub fn error(error: weft_ebpf::Error) -> NodeError {
    NodeError::new("datapath", chain_of(&error), error.help())
}
