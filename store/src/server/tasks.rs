//! What a member does by itself: publish its name, end leases that are over.
//!
//! Each task is spawned and ended by [`super::Server`]; all are loops over a tick that hold nothing between ticks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;

use super::node::Node;
use crate::proto::etcdserverpb as pb;
use crate::proto::weftpeer as peer;
use crate::raft::types::Command;
use peer::command::Op;

/// How exactly leases end: a fraction of the shortest TTL, which is seconds.
const LEASE_TICK: Duration = Duration::from_millis(200);
/// Leases ended in one tick, so that a crowd of them does not keep writes waiting.
const LEASES_A_TICK: usize = 500;

/// Tells the others this member's name and where clients reach it, until it is told.
pub(super) async fn publish(node: Arc<Node>) {
    let publish = peer::Publish {
        id: node.id,
        name: node.config.name.clone(),
        client_urls: node.config.advertise_client.clone(),
    };
    loop {
        if node.mvcc.published().get(&node.id) == Some(&publish) && node.has_leader() {
            return;
        }
        let command = peer::Command {
            op: Some(Op::Publish(publish.clone())),
        };
        match node.propose(command).await {
            Ok(_) => return,
            // Without a leader for now. It changes nothing to say it twice.
            Err(status) => tracing::debug!(message = status.message(), "not published yet"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Ends leases that are over, while this member leads.
pub(super) async fn expire(node: Arc<Node>) {
    let mut tick = tokio::time::interval(LEASE_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut led: Option<u64> = None;
    loop {
        tick.tick().await;
        let term = {
            let metrics = node.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.state == ServerState::Leader).then_some(metrics.current_term)
        };
        if term.is_none() {
            led = None;
            continue;
        }
        if term != led {
            node.deadlines
                .extend_all(Instant::now(), node.config.election_max);
            led = term;
        }
        let due = node.deadlines.take_over_due(Instant::now(), LEASES_A_TICK);
        futures::future::join_all(due.into_iter().map(|id| end(&node, id))).await;
    }
}

async fn end(node: &Node, id: i64) {
    let command = Command(peer::Command {
        op: Some(Op::Revoke(pb::LeaseRevokeRequest { id })),
    });
    let written = node.raft.client_write(command);
    match tokio::time::timeout(node.config.request_timeout, written).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::debug!(id, %error, "lease not ended yet");
            node.deadlines.not_ended(id);
        }
        Err(_) => node.deadlines.not_ended(id),
    }
}
