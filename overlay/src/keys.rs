//! The key layout below `/weft/v1/`: the one place that builds and reads keys.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ids::Vni;
use crate::names::{
    ChainName, ContainerName, ContainerRef, EndpointName, EndpointRef, NetworkName, NetworkRef,
    NodeName, TenantName,
};

/// Everything weft keeps.
pub const ROOT: &str = "/weft/v1/";

/// A key that weft knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each variant is one line of the key layout")]
pub enum Key {
    Cluster,
    NodeSpec(NodeName),
    NodeAlive(NodeName),
    Tenant(TenantName),
    Network(NetworkRef),
    Subnet(NetworkRef, IpNet),
    Endpoint(EndpointRef),
    Address(NetworkRef, IpAddr),
    Container(ContainerRef),
    ContainerStatus(ContainerRef),
    Chain(TenantName, ChainName),
    ChainVersion(TenantName, ChainName, u64),
    ChainReady(TenantName, ChainName, u64, NodeName),
    /// Version, hop, container.
    ChainInstance(TenantName, ChainName, u64, String, ContainerName),
    Vni(Vni),
    Steer(u32),
    /// That a container is to be on a node: what nodes watch to learn of their containers. Its value says nothing.
    Placed(NodeName, ContainerRef),
}

impl Key {
    /// The key as it stands in the store.
    pub fn path(&self) -> String {
        let rest = match self {
            Key::Cluster => "cluster".to_owned(),
            Key::NodeSpec(n) => format!("nodes/{n}/spec"),
            Key::NodeAlive(n) => format!("nodes/{n}/alive"),
            Key::Tenant(t) => format!("tenants/{t}/spec"),
            Key::Network(r) => format!("tenants/{}/networks/{}/spec", r.tenant, r.network),
            Key::Subnet(r, net) => format!(
                "tenants/{}/networks/{}/subnets/{}-{}",
                r.tenant,
                r.network,
                net.network(),
                net.prefix_len()
            ),
            Key::Endpoint(e) => {
                format!(
                    "tenants/{}/networks/{}/endpoints/{}",
                    e.tenant, e.network, e.endpoint
                )
            }
            Key::Address(r, a) => {
                format!("tenants/{}/networks/{}/addresses/{a}", r.tenant, r.network)
            }
            Key::Container(c) => format!("tenants/{}/containers/{}/spec", c.tenant, c.container),
            Key::ContainerStatus(c) => {
                format!("tenants/{}/containers/{}/status", c.tenant, c.container)
            }
            Key::Chain(t, c) => format!("tenants/{t}/chains/{c}/spec"),
            Key::ChainVersion(t, c, v) => format!("tenants/{t}/chains/{c}/versions/{v:010}"),
            Key::ChainReady(t, c, v, n) => {
                format!("tenants/{t}/chains/{c}/versions/{v:010}/ready/{n}")
            }
            Key::ChainInstance(t, c, v, hop, i) => {
                format!("tenants/{t}/chains/{c}/versions/{v:010}/instances/{hop}/{i}")
            }
            Key::Vni(v) => format!("vnis/{v}"),
            Key::Steer(s) => format!("steer/{s}"),
            Key::Placed(n, c) => format!("placed/{n}/{}/{}", c.tenant, c.container),
        };
        format!("{ROOT}{rest}")
    }

    /// The key that stands at `path`; `None` for what weft does not know (kept, never touched).
    pub fn parse(path: &str) -> Option<Key> {
        let parts: Vec<&str> = path.strip_prefix(ROOT)?.split('/').collect();
        Some(match parts.as_slice() {
            ["cluster"] => Key::Cluster,
            ["nodes", n, "spec"] => Key::NodeSpec(n.parse().ok()?),
            ["nodes", n, "alive"] => Key::NodeAlive(n.parse().ok()?),
            ["tenants", t, "spec"] => Key::Tenant(t.parse().ok()?),
            ["tenants", t, "networks", n, rest @ ..] => {
                let tenant: TenantName = t.parse().ok()?;
                let network: NetworkName = n.parse().ok()?;
                let reference = NetworkRef {
                    tenant: tenant.clone(),
                    network: network.clone(),
                };
                match rest {
                    ["spec"] => Key::Network(reference),
                    ["subnets", s] => {
                        let (address, len) = s.rsplit_once('-')?;
                        Key::Subnet(reference, format!("{address}/{len}").parse().ok()?)
                    }
                    ["endpoints", e] => {
                        let endpoint: EndpointName = e.parse().ok()?;
                        Key::Endpoint(EndpointRef {
                            tenant,
                            network,
                            endpoint,
                        })
                    }
                    ["addresses", a] => Key::Address(reference, a.parse().ok()?),
                    _ => return None,
                }
            }
            ["tenants", t, "containers", c, last] => {
                let reference = ContainerRef {
                    tenant: t.parse().ok()?,
                    container: c.parse().ok()?,
                };
                match *last {
                    "spec" => Key::Container(reference),
                    "status" => Key::ContainerStatus(reference),
                    _ => return None,
                }
            }
            ["tenants", t, "chains", c, rest @ ..] => {
                let tenant: TenantName = t.parse().ok()?;
                let chain: ChainName = c.parse().ok()?;
                match rest {
                    ["spec"] => Key::Chain(tenant, chain),
                    ["versions", v] => Key::ChainVersion(tenant, chain, v.parse().ok()?),
                    ["versions", v, "ready", n] => {
                        Key::ChainReady(tenant, chain, v.parse().ok()?, n.parse().ok()?)
                    }
                    ["versions", v, "instances", hop, i] => Key::ChainInstance(
                        tenant,
                        chain,
                        v.parse().ok()?,
                        (*hop).to_owned(),
                        i.parse().ok()?,
                    ),
                    _ => return None,
                }
            }
            ["vnis", v] => Key::Vni(Vni::new(v.parse().ok()?)?),
            ["steer", s] => Key::Steer(s.parse().ok()?),
            ["placed", n, t, c] => {
                let container = ContainerRef {
                    tenant: t.parse().ok()?,
                    container: c.parse().ok()?,
                };
                Key::Placed(n.parse().ok()?, container)
            }
            _ => return None,
        })
    }
}

/// Prefix of everything of a tenant.
pub fn tenant_prefix(tenant: &TenantName) -> String {
    format!("{ROOT}tenants/{tenant}/")
}

/// Prefix of everything of a tenant's containers.
pub fn container_prefix(tenant: &TenantName) -> String {
    format!("{ROOT}tenants/{tenant}/containers/")
}

/// Prefix of everything of a container.
pub fn prefix_of(container: &ContainerRef) -> String {
    format!(
        "{}{}/",
        container_prefix(&container.tenant),
        container.container
    )
}

/// Prefix of all nodes.
pub fn nodes_prefix() -> String {
    format!("{ROOT}nodes/")
}

/// Prefix of what is placed on a node.
pub fn placed_prefix(node: &NodeName) -> String {
    format!("{ROOT}placed/{node}/")
}

/// Prefix of everything of a tenant's chains.
pub fn chains_prefix(tenant: &TenantName) -> String {
    format!("{ROOT}tenants/{tenant}/chains/")
}

/// Prefix of the endpoints of a network.
pub fn endpoint_prefix(network: &NetworkRef) -> String {
    format!("{}endpoints/", network_prefix(network))
}

/// Prefix of everything of a network.
pub fn network_prefix(network: &NetworkRef) -> String {
    format!(
        "{ROOT}tenants/{}/networks/{}/",
        network.tenant, network.network
    )
}
