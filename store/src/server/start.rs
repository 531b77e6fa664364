//! How a member starts: check, lock, open, join, listen, then its tasks; each step undone by dropping the ones before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use openraft::SnapshotPolicy;
use rand::Rng;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server as Transport;

use super::admission::Admission;
use super::identity::{self, Phase, Record, data};
use super::node::Node;
use super::snapshots::Policy;
use super::standing::Standing;
use super::{Config, Error, Server, tasks};
use crate::api;
use crate::lease::Deadlines;
use crate::mvcc::Mvcc;
use crate::proto::weftpeer::peer_server::PeerServer;
use crate::raft::log_store::LogStore;
use crate::raft::network::{MAX_MESSAGE, Peers};
use crate::raft::peer_service::PeerService;
use crate::raft::snapshot::SnapshotDir;
use crate::raft::state_machine::StateMachine;
use crate::raft::types;

/// FNV-1a: stable, and enough to tell members and clusters apart.
fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|p| p.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash.max(1)
}

/// Id of a member: from its name and peer URL, so that all members compute the same.
fn member_id(name: &str, url: &str) -> u64 {
    hash(&["member", name, url])
}

fn cluster_id(members: &[(String, String)]) -> u64 {
    let mut sorted: Vec<&(String, String)> = members.iter().collect();
    sorted.sort();
    let parts: Vec<&str> = sorted
        .iter()
        .flat_map(|(n, u)| [n.as_str(), u.as_str()])
        .collect();
    hash(&parts)
}

fn check(config: &Config) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::Config(text));
    let Some((_, url)) = config
        .initial_cluster
        .iter()
        .find(|(n, _)| *n == config.name)
    else {
        return refuse(format!(
            "member `{}` is not in its own initial cluster; add `{}={}`",
            config.name, config.name, config.advertise_peer
        ));
    };
    if *url != config.advertise_peer {
        return refuse(format!(
            "member `{}` advertises {} to its peers, but the initial cluster says {url}; make them equal",
            config.name, config.advertise_peer
        ));
    }
    if config.heartbeat * 2 > config.election_min || config.election_min >= config.election_max {
        return refuse(
            "timing: twice the heartbeat must fit into the shortest election time, and that be below the longest".to_owned(),
        );
    }
    if config.listen_client.is_empty() {
        return refuse("no address to serve clients at".to_owned());
    }
    Ok(())
}

fn raft_config(config: &Config, votes: bool) -> Result<openraft::Config, Error> {
    let millis = |d: std::time::Duration| d.as_millis() as u64;
    let raft = openraft::Config {
        cluster_name: "weft-store".to_owned(),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(config.election_min),
        election_timeout_max: millis(config.election_max),
        // A snapshot travels in one call: a minute for what a small disk and network carry.
        install_snapshot_timeout: 60_000,
        // By bytes instead: `snapshots` triggers them.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: config.keep_entries,
        enable_pre_vote: Some(true),
        enable_elect: votes,
        ..Default::default()
    };
    raft.validate().map_err(|e| Error::Config(e.to_string()))
}

async fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen {
            address,
            what,
            source,
        })
}

/// What the folder says, or what a new one shall.
fn identify(config: &Config) -> Result<Record, Error> {
    let fresh = Record {
        format: 1,
        name: config.name.clone(),
        id: member_id(&config.name, &config.advertise_peer),
        cluster_id: cluster_id(&config.initial_cluster),
        incarnation: rand::rng().random_range(1..=u64::MAX),
        phase: Phase::New,
        founders: BTreeMap::new(),
    };
    identity::read(&config.data_dir, fresh)
}

/// Settles the phase in which the member starts, on disk before anybody is told the incarnation.
fn settle(config: &Config, mut record: Record, log: &LogStore) -> Result<Record, Error> {
    let dir = &config.data_dir;
    let phase = identity::phase_at_start(record.phase, log.used(), config.initial_cluster_state);
    record.phase = phase.map_err(|_| Error::Emptied {
        name: config.name.clone(),
        path: dir.clone(),
        detail: "the folder says that this is a member, but its log is gone".to_owned(),
    })?;
    identity::write(dir, &record).map_err(data(dir, "note whose it is"))?;
    Ok(record)
}

pub(super) async fn start(config: Config) -> Result<Server, Error> {
    check(&config)?;
    let dir = config.data_dir.clone();
    identity::make(&dir)?;
    let lock = identity::lock(&dir)?;
    let record = identify(&config)?;
    // Addresses first: a member that cannot be reached must not vote.
    let mut client_listeners = Vec::new();
    for address in &config.listen_client {
        client_listeners.push(listen(*address, "clients").await?);
    }
    let peer_listener = listen(config.listen_peer, "peers").await?;

    let snapshots = SnapshotDir::open(&dir.join("snapshots"))
        .map_err(data(&dir.join("snapshots"), "open the snapshots"))?;
    let log = LogStore::open(&dir.join("wal"), config.segment_bytes)?;
    let record = settle(&config, record, &log)?;
    let (id, cluster_id) = (record.id, record.cluster_id);
    let state = dir.join("state");
    let mvcc = Mvcc::open(&state, config.cache_bytes).map_err(data(&state, "open the state"))?;
    let mvcc = Arc::new(mvcc);
    let deadlines = Arc::new(Deadlines::default());
    let machine = StateMachine::new(mvcc.clone(), deadlines.clone(), snapshots.clone());
    let peers = Peers::default();
    let raft_config = Arc::new(raft_config(&config, record.phase == Phase::Member)?);
    let raft = types::Raft::new(id, raft_config, peers.clone(), log.clone(), machine)
        .await
        .map_err(|e| Error::Raft {
            name: config.name.clone(),
            doing: "start",
            detail: e.to_string(),
        })?;
    let members: BTreeMap<u64, types::Node> = founding(&config);
    let node = Arc::new(Node::new(
        cluster_id,
        config,
        raft,
        mvcc,
        deadlines,
        peers,
        Standing::new(dir, record),
    ));
    let admission = Admission {
        node: node.clone(),
        log: log.clone(),
        members,
    };
    let policy = Policy::new(node.clone(), log, snapshots.clone());
    let mut server = serve(node, lock, snapshots, client_listeners, peer_listener);
    let stopping = server.stop.subscribe();
    server.tasks.push(tokio::spawn(policy.run(stopping)));
    match admit(&mut server, admission).await {
        Ok(()) => Ok(server),
        Err(refused) => {
            server.shutdown().await?;
            Err(refused)
        }
    }
}

/// Lets the member take part, or says why it cannot. Waits for one round only: others may start later than this one.
async fn admit(server: &mut Server, admission: Admission) -> Result<(), Error> {
    if server.node.standing.open() {
        return Ok(());
    }
    let (first, asked) = oneshot::channel();
    let stopping = server.stop.subscribe();
    server
        .tasks
        .push(tokio::spawn(admission.run(first, stopping)));
    let _ = asked.await;
    server.refused()
}

fn founding(config: &Config) -> BTreeMap<u64, types::Node> {
    let members = config.initial_cluster.iter().map(|(name, url)| {
        let node = types::Node {
            name: name.clone(),
            peer_url: url.clone(),
        };
        (member_id(name, url), node)
    });
    members.collect()
}

fn serve(
    node: Arc<Node>,
    lock: File,
    snapshots: SnapshotDir,
    client_listeners: Vec<TcpListener>,
    peer_listener: TcpListener,
) -> Server {
    let (stop, stopping) = watch::channel(false);
    let mut running = Vec::new();
    let peer = PeerServer::new(PeerService {
        node: node.clone(),
        snapshots,
    })
    .max_decoding_message_size(MAX_MESSAGE)
    .max_encoding_message_size(MAX_MESSAGE);
    let router = Transport::builder().tcp_nodelay(true).add_service(peer);
    running.push(tokio::spawn(ended(
        router.serve_with_incoming_shutdown(incoming(peer_listener), told(stopping.clone())),
        "peers",
    )));
    let mut client_addresses = Vec::new();
    for listener in client_listeners {
        client_addresses.extend(listener.local_addr());
        let router = api::router(&node, stopping.clone());
        running.push(tokio::spawn(ended(
            router.serve_with_incoming_shutdown(incoming(listener), told(stopping.clone())),
            "clients",
        )));
    }
    running.push(tokio::spawn(tasks::publish(node.clone())));
    running.push(tokio::spawn(tasks::expire(node.clone())));
    Server {
        node,
        client_addresses,
        stop,
        tasks: running,
        _lock: lock,
    }
}

/// Connections without Nagle's delay: answers are small and awaited.
fn incoming(
    listener: TcpListener,
) -> impl futures::Stream<Item = io::Result<tokio::net::TcpStream>> {
    use futures::StreamExt;
    TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

async fn told(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn ended(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    what: &'static str,
) {
    if let Err(error) = serving.await {
        tracing::error!(what, %error, "serving ended");
    }
}
