//! A whole node in namespaces of its own: store member, datapath, API. Containers need the weft program
//! as their shim and are tested by the labs' scenarios.
//!
//! Needs root.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use weft_agent::client::{AgentClient, Target};
use weft_agent::mirror::Whole;
use weft_agent::node::{NodeConfig, NodeError, StoreConfig, run_until};
use weft_agent::proto;
use weft_agent::store::client::{Client, KeyRange, Op, RangeOptions, Txn};
use weft_agent::store::server::InitialClusterState;
use weft_overlay::link::{Netlink, VethSpec};

const ADDRESS: &str = "192.0.2.1";
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs `test` on threads in new network and mount namespaces, with an underlay and a bpffs.
fn in_namespaces<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    let done = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("new namespaces: run this test as root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .expect("private mounts");
        mount(
            Some("bpf"),
            "/sys/fs/bpf",
            Some("bpf"),
            MsFlags::empty(),
            none,
        )
        .expect("mount bpffs");
        let dir = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            underlay().await;
            test(dir.path().to_owned()).await;
        });
    });
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn underlay() {
    let netlink = Netlink::current().expect("netlink");
    let pair = VethSpec {
        name: "u0".into(),
        mac: None,
        peer_name: "u1".into(),
        peer_mac: None,
        mtu: 1500,
    };
    netlink.ensure_veth(&pair, None).await.expect("underlay");
    for name in ["lo", "u0", "u1"] {
        netlink.set_up(name).await.expect("up");
    }
    let address = format!("{ADDRESS}/24").parse().expect("an address");
    netlink.add_address("u0", address).await.expect("address");
}

fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        name: "n1".parse().expect("a name"),
        advertise: ADDRESS.parse::<IpAddr>().expect("an address"),
        underlay: vec!["u0".into()],
        state_dir: dir.join("state"),
        run_dir: dir.join("run"),
        bpf_dir: "/sys/fs/bpf/weft/n1".into(),
        cgroup_parent: format!("weft-test-{}", std::process::id()),
        store: StoreConfig::Embedded {
            initial_cluster: vec![],
            initial_cluster_state: InitialClusterState::New,
            client_port: 2379,
            peer_port: 2380,
        },
        lease_ttl: Duration::from_secs(3),
        api_port: 7946,
        vxlan_port: 4789,
        hold: Duration::from_secs(3600),
    }
}

/// A node that runs until it is stopped.
struct Running {
    stop: tokio::sync::oneshot::Sender<()>,
    node: tokio::task::JoinHandle<Result<(), NodeError>>,
}

impl Running {
    fn start(config: &NodeConfig) -> Running {
        let (stop, end) = tokio::sync::oneshot::channel();
        let node = tokio::spawn(run_until(config.clone(), async {
            let _ = end.await;
        }));
        Running { stop, node }
    }
    async fn stop(self) {
        self.stop.send(()).expect("the node runs");
        self.node.await.expect("no panic").expect("a clean end");
    }
}

/// The node's API once it is ready.
async fn ready(config: &NodeConfig) -> AgentClient {
    let began = Instant::now();
    let mut last = String::new();
    while began.elapsed() < DEADLINE {
        match AgentClient::connect(Target::Unix(config.socket())).await {
            Ok(mut client) => match client.status().await {
                Ok(status) if status.ready && status.nodes.iter().any(|n| n.alive) => {
                    return client;
                }
                Ok(status) => last = format!("{status:?}"),
                Err(error) => last = error.to_string(),
            },
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not ready within {DEADLINE:?}: {last}");
}

fn network(cidr: &str) -> proto::Object {
    proto::Object {
        kind: "network".into(),
        name: "red/front".into(),
        json: format!(r#"{{"name":"red/front","cidr":"{cidr}"}}"#),
        revision: 0,
    }
}

#[test]
fn a_node_serves_desired_state_and_keeps_its_id_over_a_restart() {
    in_namespaces(|dir| async move {
        let config = config(&dir);
        let node = Running::start(&config);
        let mut client = ready(&config).await;
        let dry = client
            .apply(vec![network("10.10.0.0/16")], true)
            .await
            .expect("dry run");
        assert_eq!(dry[0].action, "create");
        let changes = client
            .apply(vec![network("10.10.0.0/16")], false)
            .await
            .expect("apply");
        assert_eq!(
            (changes[0].action.as_str(), changes[0].detail.as_str()),
            ("create", "VNI 1")
        );
        let again = client
            .apply(vec![network("10.10.0.0/16")], false)
            .await
            .expect("apply");
        assert_eq!(again[0].action, "unchanged");
        let refused = client
            .apply(vec![network("10.20.0.0/16")], false)
            .await
            .expect_err("another CIDR");
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(refused.message().contains("\nhelp: "), "{refused}");
        let listed = client.list("network", "red", "front").await.expect("list");
        assert!(listed[0].json.contains("10.10.0.0/16"), "{listed:?}");
        let missing = client
            .list("network", "", "blue/x")
            .await
            .expect_err("no such network");
        assert_eq!(missing.code(), tonic::Code::NotFound);
        client.drops(false).await.expect("drops");
        let before = client.status().await.expect("status");
        assert!(before.store_error.is_empty(), "{before:?}");

        // Other agents come by TCP.
        let mut peer = AgentClient::connect(Target::Tcp(config.api_address().to_string()))
            .await
            .expect("TCP");
        assert_eq!(peer.status().await.expect("status").node, "n1");

        node.stop().await;
        let node = Running::start(&config);
        let mut client = ready(&config).await;
        let after = client.status().await.expect("status");
        assert_eq!(after.node_id, before.node_id);
        assert_eq!(client.list("network", "", "").await.expect("list").len(), 1);
        let request = proto::RemoveRequest {
            kind: "network".into(),
            name: "red/front".into(),
            ..Default::default()
        };
        client.remove(request).await.expect("remove");
        node.stop().await;
    });
}

#[test]
fn a_node_touches_nothing_when_its_clusters_data_is_gone() {
    in_namespaces(|dir| async move {
        let config = config(&dir);
        let node = Running::start(&config);
        let mut client = ready(&config).await;
        client
            .apply(vec![network("10.10.0.0/16")], false)
            .await
            .expect("apply");

        // Somebody deletes everything while it runs.
        let store = Client::connect(vec![format!("http://{ADDRESS}:2379")]).expect("the store");
        let everything = Txn::new(vec![], vec![Op::Delete(KeyRange::prefix("/weft/v1/"))]);
        store.txn(everything).await.expect("delete everything");
        let began = Instant::now();
        let told = loop {
            let status = client.status().await.expect("status");
            if !status.store_error.is_empty() || began.elapsed() > DEADLINE {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(told.store_error.contains("no cluster document"), "{told:?}");
        assert_eq!(told.nodes.len(), 1, "what it knew stays in force");
        let refused = client.apply(vec![network("10.20.0.0/16")], false).await;
        let refused = refused.expect_err("the store is not the cluster's");
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
        let nothing = store.range(
            KeyRange::prefix("/weft/v1/tenants/"),
            RangeOptions::default(),
        );
        assert_eq!(nothing.await.expect("read").count, 0);
        // Nor does a node that remembers another cluster show what it finds, before it has read anything itself.
        let whole = Whole::new(store.clone(), Some("another".to_owned()));
        let asked = whole.ask(None);
        let shown = asked.wait_for(0, Duration::from_secs(1)).await;
        assert!(shown.is_none(), "{shown:?}");
        let health = asked.health().expect("it says why");
        assert!(health.contains("belongs to cluster another"), "{health}");
        node.stop().await;

        // Its store is lost and begun anew: the node does not begin with it.
        std::fs::remove_dir_all(config.state_dir.join("store")).expect("lose the store");
        let refused = run_until(config.clone(), std::future::pending()).await;
        let text = refused.expect_err("another cluster's store").to_string();
        assert!(
            text.contains("belongs to cluster") && text.contains("the store is empty"),
            "{text}"
        );
    });
}

#[test]
fn a_node_of_a_living_namesake_is_refused() {
    in_namespaces(|dir| async move {
        let config = config(&dir);
        let node = Running::start(&config);
        ready(&config).await;
        let namesake = NodeConfig {
            state_dir: dir.join("other"),
            run_dir: dir.join("other-run"),
            store: StoreConfig::External {
                endpoints: vec![format!("http://{ADDRESS}:2379")],
            },
            api_port: 7947,
            ..config.clone()
        };
        let refused = run_until(namesake, std::future::pending()).await;
        let text = refused.expect_err("a namesake").to_string();
        assert!(
            text.contains("a node of this name is alive at 192.0.2.1:7946"),
            "{text}"
        );
        node.stop().await;
    });
}

#[test]
fn what_a_node_keeps_and_serves_locally_is_for_root() {
    in_namespaces(|dir| async move {
        let config = config(&dir);
        let node = Running::start(&config);
        ready(&config).await;
        let mode = |path: &Path| {
            let kind = std::fs::metadata(path).expect("it is there");
            std::os::unix::fs::PermissionsExt::mode(&kind.permissions()) & 0o7777
        };
        for folder in [
            &config.state_dir,
            &config.run_dir,
            &config.state_dir.join("containers"),
            &config.run_dir.join("containers"),
        ] {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
        for file in [&config.state_dir.join("node.json"), &config.socket()] {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
        node.stop().await;
    });
}

#[test]
fn a_trace_listens_before_it_answers_and_ends_by_itself() {
    in_namespaces(|dir| async move {
        let config = config(&dir);
        let node = Running::start(&config);
        let mut client = ready(&config).await;
        let request = proto::TraceRequest {
            seconds: 1,
            ..Default::default()
        };
        let mut stream = client.trace(request).await.expect("trace");
        let first = stream.message().await.expect("first").expect("a message");
        assert_eq!(first.listening, ["n1"]);
        let end = tokio::time::timeout(Duration::from_secs(10), async {
            while let Ok(Some(_)) = stream.message().await {}
        });
        end.await.expect("the trace ends");
        let unknown = proto::TraceRequest {
            a: "red/x".into(),
            ..Default::default()
        };
        assert_eq!(
            client
                .trace(unknown)
                .await
                .expect_err("no such container")
                .code(),
            tonic::Code::NotFound
        );
        node.stop().await;
    });
}
