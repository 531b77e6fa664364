//! A cluster in this process on loopback addresses of its own, each member in its own temporary folder.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use weft_store::client::{Client, Options};
use weft_store::proto::etcdserverpb as pb;
use weft_store::server::{Config, Server};

/// Waits until `done` says so, or panics.
pub async fn wait_until(limit: Duration, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done().await {
        assert!(Instant::now() < deadline, "not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Members, running or stopped.
pub struct Cluster {
    configs: Vec<Config>,
    servers: Vec<Option<Server>>,
    _folders: tempfile::TempDir,
}

/// Addresses that nobody else has: a loopback host of this process's own, and ports that are given once and
/// lie below those that the kernel gives to clients, so that no connection takes one before its member does.
pub fn free(count: usize) -> Vec<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 64 | (high & 0x3f), middle, low);
    (0..count)
        .map(|_| SocketAddr::from((host, NEXT.fetch_add(1, Ordering::Relaxed))))
        .collect()
}

impl Cluster {
    pub async fn start(count: usize) -> Cluster {
        Cluster::with(count, |_| {}).await
    }

    pub async fn with(count: usize, change: impl Fn(&mut Config)) -> Cluster {
        let mut cluster = Cluster::prepare(count, change);
        for n in 0..count {
            cluster.start_one(n).await;
        }
        for server in cluster.servers.iter().flatten() {
            server
                .wait_ready(Duration::from_secs(20))
                .await
                .expect("a leader");
        }
        cluster
    }

    /// Members that have not been started.
    pub fn prepare(count: usize, change: impl Fn(&mut Config)) -> Cluster {
        let folders = tempfile::tempdir().expect("tempdir");
        let (clients, peers) = (free(count), free(count));
        let members: Vec<(String, String)> = (0..count)
            .map(|n| (format!("n{n}"), format!("http://{}", peers[n])))
            .collect();
        let configs: Vec<Config> = (0..count)
            .map(|n| {
                let mut config = Config::new(format!("n{n}"), folders.path().join(format!("n{n}")));
                config.listen_client = vec![clients[n]];
                config.advertise_client = vec![format!("http://{}", clients[n])];
                config.listen_peer = peers[n];
                config.advertise_peer = members[n].1.clone();
                config.initial_cluster = members.clone();
                change(&mut config);
                config
            })
            .collect();
        Cluster {
            servers: (0..count).map(|_| None).collect(),
            configs,
            _folders: folders,
        }
    }

    pub async fn start_one(&mut self, at: usize) {
        let server = Server::start(self.configs[at].clone())
            .await
            .expect("starts");
        self.servers[at] = Some(server);
    }

    /// Starts a member, with other settings than at first.
    pub async fn try_start(
        &mut self,
        at: usize,
        change: impl Fn(&mut Config),
    ) -> Result<(), weft_store::server::Error> {
        let mut config = self.configs[at].clone();
        change(&mut config);
        self.servers[at] = Some(Server::start(config).await?);
        Ok(())
    }

    /// A member's data folder.
    pub fn folder(&self, at: usize) -> &std::path::Path {
        &self.configs[at].data_dir
    }

    /// A running member.
    pub fn server(&self, at: usize) -> &Server {
        self.servers[at].as_ref().expect("runs")
    }

    pub async fn stop_one(&mut self, at: usize) {
        if let Some(server) = self.servers[at].take() {
            server.shutdown().await.expect("stops");
        }
    }

    /// Removes a stopped member's folder.
    pub fn lose(&self, at: usize) {
        std::fs::remove_dir_all(&self.configs[at].data_dir).expect("removed");
    }

    pub async fn stop(mut self) {
        for at in 0..self.servers.len() {
            self.stop_one(at).await;
        }
    }

    pub fn url(&self, at: usize) -> String {
        self.configs[at].advertise_client[0].clone()
    }

    pub fn client(&self) -> Client {
        let urls: Vec<String> = (0..self.configs.len()).map(|at| self.url(at)).collect();
        Client::connect(urls).expect("client")
    }

    pub fn client_of(&self, at: usize) -> Client {
        let options = Options {
            call_timeout: Duration::from_secs(7),
            ..Default::default()
        };
        Client::with_options([self.url(at)], options).expect("client")
    }

    /// The member that leads, once one does.
    pub async fn leader(&self) -> usize {
        let mut found = None;
        wait_until(Duration::from_secs(20), async || {
            found = self
                .servers
                .iter()
                .position(|s| s.as_ref().is_some_and(Server::is_leader));
            found.is_some()
        })
        .await;
        found.expect("found")
    }

    /// Checksum of each member's history.
    pub async fn hashes(&self, revision: i64) -> Vec<(u32, i64)> {
        let mut hashes = Vec::new();
        for at in 0..self.configs.len() {
            let mut client = pb::maintenance_client::MaintenanceClient::connect(self.url(at))
                .await
                .expect("connects");
            let hash = client
                .hash_kv(pb::HashKvRequest { revision })
                .await
                .expect("hash")
                .into_inner();
            hashes.push((hash.hash, hash.compact_revision));
        }
        hashes
    }
}
