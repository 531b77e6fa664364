//! What a chain says: which flows, through which hops. No places in a file, no instances, no health:
//! a version of a chain is this and nothing else.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_overlay::{ChainName, EndpointName, InterfaceName, NetworkName, NetworkRef, TenantName};

use crate::traffic::Traffic;

/// A chain's whole policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its head.
    pub chain: Chain,
    /// Which flows: any of these, the first that fits.
    pub matches: Vec<Match>,
    /// Through what, in order.
    pub hops: Vec<Hop>,
}

impl Policy {
    /// The network that the chain is in: that of its first selector. The verifier refuses others.
    pub fn network(&self) -> Option<NetworkRef> {
        let first = self.matches.first()?;
        let network = first
            .from
            .network
            .clone()
            .or_else(|| first.to.network.clone())?;
        Some(NetworkRef {
            tenant: self.chain.tenant.clone(),
            network,
        })
    }
}

/// The `[chain]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Its name in the tenant.
    pub name: ChainName,
    /// Whose it is.
    pub tenant: TenantName,
    /// Return traffic takes the same instances, in reverse.
    pub symmetric: bool,
}

/// A `[[match]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Who opens the flow.
    pub from: Selector,
    /// To whom.
    pub to: Selector,
    /// What of it.
    pub traffic: Vec<Traffic>,
}

/// One end of a match: of a network, or outside of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// The network; none only with [`Select::External`].
    pub network: Option<NetworkName>,
    /// Which of its addresses.
    pub select: Select,
}

/// Which addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Select {
    /// Of endpoints that carry all of these labels; none: of every endpoint.
    Labels(BTreeMap<String, String>),
    /// Of this range, whoever has them.
    Cidr(IpNet),
    /// Of this endpoint.
    Endpoint(EndpointName),
    /// Outside of all networks.
    External,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.network.as_ref().map_or("", |n| n.as_str());
        match &self.select {
            Select::Labels(labels) if labels.is_empty() => write!(f, "every endpoint of {network}"),
            Select::Labels(labels) => {
                let all: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "{network} {}", all.join(","))
            }
            Select::Cidr(net) => write!(f, "{network} {net}"),
            Select::Endpoint(name) => write!(f, "{network}/{name}"),
            Select::External => f.write_str("external"),
        }
    }
}

/// How a hop sits in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In one interface, out the other; Ethernet is passed as it is.
    Inline,
    /// Two-armed, routing.
    Routed,
    /// Gets a copy.
    Tap,
}

impl Mode {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Routed => "routed",
            Self::Tap => "tap",
        }
    }
    /// Interfaces that a hop of this mode names.
    pub fn arms(self) -> usize {
        match self {
            Self::Inline | Self::Routed => 2,
            Self::Tap => 1,
        }
    }
}

/// What happens to packets when no instance of a hop lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They are dropped.
    #[default]
    Drop,
    /// They pass the hop by.
    Bypass,
}

/// How it is found out whether an instance serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A TCP connection to this port of the instance.
    Tcp(u16),
    /// A command in the instance that ends with 0.
    Exec(Vec<String>),
    /// An HTTP request to this `[:port]/path` that is answered with 2xx.
    Http(String),
    /// A packet sent through the hop.
    Path,
}

/// A hop's `health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// How it is probed.
    pub probe: Probe,
    /// How often, milliseconds.
    pub interval_ms: u64,
    /// Failures in a row before an instance counts as failed.
    pub failures: u32,
}

/// A `[[hop]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// Its name in the chain.
    pub name: String,
    /// Labels of the containers that serve it.
    pub select: BTreeMap<String, String>,
    /// How it sits in the path.
    pub mode: Mode,
    /// The containers' interfaces: first and second, or the one that gets copies.
    pub interfaces: Vec<InterfaceName>,
    /// When no instance lives.
    pub on_failure: OnFailure,
    /// How instances are probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl Hop {
    /// Whether a container with these labels serves the hop.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        has_all(labels, &self.select)
    }
}

/// Whether `labels` has every one of `wanted`.
pub fn has_all(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}
