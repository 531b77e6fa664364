//! How a member starts: check, lock, open, join, listen, then its tasks; each step undone by dropping the ones before.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use openraft::SnapshotPolicy;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server as Transport;

use super::node::Node;
use super::{Config, Error, InitialClusterState, Server, tasks};
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

/// What a data folder says whose it is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    name: String,
    id: u64,
    cluster_id: u64,
}

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

fn data(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Data {
        path,
        doing,
        source,
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    fs::create_dir_all(dir).map_err(data(dir, "make the folder"))?;
    let path = dir.join("lock");
    let file = File::create(&path).map_err(data(&path, "make the lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(data(&path, "lock")(source)),
    }
}

/// A folder once used by a member serves that member only: with another's log it could vote twice.
fn identify(dir: &Path, identity: &Identity) -> Result<(), Error> {
    let path = dir.join("member.json");
    if let Ok(bytes) = fs::read(&path) {
        let found: Identity = serde_json::from_slice(&bytes)
            .map_err(io::Error::from)
            .map_err(data(&path, "read"))?;
        if found == *identity {
            return Ok(());
        }
        let tell = |i: &Identity| {
            format!(
                "member {} ({:x}) of cluster {:x}",
                i.name, i.id, i.cluster_id
            )
        };
        return Err(Error::Foreign {
            path: dir.to_owned(),
            found: tell(&found),
            wanted: tell(identity),
        });
    }
    let write = || -> io::Result<()> {
        let part = dir.join("member.json.part");
        fs::write(&part, serde_json::to_vec_pretty(identity)?)?;
        File::open(&part)?.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(data(&path, "write"))
}

fn raft_config(config: &Config) -> Result<openraft::Config, Error> {
    let millis = |d: std::time::Duration| d.as_millis() as u64;
    let raft = openraft::Config {
        cluster_name: "weft-store".to_owned(),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(config.election_min),
        election_timeout_max: millis(config.election_max),
        // A snapshot travels in one call: a minute for what a small disk and network carry.
        install_snapshot_timeout: 60_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        max_in_snapshot_log_to_keep: config.keep_entries,
        enable_pre_vote: Some(true),
        // A member whose folder was lost comes back empty and is filled again; without this the leader would give up on it.
        // What only the leader and that member had written is lost if the leader fails before: replace one member at a time.
        allow_log_reversion: Some(true),
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

pub(super) async fn start(config: Config) -> Result<Server, Error> {
    check(&config)?;
    let dir = config.data_dir.clone();
    let lock = lock(&dir)?;
    let id = member_id(&config.name, &config.advertise_peer);
    let cluster_id = cluster_id(&config.initial_cluster);
    let identity = Identity {
        format: 1,
        name: config.name.clone(),
        id,
        cluster_id,
    };
    identify(&dir, &identity)?;
    // Addresses first: a member that cannot be reached must not vote.
    let mut client_listeners = Vec::new();
    for address in &config.listen_client {
        client_listeners.push(listen(*address, "clients").await?);
    }
    let peer_listener = listen(config.listen_peer, "peers").await?;

    let snapshots = SnapshotDir::open(&dir.join("snapshots"))
        .map_err(data(&dir.join("snapshots"), "open the snapshots"))?;
    let log = LogStore::open(&dir.join("wal"), config.segment_bytes)?;
    let state = dir.join("state");
    let mvcc = Mvcc::open(&state, config.cache_bytes).map_err(data(&state, "open the state"))?;
    let mvcc = Arc::new(mvcc);
    let deadlines = Arc::new(Deadlines::default());
    let machine = StateMachine::new(mvcc.clone(), deadlines.clone(), snapshots.clone());
    let peers = Peers::default();
    let raft_error = |doing: &'static str, detail: String| Error::Raft {
        name: config.name.clone(),
        doing,
        detail,
    };
    let raft_config = Arc::new(raft_config(&config)?);
    let raft = types::Raft::new(id, raft_config, peers.clone(), log, machine)
        .await
        .map_err(|e| raft_error("start", e.to_string()))?;
    if config.initial_cluster_state == InitialClusterState::New {
        let members: BTreeMap<u64, types::Node> = founding(&config);
        tasks::found(&raft, &members)
            .await
            .map_err(|e| raft_error("found the cluster", e))?;
    }
    let node = Arc::new(Node::new(
        id, cluster_id, config, raft, mvcc, deadlines, peers,
    ));
    Ok(serve(
        node,
        lock,
        snapshots,
        client_listeners,
        peer_listener,
    ))
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
