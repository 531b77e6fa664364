//! `weft node`: run one, list them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use weft_agent::node::{self, NodeConfig, StoreConfig};
use weft_agent::overlay::NodeName;
use weft_agent::store::server::parse_initial_cluster;

use super::store::State;
use super::{doctor, status};
use crate::connect::{block_on, with_agent};
use crate::fail::{Done, Failure};

/// `weft node ...`
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Run this machine's node: store member, agent, API.
    Run(Box<Run>),
    /// List the nodes of the cluster.
    Ls,
    /// How the node and its cluster are.
    Status,
}

/// `weft node run`
#[derive(Debug, Args)]
pub struct Run {
    /// The node's name; the host name without it.
    #[arg(long)]
    name: Option<NodeName>,
    /// Its address on the underlay.
    #[arg(long)]
    advertise: IpAddr,
    /// The underlay's interfaces, separated by commas: the smallest of their MTUs counts.
    #[arg(long, required = true, value_delimiter = ',')]
    underlay: Vec<String>,
    /// What survives a reboot.
    #[arg(long, default_value = "/var/lib/weft")]
    state_dir: PathBuf,
    /// Sockets and the containers' run state.
    #[arg(long, default_value = "/run/weft")]
    run_dir: PathBuf,
    /// Pins of the datapath; /sys/fs/bpf/weft/NAME without it.
    #[arg(long)]
    bpf_dir: Option<PathBuf>,
    /// Parent of the containers' cgroups; weft/NAME without it.
    #[arg(long)]
    cgroup_parent: Option<String>,
    /// Founding members of the store, NAME=http://HOST:PORT,...; this node alone without it.
    #[arg(long, default_value = "", conflicts_with = "store_endpoints")]
    initial_cluster: String,
    /// `new`: found a cluster together with all of --initial-cluster, or go on as its member. `existing`: the store's data
    /// of this node is lost; fill it from the others, all of which must be up, before it votes again.
    #[arg(
        long,
        value_enum,
        default_value = "new",
        conflicts_with = "store_endpoints"
    )]
    initial_cluster_state: State,
    /// Use a store (weft's or etcd's) that runs elsewhere: http://HOST:PORT,...
    #[arg(long, value_delimiter = ',')]
    store_endpoints: Vec<String>,
    /// TCP port of the store for clients.
    #[arg(long, default_value_t = 2379)]
    client_port: u16,
    /// TCP port of the store for its members.
    #[arg(long, default_value_t = 2380)]
    peer_port: u16,
    /// TCP port of the API for other agents.
    #[arg(long, default_value_t = 7946)]
    api_port: u16,
    /// UDP port of VXLAN.
    #[arg(long, default_value_t = 4789)]
    vxlan_port: u16,
    /// How long the node counts as alive without a keep-alive.
    #[arg(long, default_value = "10s", value_parser = duration)]
    lease_ttl: Duration,
    /// How long subnets of a node that is gone are kept for it.
    #[arg(long, default_value = "24h", value_parser = duration)]
    hold: Duration,
}

/// `250ms`, `10s`, `5m`, `24h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "write it as 250ms, 10s, 5m or 24h".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let unit_ms: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(bad)
}

/// Runs it.
pub fn run(host: &str, json: bool, node: Node) -> Done {
    match node {
        Node::Run(run) => {
            let config = config(*run)?;
            doctor::require(&format!("node {}", config.name))?;
            tracing_subscriber::fmt()
                // A log is read as a file; colours are for a person who looks on.
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .with_writer(std::io::stderr)
                .with_env_filter(
                    tracing_subscriber::EnvFilter::try_from_env("WEFT_LOG")
                        .unwrap_or_else(|_| "info,openraft=warn,sled=warn".into()),
                )
                .init();
            block_on(async { Ok(node::run(config).await.map(|()| 0)?) })
        }
        Node::Ls => with_agent(host, async |mut agent| {
            status::nodes(json, &agent.status().await?.nodes);
            Ok(0)
        }),
        Node::Status => status::run(host, json),
    }
}

fn config(run: Run) -> Result<NodeConfig, Failure> {
    let name = match run.name {
        Some(name) => name,
        None => host_name()?,
    };
    let store = if run.store_endpoints.is_empty() {
        let initial_cluster = match run.initial_cluster.as_str() {
            "" => Vec::new(),
            text => parse_initial_cluster(text).map_err(|e| {
                Failure::usage(
                    format!("--initial-cluster: {e}"),
                    "write it as n1=http://192.0.2.11:2380,n2=http://192.0.2.12:2380",
                )
            })?,
        };
        StoreConfig::Embedded {
            initial_cluster,
            initial_cluster_state: run.initial_cluster_state.into(),
            client_port: run.client_port,
            peer_port: run.peer_port,
        }
    } else {
        StoreConfig::External {
            endpoints: run.store_endpoints,
        }
    };
    Ok(NodeConfig {
        bpf_dir: run
            .bpf_dir
            .unwrap_or_else(|| PathBuf::from("/sys/fs/bpf/weft").join(name.as_str())),
        cgroup_parent: run.cgroup_parent.unwrap_or_else(|| format!("weft/{name}")),
        name,
        advertise: run.advertise,
        underlay: run.underlay,
        state_dir: run.state_dir,
        run_dir: run.run_dir,
        store,
        lease_ttl: run.lease_ttl,
        api_port: run.api_port,
        vxlan_port: run.vxlan_port,
        hold: run.hold,
    })
}

fn host_name() -> Result<NodeName, Failure> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = text
        .trim()
        .split('.')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    short
        .parse()
        .map_err(|e| Failure::usage(format!("node: {e}"), "name it with --name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "5", "s", "5d", "-1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
