//! What a member is told at its start. Owns the defaults; reads no environment and no file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Whether the members of `initial_cluster` found a cluster or join one that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    /// All members of `initial_cluster` start empty and found the cluster together.
    New,
    /// The cluster runs already; this member never founds one.
    Existing,
}

/// Configuration of one store member.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this member; must be one of `initial_cluster`.
    pub name: String,
    /// Folder of log, snapshots and state; made if missing, used by one process at a time.
    pub data_dir: PathBuf,
    /// Where clients are served.
    pub listen_client: Vec<SocketAddr>,
    /// URLs that clients shall use, e.g. `http://192.0.2.1:2379`; shown by `member list`.
    pub advertise_client: Vec<String>,
    /// Where other members are served.
    pub listen_peer: SocketAddr,
    /// URL at which the other members reach this one; equal to its entry in `initial_cluster`.
    pub advertise_peer: String,
    /// Name and peer URL of every founding member, the same on all of them.
    pub initial_cluster: Vec<(String, String)>,
    /// Found a cluster or join one.
    pub initial_cluster_state: InitialClusterState,
    /// How often the leader tells that it lives.
    pub heartbeat: Duration,
    /// Shortest silence of the leader after which a member asks for an election.
    pub election_min: Duration,
    /// Longest such silence; drawn at random between the two.
    pub election_max: Duration,
    /// Bytes of the log after which a snapshot is made, or those of the last snapshot if they are more: so a large state is
    /// not written out again for little change, and a start never replays more than it would load anyway.
    pub snapshot_bytes: u64,
    /// Log entries kept behind a snapshot for members that lag.
    pub keep_entries: u64,
    /// Size in bytes at which a log file is closed and the next begun.
    pub segment_bytes: u64,
    /// Page cache of the state database in bytes (sled's own default, 1 GiB, is far too much).
    pub cache_bytes: u64,
    /// How long a request waits for a leader or a quorum before it fails.
    pub request_timeout: Duration,
}

impl Config {
    /// A single member that serves on loopback; change what differs.
    pub fn new(name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Config {
        let name = name.into();
        let peer = "http://127.0.0.1:2380".to_owned();
        Config {
            initial_cluster: vec![(name.clone(), peer.clone())],
            name,
            data_dir: data_dir.into(),
            listen_client: vec![SocketAddr::from(([127, 0, 0, 1], 2379))],
            advertise_client: vec!["http://127.0.0.1:2379".to_owned()],
            listen_peer: SocketAddr::from(([127, 0, 0, 1], 2380)),
            advertise_peer: peer,
            initial_cluster_state: InitialClusterState::New,
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            snapshot_bytes: 256 << 20,
            keep_entries: 5_000,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            request_timeout: Duration::from_secs(5),
        }
    }
}

/// Reads etcd's `--initial-cluster` form: `n1=http://192.0.2.1:2380,n2=http://192.0.2.2:2380`.
pub fn parse_initial_cluster(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut members: Vec<(String, String)> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, url) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not NAME=URL"))?;
        if name.is_empty() || !url.starts_with("http://") {
            return Err(format!("`{part}` is not NAME=http://HOST:PORT"));
        }
        if members.iter().any(|(n, u)| n == name || u == url) {
            return Err(format!("`{part}` repeats a name or URL"));
        }
        members.push((name.to_owned(), url.trim_end_matches('/').to_owned()));
    }
    if members.is_empty() {
        return Err("no member given; write NAME=http://HOST:PORT[,...]".to_owned());
    }
    Ok(members)
}
