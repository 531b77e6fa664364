//! `weft store`: the replicated store on its own, with etcd's flags.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use weft_agent::store::client::Client;
use weft_agent::store::server::{Config, InitialClusterState, Server, parse_initial_cluster};

use crate::connect::block_on;
use crate::fail::{Done, Failure};
use crate::output;

/// `weft store ...`
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Run a member.
    Run(Box<Run>),
    /// How the members are.
    Status {
        /// Members' client URLs.
        #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
        endpoints: Vec<String>,
    },
}

/// `weft store run`, as etcd has it.
#[derive(Debug, Args)]
pub struct Run {
    /// This member's name.
    #[arg(long, default_value = "default")]
    name: String,
    /// Folder of log, snapshots and state; NAME.weft without it.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where clients are served.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    listen_client_urls: Vec<String>,
    /// What clients are told; the listening URLs without it.
    #[arg(long, value_delimiter = ',')]
    advertise_client_urls: Vec<String>,
    /// Where other members are served.
    #[arg(long, default_value = "http://127.0.0.1:2380")]
    listen_peer_urls: String,
    /// What other members are told; the listening URL without it.
    #[arg(long)]
    initial_advertise_peer_urls: Option<String>,
    /// Founding members, NAME=URL,...; this one alone without it.
    #[arg(long)]
    initial_cluster: Option<String>,
    /// `new`: found a cluster together with all of --initial-cluster, or go on as its member. `existing`: the data of this
    /// member is lost and its folder empty; fill it from the others, all of which must be up, before it votes again.
    #[arg(long, value_enum, default_value = "new")]
    initial_cluster_state: State,
}

/// As etcd's flag of that name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum State {
    New,
    Existing,
}

impl From<State> for InitialClusterState {
    fn from(state: State) -> Self {
        match state {
            State::New => Self::New,
            State::Existing => Self::Existing,
        }
    }
}

/// Runs it.
pub fn run(json: bool, store: Store) -> Done {
    match store {
        Store::Run(run) => {
            let config = config(*run)?;
            tracing_subscriber::fmt()
                // A log is read as a file; colours are for a person who looks on.
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .with_writer(std::io::stderr)
                .with_env_filter(
                    tracing_subscriber::EnvFilter::try_from_env("WEFT_LOG")
                        .unwrap_or_else(|_| "info,openraft=warn,sled=warn".into()),
                )
                .init();
            block_on(serve(config))
        }
        Store::Status { endpoints } => block_on(status(json, endpoints)),
    }
}

async fn serve(config: Config) -> Done {
    let subject = format!("store member {}", config.name);
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            format!("{subject}: {error}"),
            "see the message above; the data is untouched",
        )
    };
    let server = Server::start(config).await.map_err(|e| failed(&e))?;
    let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let mut terminate = signals.map_err(|e| failed(&e))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    server.shutdown().await.map_err(|e| failed(&e))?;
    Ok(0)
}

async fn status(json: bool, endpoints: Vec<String>) -> Done {
    let client = Client::connect(endpoints.clone()).map_err(|e| {
        Failure::usage(
            format!("--endpoints: {e}"),
            "write it as http://HOST:PORT,...",
        )
    })?;
    let mut rows = Vec::new();
    let mut silent = Vec::new();
    for endpoint in endpoints {
        match client.status(&endpoint).await {
            Ok(s) if json => println!(
                "{}",
                json!({
                    "endpoint": endpoint, "leader": s.leader, "version": s.version,
                    "term": s.term, "log_index": s.log_index, "applied_index": s.applied_index,
                    "revision": s.revision, "db_size": s.db_size,
                })
            ),
            Ok(s) => rows.push([
                endpoint,
                format!("{:x}", s.leader),
                s.version,
                s.term.to_string(),
                s.log_index.to_string(),
                s.revision.to_string(),
            ]),
            Err(error) => {
                silent.push(format!("store {endpoint}: {error}"));
            }
        }
    }
    if !rows.is_empty() {
        output::table(
            ["ENDPOINT", "LEADER", "VERSION", "TERM", "INDEX", "REVISION"],
            rows,
        );
    }
    match silent.is_empty() {
        true => Ok(0),
        false => Err(Failure {
            code: 5,
            ..Failure::new(
                silent.join("\n"),
                "check that the member runs and that its client URL is right; others may still have a majority",
            )
        }),
    }
}

fn address(flag: &str, url: &str) -> Result<SocketAddr, Failure> {
    let bad = || {
        Failure::usage(
            format!("--{flag}: {url:?} is not an address to listen at"),
            "write it as http://HOST:PORT",
        )
    };
    let host = url
        .strip_prefix("http://")
        .ok_or_else(bad)?
        .trim_end_matches('/');
    host.to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(bad)
}

fn config(run: Run) -> Result<Config, Failure> {
    let data_dir = run
        .data_dir
        .unwrap_or_else(|| PathBuf::from(format!("{}.weft", run.name)));
    let peer = run
        .initial_advertise_peer_urls
        .unwrap_or_else(|| run.listen_peer_urls.clone());
    let peer = peer.trim_end_matches('/').to_owned();
    let initial_cluster = match &run.initial_cluster {
        Some(text) => parse_initial_cluster(text).map_err(|e| {
            Failure::usage(
                format!("--initial-cluster: {e}"),
                "write it as NAME=http://HOST:PORT,...",
            )
        })?,
        None => vec![(run.name.clone(), peer.clone())],
    };
    if !initial_cluster.iter().any(|(name, _)| *name == run.name) {
        return Err(Failure::usage(
            format!(
                "store member {}: --initial-cluster does not name it",
                run.name
            ),
            "give --name one of its names, or add this member",
        ));
    }
    let mut listen_client = Vec::new();
    for url in &run.listen_client_urls {
        listen_client.push(address("listen-client-urls", url)?);
    }
    Ok(Config {
        listen_client,
        advertise_client: match run.advertise_client_urls.is_empty() {
            true => run.listen_client_urls,
            false => run.advertise_client_urls,
        },
        listen_peer: address("listen-peer-urls", &run.listen_peer_urls)?,
        advertise_peer: peer,
        initial_cluster,
        initial_cluster_state: run.initial_cluster_state.into(),
        ..Config::new(run.name, data_dir)
    })
}
