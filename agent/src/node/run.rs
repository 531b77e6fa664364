//! From start to SIGTERM.
//!
//! Tasks, all owned here and aborted at the end: the mirror, the lease, the file of nodes, the reconciler, the packet
//! events' pump and the two API listeners. The API is up first, so that a node which waits for its
//! store can say so. Containers and datapath are left as they are.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_ebpf::{Begun, Datapath, OpenConfig};
use weft_overlay::documents::NodeAlive;
use weft_overlay::link::Netlink;
use weft_runtime::{Runtime, RuntimeConfig};

use super::register::{Registered, Registration, register};
use super::{NodeConfig, NodeError, SOCKET, lease, nodes, overlay_device, store};
use crate::api::{Parts, Report, Shared, SharedDatapath, Tracer};
use crate::local::{LocalFile, LocalState, private_folder};
use crate::mirror::{Here, Mirror, Whole};
use crate::reconcile::{Reconciler, now};

/// Pause between attempts to register while the store has no majority.
const REGISTER_PAUSE: Duration = Duration::from_millis(200);

/// Runs the node until SIGTERM or SIGINT. Containers and datapath stay when it returns.
pub async fn run(config: NodeConfig) -> Result<(), NodeError> {
    run_until(config, ended()?).await
}

/// Runs the node until `end`. Containers and datapath stay when it returns.
pub async fn run_until(config: NodeConfig, end: impl Future<Output = ()>) -> Result<(), NodeError> {
    let mut end = std::pin::pin!(end);
    let file = LocalFile::open(&config.state_dir).map_err(local_error)?;
    prepare_run_dir(&config)?;
    let (server, client) = store::start(&config).await?;
    let (here_sender, here) = watch::channel(Here::of(file.get()));
    let cluster = file.get().cluster.clone();
    let whole = Whole::new(client.clone(), cluster.clone());
    let (mirror, keep_mirror) = Mirror::own(client.clone(), cluster, config.name.clone(), here);
    let (report_sender, report) = watch::channel(Report::default());
    let (lease_sender, lease) = watch::channel(None);
    let shared = Arc::new(Shared {
        config,
        client,
        mirror,
        whole,
        here: here_sender,
        lease,
        report,
        parts: OnceLock::new(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_mirror);
    crate::api::serve(&shared, &mut tasks).await?;
    let result = tokio::select! {
        started = start(&shared, file, report_sender, lease_sender, &mut tasks) => match started {
            // Every task of the node runs for as long as it does; one that ends took it down.
            Ok(()) => tokio::select! {
                Some(task) = tasks.join_next() => Err(task_ended(&shared.config, task)),
                () = &mut end => Ok(()),
            },
            Err(error) => Err(error),
        },
        () = &mut end => Ok(()),
    };
    tasks.shutdown().await;
    let _ = std::fs::remove_file(shared.config.socket());
    if let Some(server) = server
        && let Err(error) = server.shutdown().await
    {
        tracing::warn!(%error, "the store member did not stop cleanly; it recovers from its log");
    }
    result
}

fn ended() -> Result<impl Future<Output = ()>, NodeError> {
    let listen =
        |kind| signal(kind).map_err(|e| NodeError::new("signals", e, "check the process limits"));
    let (mut term, mut int) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

fn local_error(error: crate::local::LocalError) -> NodeError {
    let text = error.to_string();
    let (cause, help) = text
        .split_once("\nhelp: ")
        .unwrap_or((&text, "check the state directory"));
    NodeError::new("node state", cause.trim_start_matches("node state "), help)
}

fn prepare_run_dir(config: &NodeConfig) -> Result<(), NodeError> {
    private_folder(&config.run_dir, SOCKET).map_err(|e| {
        NodeError::new(
            format!("run directory {}", config.run_dir.display()),
            e,
            "run as root, or name another with --run-dir",
        )
    })
}

fn task_ended(config: &NodeConfig, task: Result<(), tokio::task::JoinError>) -> NodeError {
    let cause = match task {
        Ok(()) => "one of its tasks ended".to_owned(),
        Err(error) => format!("one of its tasks failed: {error}"),
    };
    NodeError::new(
        format!("node {}", config.name),
        cause,
        "start it again; containers and traffic are not affected",
    )
}

/// Registers the node and starts what needs its id.
async fn start(
    shared: &Arc<Shared>,
    mut file: LocalFile,
    report: watch::Sender<Report>,
    lease_health: watch::Sender<Option<String>>,
    tasks: &mut JoinSet<()>,
) -> Result<(), NodeError> {
    let config = &shared.config;
    if file.get().uid.is_empty() {
        file.change(|local| local.uid = uuid::Uuid::new_v4().to_string())
            .map_err(local_error)?;
    }
    let alive = NodeAlive {
        uid: file.get().uid.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        since: now(),
    };
    let netlink = Netlink::current().map_err(|e| NodeError::new("network", &e, e.help()))?;
    let underlay_mtu = overlay_device::underlay_mtu(config, &netlink).await?;
    let Registered { id, cluster, lease } =
        registered(shared, file.get(), &alive, underlay_mtu).await?;
    file.change(|local| local.cluster = Some(cluster))
        .map_err(local_error)?;
    let links = netlink.links().await;
    let links = links.map_err(|e| NodeError::new("network", &e, e.help()))?;
    file.change(|local| local.pass_over(links.iter().map(|l| l.name.as_str())))
        .map_err(local_error)?;
    let overlay = overlay_device::ensure(config, &netlink, underlay_mtu).await?;
    let node = overlay_device::node_config(config, id, overlay, false);
    let open = OpenConfig {
        bpf_dir: config.bpf_dir.clone(),
        node,
    };
    let mut datapath = Datapath::open(&open).map_err(overlay_device::error)?;
    match datapath.begun() {
        Begun::TakenOver => tracing::info!("the datapath of an earlier run is taken over"),
        Begun::Migrated(kept) => {
            tracing::info!(?kept, "the datapath of the version before is migrated");
        }
        Begun::Anew => tracing::info!("the datapath is made anew"),
    }
    datapath
        .attach_overlay(overlay)
        .map_err(overlay_device::error)?;
    let events = datapath.events().map_err(overlay_device::error)?;
    let datapath = SharedDatapath::new(datapath);
    let runtime = Arc::new(runtime(config)?);
    let tracer = Tracer::new(datapath.clone()).map_err(overlay_device::error)?;
    let parts = Parts {
        node_id: id,
        runtime: runtime.clone(),
        datapath: datapath.clone(),
        tracer: tracer.clone(),
        overlay: (overlay, overlay_device::NAME.to_owned()),
    };
    // Set once, here; nobody else sets it.
    let _ = shared.parts.set(parts);
    tasks.spawn(tracer.pump(events));
    let state_dir = shared.config.state_dir.clone();
    tasks.spawn(nodes::keep(shared.mirror.clone(), state_dir));
    tasks.spawn(lease::keep(
        shared.client.clone(),
        config.name.clone(),
        (alive, lease),
        config.lease_ttl,
        lease_health,
    ));
    let reconciler = Reconciler::new(
        shared.clone(),
        id,
        file,
        netlink,
        runtime,
        datapath,
        (underlay_mtu, overlay),
        report,
    );
    tasks.spawn(reconciler.run());
    Ok(())
}

/// Registers the node as soon as the store lets it.
async fn registered(
    shared: &Shared,
    memory: &LocalState,
    alive: &NodeAlive,
    mtu: u32,
) -> Result<Registered, NodeError> {
    let config = &shared.config;
    let registration = Registration {
        name: config.name.clone(),
        vtep: config.advertise,
        api: config.api_address().to_string(),
        mtu,
        cluster: memory.cluster.clone(),
        alive: alive.clone(),
        ttl: config.lease_ttl,
    };
    loop {
        match register(&shared.client, &registration).await {
            Ok(registered) => return Ok(registered),
            Err(super::register::Error::Refused(error)) => return Err(error),
            // The client has waited and spread its attempts already.
            Err(super::register::Error::Store(error)) => {
                tracing::info!(%error, "waiting for the store to register the node");
                tokio::time::sleep(super::jitter(REGISTER_PAUSE, 1)).await;
            }
        }
    }
}

fn runtime(config: &NodeConfig) -> Result<Runtime, NodeError> {
    let weft_exe = std::env::current_exe().map_err(|e| {
        NodeError::new(
            "weft",
            format!("its own program cannot be found: {e}"),
            "mount /proc",
        )
    })?;
    Runtime::open(RuntimeConfig {
        state_dir: config.state_dir.clone(),
        run_dir: config.run_dir.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        weft_exe,
        hide: vec![
            config.state_dir.clone(),
            config.run_dir.clone(),
            config.bpf_dir.clone(),
        ],
    })
    .map_err(|e| NodeError::new("container runtime", e, "`weft doctor` checks what it needs"))
}
