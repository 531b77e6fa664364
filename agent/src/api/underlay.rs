//! `weft doctor underlay`: every node probes its ways to all others, at once, and the one that was asked judges.
//!
//! From the documents as they were known last, and without a part of the node that waits for the store: so it works while
//! that does not answer, also on a node that was started meanwhile. Nodes without a lease are probed too.

mod socket;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt};
use nix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::{Code, Status};
use weft_overlay::{NodeName, filter, netns};

use super::fault::fault;
use super::peers::{PATIENCE, cause, connect};
use super::shared::Shared;
use crate::client::AgentClient;
use crate::mirror::State;
use crate::node::nodes;
use crate::proto::{ArrivalsReply, ArrivalsRequest, UnderlayReply, UnderlayRequest};
use crate::underlay::{Apart, Known, Passed, Probed, Reading, Report, Search, Way, apart, judge};
use socket::Socket;

/// How long what was sent may take to come back.
const ROUND: Duration = Duration::from_secs(1);
/// How often it is looked for meanwhile; the kernel itself notes when it came.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a node may take for all its ways: six rounds each at most, of which some wait for others.
const PROBING: Duration = Duration::from_secs(60);
/// Ways that a node probes at once: what one sends in a round, at all nodes that probe one, stays below what is remembered
/// of arrivals ([`weft_ebpf_abi::ARRIVALS`]).
const AT_ONCE: usize = 32;
/// Packets of each size in the first round, so that one that is lost by chance decides nothing.
const FIRST: usize = 4;
/// Large packets more, before a way that loses some is said to take no large ones.
const AGAIN: usize = 12;
/// Packets of each size that is tried then: of one that is lost by chance the next smaller one is taken.
const EACH: usize = 2;
/// Small packets that tell what is lost, and the time between two.
const MANY: usize = 40;
const PACE: Duration = Duration::from_millis(1);
/// Questions about the clock.
const CLOCK_READINGS: usize = 5;
/// An underlay whose MTU no document tells.
const MTU: u32 = 1500;

/// Answers.
pub async fn underlay(shared: &Shared, request: &UnderlayRequest) -> Result<UnderlayReply, Status> {
    let state = known_nodes(shared).await?;
    if request.local {
        let probed = probe(shared, &state).await?;
        return reply(&probed);
    }
    let me = &shared.config.name;
    let questions = state.nodes.keys().map(|node| {
        let state = &state;
        async move {
            let probed = async {
                match node == me {
                    true => probe(shared, state).await,
                    false => ask(state, node).await,
                }
            };
            let told = match timeout(PROBING, probed).await {
                Ok(told) => told.map_err(|e| cause(&e)),
                Err(_) => Err(format!("no answer within {PROBING:?}")),
            };
            (node.clone(), told)
        }
    });
    let told: BTreeMap<NodeName, _> = futures::future::join_all(questions)
        .await
        .into_iter()
        .collect();
    let report = Report {
        store: shared.store_error(),
        ..judge(&known(&state), &told, shared.config.vxlan_port)
    };
    reply(&report)
}

/// The documents of nodes, which every node has; or those that were known last.
async fn known_nodes(shared: &Shared) -> Result<Arc<State>, Status> {
    if let Some(state) = shared.mirror.state() {
        return Ok(state);
    }
    match nodes::last(&shared.config.state_dir) {
        Some(state) => Ok(Arc::new(state)),
        None => shared.known().await,
    }
}

fn reply(found: &impl serde::Serialize) -> Result<UnderlayReply, Status> {
    let json = serde_json::to_string(found)
        .map_err(|e| fault(Code::Internal, "underlay", e, "report this"))?;
    Ok(UnderlayReply { json })
}

async fn ask(state: &State, node: &NodeName) -> Result<Probed, Status> {
    let mut agent = connect(state, node).await?;
    let reply = agent.underlay(true).await?;
    serde_json::from_str(&reply.json).map_err(|e| {
        let help = "run the same version of weft on all nodes";
        fault(Code::Internal, format!("node {node}"), e, help)
    })
}

fn known(state: &State) -> Vec<Known> {
    let one = |(name, doc): (&NodeName, &crate::mirror::Doc<_>)| {
        let spec: &weft_overlay::documents::NodeSpec = &doc.value;
        Known {
            name: name.clone(),
            vteps: spec.vteps.clone(),
            alive: state.is_alive(name),
        }
    };
    state.nodes.iter().map(one).collect()
}

/// Which probes arrived here.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub fn arrivals(shared: &Shared, request: &ArrivalsRequest) -> Result<ArrivalsReply, Status> {
    let mut arrived = Vec::new();
    for number in &request.numbers {
        if noted(shared, *number)?.is_some() {
            arrived.push(*number);
        }
    }
    Ok(ArrivalsReply {
        arrived,
        time: unix(),
    })
}

/// When a probe or its answer came here, `CLOCK_MONOTONIC`.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn noted(shared: &Shared, number: u64) -> Result<Option<Duration>, Status> {
    let arrival = match shared.parts.get() {
        Some(parts) => parts.datapath.lock().arrival(number),
        // What forwards meanwhile is that of an earlier run.
        None => weft_ebpf::arrival_of(&shared.config.bpf_dir, number),
    };
    let arrival = arrival.map_err(|e| {
        fault(
            Code::Internal,
            "datapath",
            crate::node::chain_of(&e),
            e.help(),
        )
    })?;
    Ok(arrival.map(|arrival| Duration::from_nanos(arrival.time)))
}

/// Unix time, ns.
fn unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}

/// The clock that the kernel notes arrivals by.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Probes this node's ways to all others.
async fn probe(shared: &Shared, state: &State) -> Result<Probed, Status> {
    let mtu = |name: &NodeName| {
        let spec = state.nodes.get(name);
        spec.and_then(|doc| doc.value.mtu).unwrap_or(MTU)
    };
    let own = mtu(&shared.config.name);
    let mut targets = Vec::new();
    for (name, doc) in &state.nodes {
        if *name != shared.config.name {
            let full = own.min(mtu(name));
            targets.extend(doc.value.vteps.iter().map(|v| (name.clone(), *v, full)));
        }
    }
    let ways = targets.into_iter().map(|target| way(shared, state, target));
    let ways: Vec<Result<Way, Status>> =
        stream::iter(ways).buffer_unordered(AT_ONCE).collect().await;
    let mut ways: Vec<Way> = ways.into_iter().collect::<Result<_, _>>()?;
    ways.sort_by(|a, b| (&a.to, a.vtep).cmp(&(&b.to, b.vtep)));
    Ok(Probed {
        node: shared.config.name.clone(),
        filtered: filtered(),
        ways,
    })
}

/// Probes the way to a node's VTEP, which is to take packets so large.
async fn way(
    shared: &Shared,
    state: &State,
    (to, vtep, full): (NodeName, IpAddr, u32),
) -> Result<Way, Status> {
    let agent = match timeout(PATIENCE, connect(state, &to)).await {
        Ok(agent) => agent.map_err(|e| cause(&e)),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    };
    let mut way = Way {
        to,
        vtep,
        told: agent.as_ref().map(|_| ()).map_err(Clone::clone),
        arrived: false,
        round_trip: None,
        refused: None,
        takes: 0,
        full,
        passed: Passed::default(),
        clock: None,
    };
    let config = &shared.config;
    let socket = match Socket::open(config.advertise, vtep, config.vxlan_port) {
        Ok(socket) => socket,
        Err(error) => {
            way.refused = Some(socket::why(&error));
            return Ok(way);
        }
    };
    let mut prober = Prober {
        shared,
        socket,
        agent: agent.ok(),
        way,
    };
    prober.run().await?;
    Ok(prober.way)
}

/// Whether the node has a packet filter that looks at what comes in; one that cannot be asked has none to tell of.
fn filtered() -> bool {
    netns::current().is_ok_and(|own| filter::looks_at_what_arrives(own).unwrap_or(false))
}

/// Probes one way.
struct Prober<'a> {
    shared: &'a Shared,
    socket: Socket,
    agent: Option<AgentClient>,
    way: Way,
}

/// A probe that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    size: u32,
    at: Duration,
}

impl Prober<'_> {
    async fn run(&mut self) -> Result<(), Status> {
        let (least, full) = (self.socket.least(), self.way.full);
        let mut arrived = self
            .round(&[[least; FIRST], [full; FIRST]].concat())
            .await?;
        self.way.arrived = !arrived.is_empty();
        if self.way.arrived {
            let many = self.round(&[least; MANY]).await?;
            self.way.passed = Passed {
                arrived: many.len() as u32,
                sent: MANY as u32,
            };
            if !arrived.contains(&full) {
                arrived.extend(self.round(&[full; AGAIN]).await?);
            }
        }
        self.way.takes = arrived.into_iter().max().unwrap_or(0);
        if self.way.arrived && self.way.takes < full {
            let mut search = Search::between(self.way.takes, full);
            loop {
                let sizes = search.next();
                if sizes.is_empty() {
                    break;
                }
                let each: Vec<u32> = sizes.iter().flat_map(|size| [*size; EACH]).collect();
                search.learn(&self.round(&each).await?.into_iter().collect());
            }
            self.way.takes = search.largest();
        }
        self.way.clock = self.clock().await;
        Ok(())
    }

    /// Sends these sizes; those of what arrived.
    async fn round(&mut self, sizes: &[u32]) -> Result<Vec<u32>, Status> {
        let mut pending = Vec::new();
        let mut pace = interval(PACE);
        for &size in sizes {
            pace.tick().await;
            // Version 4 UUIDs are random; no other source of randomness is needed here.
            let number = uuid::Uuid::new_v4().as_u64_pair().1;
            let at = monotonic();
            match self.socket.send(number, size) {
                Ok(()) => pending.push(Sent { number, size, at }),
                Err(refused) => drop(self.way.refused.get_or_insert(refused)),
            }
        }
        let mut arrived = Vec::new();
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = Instant::now() + ROUND;
        while !pending.is_empty() && Instant::now() < deadline {
            every.tick().await;
            let mut left = Vec::new();
            for sent in pending {
                let Some(came) = noted(self.shared, sent.number)? else {
                    left.push(sent);
                    continue;
                };
                arrived.push(sent.size);
                let trip = came.saturating_sub(sent.at);
                let best = self.way.round_trip.get_or_insert(trip);
                *best = trip.min(*best);
            }
            pending = left;
        }
        arrived.extend(self.arrived_there(&pending).await);
        Ok(arrived)
    }

    /// What arrived at the other end though no answer came.
    async fn arrived_there(&mut self, unanswered: &[Sent]) -> Vec<u32> {
        let Some(agent) = self.agent.as_mut().filter(|_| !unanswered.is_empty()) else {
            return Vec::new();
        };
        let numbers = unanswered.iter().map(|sent| sent.number).collect();
        let silent = match timeout(PATIENCE, agent.arrivals(numbers)).await {
            Ok(Ok(reply)) => {
                let there = unanswered
                    .iter()
                    .filter(|sent| reply.arrived.contains(&sent.number));
                return there.map(|sent| sent.size).collect();
            }
            Ok(Err(status)) => cause(&status),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        self.agent = None;
        self.way.told = Err(silent);
        Vec::new()
    }

    async fn clock(&mut self) -> Option<Apart> {
        let agent = self.agent.as_mut()?;
        let mut readings = Vec::new();
        for _ in 0..CLOCK_READINGS {
            let asked = unix();
            let Ok(Ok(reply)) = timeout(PATIENCE, agent.arrivals(Vec::new())).await else {
                break;
            };
            readings.push(Reading {
                asked,
                said: reply.time,
                heard: unix(),
            });
        }
        apart(&readings)
    }
}
