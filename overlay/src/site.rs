//! What a person writes: the `[[network]]` and `[[container]]` tables of a site or lab file, and the
//! same things as the command line and the API carry them. Unknown keys are errors.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::documents::{Copying, DatapathKind, Egress, Labels, Resources, Restart};
use crate::ids::Vni;
use crate::names::{ContainerRef, InterfaceName, NetworkRef, NodeName};
use crate::publish::Publish;

/// What is asked of a tenant; what is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Labels that it gets; an empty value takes one away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// How many networks it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_networks: Option<Limit>,
    /// How many endpoints its containers may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_endpoints: Option<Limit>,
}

/// How many of something there may be: a number, or `none` for as many as one likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// No more than these.
    AtMost(u32),
    /// Any number.
    None,
}

impl Limit {
    /// The number, if there is one.
    pub fn number(self) -> Option<u32> {
        match self {
            Limit::AtMost(number) => Some(number),
            Limit::None => None,
        }
    }
}

impl std::str::FromStr for Limit {
    type Err = String;
    fn from_str(text: &str) -> Result<Limit, String> {
        match text {
            "none" => Ok(Limit::None),
            _ => {
                let number = text.parse().map(Limit::AtMost);
                number.map_err(|_| format!("{text:?} is neither a number nor `none`"))
            }
        }
    }
}

/// A `[[network]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// `tenant/network`; the tenant is made with it.
    pub name: NetworkRef,
    /// IPv4 range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Ipv4Net>,
    /// IPv6 range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr6: Option<Ipv6Net>,
    /// Prefix length of the IPv4 subnets that nodes lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_len: Option<u8>,
    /// Prefix length of the IPv6 subnets that nodes lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_len6: Option<u8>,
    /// A chosen VNI instead of the lowest free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// MTU of its interfaces, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Which datapath carries it.
    #[serde(default)]
    pub datapath: DatapathKind,
    /// What its endpoints may reach outside.
    #[serde(default)]
    pub egress: Egress,
    /// The priority (differentiated services) between packet and tunnel.
    #[serde(default, skip_serializing_if = "Copying::is_usual")]
    pub dscp: Copying,
    /// The time to live between packet and tunnel.
    #[serde(default, skip_serializing_if = "Copying::is_usual")]
    pub ttl: Copying,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

/// One entry of a container's `networks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attachment {
    /// `"red/front"`
    Name(NetworkRef),
    /// `{ network = "red/front", address = "10.10.0.7" }`
    Full(AttachmentTable),
}

/// The long form of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentTable {
    /// The network.
    pub network: NetworkRef,
    /// A fixed address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The interface's name inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceName>,
    /// An interface of a hop: no addresses, only steered frames.
    #[serde(default)]
    pub hop: bool,
}

/// A `[[container]]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// `tenant/name`
    pub name: ContainerRef,
    /// Its interfaces, in order.
    #[serde(default)]
    pub networks: Vec<Attachment>,
    /// Where it runs; any node without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// `host`, `oci:DIR`, `archive:FILE`, `docker-archive:FILE` or a registry reference; or, for somebody else's
    /// namespace or virtual machine, `netns:PATH` or `tap:DEVICE`.
    #[serde(default = "host")]
    pub image: String,
    /// What it runs; nothing of somebody else's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Capabilities it keeps, without `CAP_`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Limits.
    #[serde(default)]
    pub resources: Resources,
    /// Ports that its node offers to the outside: `"8080:tcp/80"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// When it is started again.
    #[serde(default)]
    pub restart: Restart,
}

fn host() -> String {
    "host".to_owned()
}
