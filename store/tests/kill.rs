//! Members as real processes, killed with SIGKILL: writes go on, and nothing that was acknowledged is lost.
//!
//! The test runs itself again as the members. WEFT_KILL_ROUNDS sets how often the leader is killed (default 5).

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{free, wait_until};
use weft_store::client::{Client, KeyRange, RangeOptions};
use weft_store::proto::etcdserverpb as pb;
use weft_store::server::{Config, Server, parse_initial_cluster};

const MEMBER: &str = "WEFT_STORE_TEST_MEMBER";
/// After the leader was killed a write must succeed within this.
const FAILOVER: Duration = Duration::from_secs(5);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    match std::env::var(MEMBER) {
        Ok(member) => runtime.block_on(run_member(&member)),
        Err(_) => {
            runtime.block_on(nothing_acknowledged_is_lost());
            println!("test nothing_acknowledged_is_lost ... ok");
        }
    }
}

/// NAME CLIENT PEER DATA CLUSTER; lives until it is killed or its parent's pipe closes.
async fn run_member(arguments: &str) {
    let parts: Vec<&str> = arguments.split(' ').collect();
    let [name, client, peer, data, cluster] = parts[..] else {
        panic!("five arguments");
    };
    let mut config = Config::new(name, data);
    config.listen_client = vec![client.parse().expect("address")];
    config.advertise_client = vec![format!("http://{client}")];
    config.listen_peer = peer.parse().expect("address");
    config.advertise_peer = format!("http://{peer}");
    config.initial_cluster = parse_initial_cluster(cluster).expect("cluster");
    config.snapshot_bytes = 16 << 10;
    config.keep_entries = 100;
    config.segment_bytes = 64 << 10;
    let _server = Server::start(config).await.expect("starts");
    // Ends with the test, also if that is killed.
    let mut line = String::new();
    let read = tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line));
    let _ = read.await;
}

struct Members {
    arguments: Vec<String>,
    clients: Vec<SocketAddr>,
    running: Vec<Option<Child>>,
}

impl Members {
    fn start(&mut self, at: usize) {
        let child = Command::new(std::env::current_exe().expect("own path"))
            .env(MEMBER, &self.arguments[at])
            .stdin(Stdio::piped())
            .spawn()
            .expect("member starts");
        self.running[at] = Some(child);
    }
    fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.running[at].take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }
    async fn leader(&self) -> usize {
        let mut found = None;
        wait_until(Duration::from_secs(30), async || {
            for at in 0..self.clients.len() {
                let url = format!("http://{}", self.clients[at]);
                let client = pb::maintenance_client::MaintenanceClient::connect(url).await;
                let Ok(mut client) = client else { continue };
                let Ok(status) = client.status(pb::StatusRequest {}).await else {
                    continue;
                };
                let status = status.into_inner();
                if status.header.is_some_and(|h| h.member_id == status.leader) {
                    found = Some(at);
                    return true;
                }
            }
            false
        })
        .await;
        found.expect("found")
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        (0..self.running.len()).for_each(|at| self.kill(at));
    }
}

type Acknowledged = Arc<Mutex<BTreeMap<String, (String, i64)>>>;

async fn write_until(client: Client, stop: Arc<AtomicBool>, writer: usize, done: Acknowledged) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let (key, value) = (format!("w{writer}/{n}"), format!("{writer}-{n}"));
        // A failed write may have been done or not; only acknowledged ones are held to.
        if let Ok(revision) = client.put(key.clone(), value.clone(), 0).await {
            done.lock().expect("lock").insert(key, (value, revision));
        }
    }
}

async fn check(client: &Client, done: &Acknowledged) {
    // What was acknowledged before the read must be in it.
    let done = done.lock().expect("lock").clone();
    let read = client
        .range(KeyRange::prefix("w"), RangeOptions::default())
        .await
        .expect("reads");
    let found: BTreeMap<String, (String, i64)> = read
        .kvs
        .iter()
        .map(|kv| {
            (
                kv.key_str().to_owned(),
                (
                    String::from_utf8_lossy(&kv.value).into_owned(),
                    kv.mod_revision,
                ),
            )
        })
        .collect();
    for (key, written) in done.iter() {
        assert_eq!(found.get(key), Some(written), "{key} was acknowledged");
    }
    let mut revisions: Vec<i64> = found.values().map(|(_, revision)| *revision).collect();
    revisions.sort_unstable();
    assert!(
        revisions.windows(2).all(|w| w[0] != w[1]),
        "two puts share a revision"
    );
}

async fn nothing_acknowledged_is_lost() {
    let rounds: usize =
        std::env::var("WEFT_KILL_ROUNDS").map_or(5, |n| n.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("tempdir");
    let addresses = free(6);
    let (clients, peers) = (addresses[..3].to_vec(), addresses[3..].to_vec());
    let cluster: Vec<String> = (0..3)
        .map(|n| format!("n{n}=http://{}", peers[n]))
        .collect();
    let arguments = (0..3).map(|n| {
        let data = folder.path().join(format!("n{n}"));
        format!(
            "n{n} {} {} {} {}",
            clients[n],
            peers[n],
            data.display(),
            cluster.join(",")
        )
    });
    let mut members = Members {
        arguments: arguments.collect(),
        clients: clients.clone(),
        running: vec![None, None, None],
    };
    (0..3).for_each(|at| members.start(at));
    let connect =
        || Client::connect(clients.iter().map(|c| format!("http://{c}"))).expect("client");
    let client = connect();
    wait_until(Duration::from_secs(30), async || {
        client.put("start", "x", 0).await.is_ok()
    })
    .await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Acknowledged::default());
    let writers: Vec<_> = (0..4)
        .map(|w| tokio::spawn(write_until(connect(), stop.clone(), w, done.clone())))
        .collect();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let before = done.lock().expect("lock").len();
        wait_until(Duration::from_secs(30), async || {
            done.lock().expect("lock").len() >= before + 50
        })
        .await;
        let leader = members.leader().await;
        members.kill(leader);
        let killed = Instant::now();
        client
            .put_at_least_once(format!("after/{round}"), "x", 0)
            .await
            .expect("a write at once after the kill");
        slowest = slowest.max(killed.elapsed());
        assert!(killed.elapsed() < FAILOVER, "took {:?}", killed.elapsed());
        members.start(leader);
        check(&client, &done).await;
    }
    // All at once, in the middle of writing.
    (0..3).for_each(|at| members.kill(at));
    (0..3).for_each(|at| members.start(at));
    wait_until(Duration::from_secs(30), async || {
        client.put("again", "x", 0).await.is_ok()
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("writer");
    }
    check(&client, &done).await;
    let count = done.lock().expect("lock").len();
    println!(
        "{rounds} kills of the leader, one of all: {count} acknowledged writes kept; slowest failover {slowest:?}"
    );
}
