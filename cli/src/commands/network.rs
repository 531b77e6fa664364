//! `weft network` and `weft endpoint`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use weft_agent::overlay::documents::{Copying, DatapathKind, Egress};
use weft_agent::overlay::{EndpointRef, NetworkRef, Vni, site};
use weft_agent::proto::{Object, RemoveRequest};

use super::apply::{print_changes, print_removed};
use super::container::label;
use crate::connect::with_agent;
use crate::fail::{Done, Failure};
use crate::output;

mod attach;

/// `weft network ...`
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Make a network, and its tenant if it is new.
    Create(Create),
    /// List networks.
    Ls {
        /// Only this tenant's.
        #[arg(value_parser = super::named::tenant)]
        tenant: Option<String>,
    },
    /// Everything known of a network: its document, the subnets that nodes lease, its endpoints.
    Show {
        /// TENANT/NETWORK
        name: NetworkRef,
    },
    /// Remove a network that has no endpoints any more.
    Rm {
        /// TENANT/NETWORK
        name: NetworkRef,
        /// Remove the containers that use it, too, and say which.
        #[arg(long)]
        force: bool,
    },
}

/// `weft network create`
#[derive(Debug, Args)]
pub struct Create {
    /// TENANT/NETWORK
    name: NetworkRef,
    /// Address range, e.g. 10.10.0.0/16 or fd00:10::/48; give it twice for both families.
    #[arg(long, required = true)]
    cidr: Vec<String>,
    /// Prefix length of the IPv4 subnets that nodes lease.
    #[arg(long)]
    subnet_len: Option<u8>,
    /// Prefix length of the IPv6 subnets that nodes lease.
    #[arg(long)]
    subnet_len6: Option<u8>,
    /// A chosen VXLAN network identifier instead of a free one.
    #[arg(long)]
    vni: Option<u32>,
    /// MTU of its interfaces, bytes.
    #[arg(long)]
    mtu: Option<u16>,
    /// What its endpoints may reach outside.
    #[arg(long, value_enum, default_value = "none")]
    egress: EgressArg,
    /// The priority (DSCP) of packet and tunnel: each its own, or one (RFC 2983).
    #[arg(long, value_enum, default_value = "pipe")]
    dscp: CopyingArg,
    /// The time to live of packet and tunnel: each its own, or one (RFC 3443).
    #[arg(long, value_enum, default_value = "pipe")]
    ttl: CopyingArg,
    /// KEY=VALUE; may be repeated.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EgressArg {
    None,
    Nat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CopyingArg {
    Pipe,
    Uniform,
}

impl From<CopyingArg> for Copying {
    fn from(said: CopyingArg) -> Copying {
        match said {
            CopyingArg::Pipe => Copying::Pipe,
            CopyingArg::Uniform => Copying::Uniform,
        }
    }
}

/// `weft endpoint ...`
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// List endpoints.
    Ls {
        /// Only this tenant's.
        #[arg(value_parser = super::named::tenant)]
        tenant: Option<String>,
    },
    /// Everything known of an endpoint.
    Show {
        /// TENANT/NETWORK/NAME
        name: EndpointRef,
    },
    /// Join a network namespace that somebody else made, or a virtual machine's tap device, to a network.
    Attach(attach::Attach),
    /// Take such an endpoint away; what it was of goes on.
    Detach {
        /// TENANT/NETWORK/NAME
        name: EndpointRef,
    },
}

/// Runs `weft network`.
pub fn run(host: &str, json: bool, network: Network) -> Done {
    // What is wrong with the arguments is said before anybody is asked.
    let wanted = match &network {
        Network::Create(create) => Some(wanted(create)?),
        _ => None,
    };
    with_agent(host, async |mut agent| {
        match network {
            Network::Create(_) => {
                let objects = wanted.into_iter().collect();
                print_changes(json, &agent.apply(objects, false).await?);
            }
            Network::Ls { tenant } => {
                let list = agent
                    .list("network", tenant.as_deref().unwrap_or(""), "")
                    .await?;
                output::objects(
                    json,
                    &list,
                    [
                        ("NETWORK", "name"),
                        ("VNI", "vni"),
                        ("CIDR", "cidr4"),
                        ("CIDR6", "cidr6"),
                        ("SUBNETS", "subnets"),
                        ("ENDPOINTS", "endpoints"),
                    ],
                );
            }
            Network::Show { name } => {
                let tenant = name.tenant.as_str();
                let list = agent.list("network", "", &name.to_string()).await?;
                list.iter()
                    .for_each(|object| output::document(json, object));
                let prefix = format!("{name}/");
                let within = |list: Vec<Object>| -> Vec<Object> {
                    list.into_iter()
                        .filter(|o| o.name.starts_with(&prefix))
                        .collect()
                };
                let subnets = within(agent.list("subnet", tenant, "").await?);
                let endpoints = within(agent.list("endpoint", tenant, "").await?);
                if !json {
                    println!();
                }
                output::objects(
                    json,
                    &subnets,
                    [
                        ("SUBNET", "subnet"),
                        ("NODE", "node"),
                        ("VTEP", "vtep"),
                        ("MTU", "mtu"),
                        ("MTU OF", "mtu_from"),
                        ("HELD SINCE", "held_since"),
                    ],
                );
                if !json {
                    println!();
                }
                output::objects(json, &endpoints, ENDPOINT_COLUMNS);
            }
            Network::Rm { name, force } => {
                let request = RemoveRequest {
                    kind: "network".into(),
                    name: name.to_string(),
                    force,
                    ..RemoveRequest::default()
                };
                print_removed(json, &agent.remove(request).await?);
            }
        }
        Ok(0)
    })
}

const ENDPOINT_COLUMNS: [(&str, &str); 6] = [
    ("ENDPOINT", "name"),
    ("ADDRESSES", "addresses"),
    ("MAC", "mac"),
    ("NODE", "node"),
    ("INTERFACE", "interface"),
    ("LABELS", "labels"),
];

/// Runs `weft endpoint`.
pub fn endpoint(host: &str, json: bool, endpoint: Endpoint) -> Done {
    with_agent(host, async |mut agent| {
        match endpoint {
            Endpoint::Ls { tenant } => {
                let list = agent
                    .list("endpoint", tenant.as_deref().unwrap_or(""), "")
                    .await?;
                output::objects(json, &list, ENDPOINT_COLUMNS);
            }
            Endpoint::Show { name } => {
                let list = agent.list("endpoint", "", &name.to_string()).await?;
                list.iter()
                    .for_each(|object| output::document(json, object));
            }
            Endpoint::Attach(wanted) => attach::attach(&mut agent, json, wanted).await?,
            Endpoint::Detach { name } => attach::detach(&mut agent, json, &name).await?,
        }
        Ok(0)
    })
}

fn wanted(create: &Create) -> Result<Object, Failure> {
    let name = create.name.to_string();
    let (mut cidr, mut cidr6) = (None, None);
    for text in &create.cidr {
        let twice = || {
            Failure::usage(
                format!("network {name}: {text}: a second range of the same family"),
                "give at most one IPv4 and one IPv6 range",
            )
        };
        if let Ok(net) = text.parse() {
            if cidr.replace(net).is_some() {
                return Err(twice());
            }
        } else if let Ok(net) = text.parse() {
            if cidr6.replace(net).is_some() {
                return Err(twice());
            }
        } else {
            return Err(Failure::usage(
                format!("network {name}: {text:?} is not an address range"),
                "write it as 10.10.0.0/16 or fd00:10::/48",
            ));
        }
    }
    let bad_vni = |e| {
        Failure::usage(
            format!("network {name}: {e}"),
            "leave --vni out for a free one",
        )
    };
    let network = site::Network {
        name: create.name.clone(),
        cidr,
        cidr6,
        subnet_len: create.subnet_len,
        subnet_len6: create.subnet_len6,
        vni: create.vni.map(Vni::try_from).transpose().map_err(bad_vni)?,
        mtu: create.mtu,
        datapath: DatapathKind::default(),
        egress: match create.egress {
            EgressArg::None => Egress::None,
            EgressArg::Nat => Egress::Nat,
        },
        dscp: create.dscp.into(),
        ttl: create.ttl.into(),
        labels: create.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    super::apply::object("network", &name, &network)
}
