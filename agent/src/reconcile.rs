//! One loop: read what should be and what is, plan, apply, and look again.
//!
//! Owns: the node's memory and everything that is changed on the node. It is the one task that does.
//! A pass that changed something is followed by another at once; else the next comes with a change of
//! the documents, at the end of a container, or after a second. Every error is kept by its subject,
//! told in the node's status, and tried again in the next pass; none stops the others.
//!
//! Never: acts before the first full read of the documents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use weft_overlay::link::Netlink;
use weft_overlay::{ContainerRef, NodeId, NodeName, PortId};
use weft_runtime::Runtime;

use crate::api::{Repair, Report, Shared, SharedDatapath};
use crate::local::{LocalFile, LocalState};
use crate::mirror::{Here, Mirror, State};
use crate::plan::containers::Observed;
use crate::plan::leases::{Empty, Preparing};

mod chains;
mod containers;
mod datapath;
mod documents;
mod foreign;
mod gateways;
mod interfaces;
mod repairs;
mod underlay;

pub(crate) use containers::runtime_id;

/// The safety pass: finds what no event told of.
const TICK: Duration = Duration::from_secs(1);
/// Passes in a row before the loop waits for a tick, so that two plans that disagree cannot spin.
const PASSES: u32 = 32;

/// Now, Unix ms.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// The loop and what it owns.
#[derive(Debug)]
pub struct Reconciler {
    shared: Arc<Shared>,
    mirror: Mirror,
    id: NodeId,
    file: LocalFile,
    netlink: Netlink,
    runtime: Arc<Runtime>,
    datapath: SharedDatapath,
    underlay_mtu: u32,
    /// The VXLAN device.
    overlay: u32,
    underlay: underlay::Underlay,
    report: watch::Sender<Report>,
    /// Since when own subnets are empty.
    empty: Empty,
    /// Which nodes were dead, and when, as their subnets were last marked by this node.
    marked: Option<(BTreeSet<NodeName>, Instant)>,
    /// Containers that were asked to end, and until when they may take (Unix ms).
    stopping: BTreeMap<ContainerRef, u64>,
    /// Containers that could not be made: how often, and when to try again (Unix ms).
    failing: BTreeMap<ContainerRef, containers::Failure>,
    /// Containers whose interfaces were set up by this run.
    plumbed: BTreeSet<ContainerRef>,
    /// Ports that carry their program.
    attached: BTreeSet<PortId>,
    /// The containers' first processes.
    pids: BTreeMap<ContainerRef, u32>,
    /// When the next pass is due, Unix ms.
    wake: Option<u64>,
    chains: chains::ChainMemory,
    gateways: gateways::Gateways,
    problems: BTreeMap<String, String>,
    /// Problems of the pass before: each is logged once, not every second.
    told: BTreeMap<String, String>,
    /// What somebody had taken away, latest last.
    repairs: VecDeque<Repair>,
    /// When the insides of containers were looked at.
    inspected: Option<Instant>,
    /// The tables of the pass before.
    wanted: Option<weft_ebpf::Tables>,
    ready: bool,
    /// Set by a step of this pass that another pass should follow at once.
    again: bool,
    /// The store failed in this pass: nothing more is written in it.
    store_failed: bool,
}

impl Reconciler {
    /// A loop over these; `run` starts it.
    #[allow(
        clippy::too_many_arguments,
        reason = "each part is made by the node and moved here once"
    )]
    pub fn new(
        shared: Arc<Shared>,
        id: NodeId,
        file: LocalFile,
        netlink: Netlink,
        runtime: Arc<Runtime>,
        datapath: SharedDatapath,
        (underlay_mtu, overlay): (u32, u32),
        report: watch::Sender<Report>,
    ) -> Reconciler {
        Reconciler {
            mirror: shared.mirror.clone(),
            shared,
            id,
            file,
            netlink,
            runtime,
            datapath,
            underlay_mtu,
            overlay,
            underlay: underlay::Underlay::default(),
            report,
            empty: Empty::new(),
            marked: None,
            stopping: BTreeMap::new(),
            failing: BTreeMap::new(),
            plumbed: BTreeSet::new(),
            attached: BTreeSet::new(),
            pids: BTreeMap::new(),
            wake: None,
            chains: chains::ChainMemory::default(),
            gateways: gateways::Gateways::default(),
            problems: BTreeMap::new(),
            told: BTreeMap::new(),
            repairs: VecDeque::new(),
            inspected: None,
            wanted: None,
            ready: false,
            again: false,
            store_failed: false,
        }
    }

    /// Runs until the task is aborted or the mirror ends.
    pub async fn run(mut self) {
        self.tell();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut in_a_row = 0;
        loop {
            if let Some(state) = self.mirror.state() {
                self.pass(&state).await;
            }
            in_a_row = if self.again { in_a_row + 1 } else { 0 };
            if self.again && in_a_row < PASSES {
                continue;
            }
            let soon = self.next_deadline();
            let lives = tokio::select! {
                lives = self.mirror.changed() => lives,
                _ = ticks.tick() => true,
                () = tokio::time::sleep(soon) => true,
            };
            if !lives {
                return;
            }
        }
    }

    async fn pass(&mut self, state: &Arc<State>) {
        self.again = false;
        self.store_failed = self.shared.store_error().is_some();
        self.told = std::mem::take(&mut self.problems);
        let observed = self.observe().await;
        if let Some(observed) = &observed {
            self.change_containers(state, observed).await;
        }
        self.keep_documents(state, observed.as_ref()).await;
        self.keep_instances(state).await;
        if self.sync_datapath(state).await {
            self.mark_ready(state).await;
            if let Some(observed) = &observed {
                self.start_containers(state, observed).await;
            }
            self.ready = true;
        }
        self.tell();
    }

    fn preparing<'a>(&'a self, state: &'a State) -> Preparing<'a> {
        Preparing {
            state,
            local: self.file.get(),
            me: &self.shared.config.name,
            now: now(),
            hold: self.shared.config.hold,
            random: uuid::Uuid::new_v4().as_u128() as u32,
        }
    }

    fn problem(&mut self, subject: impl ToString, cause: impl ToString) {
        let (subject, cause) = (subject.to_string(), cause.to_string());
        if self.told.get(&subject) != Some(&cause) {
            tracing::warn!(%subject, %cause, "not done; tried again");
        }
        self.problems.insert(subject, cause);
    }

    /// Changes the memory; `None` and a problem when it cannot be written.
    fn remember<T>(&mut self, change: impl FnOnce(&mut LocalState) -> T) -> Option<T> {
        match self.file.change(change) {
            Ok(result) => Some(result),
            Err(error) => {
                self.problem("node state", error);
                None
            }
        }
    }

    fn tell(&self) {
        let here = Here::of(self.file.get());
        self.shared.here.send_if_modified(|last| {
            let differs = *last != here;
            *last = here;
            differs
        });
        let told = Report {
            ready: self.ready,
            problems: self.problems.clone(),
            repairs: self.repairs.iter().cloned().collect(),
            local: Arc::new(self.file.get().clone()),
        };
        self.report.send_if_modified(|last| {
            let differs = last.ready != told.ready
                || last.problems != told.problems
                || last.repairs != told.repairs
                || *last.local != *told.local;
            if differs {
                *last = told;
            }
            differs
        });
    }
}
