//! What a member does by itself: publish its name, end leases that are over.
//!
//! Each task is spawned and ended by [`super::Server`]; all are loops over a tick that hold nothing between ticks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};

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
///
/// What a majority confirmed after a lease's deadline, it confirmed without a renewal that another leader could have
/// answered. While there is no majority nobody can renew: afterwards every lease gets its whole time again.
pub(super) async fn expire(node: Arc<Node>) {
    let mut tick = tokio::time::interval(LEASE_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut led = Led::default();
    loop {
        tick.tick().await;
        let before = leading(&node);
        if before.is_some() && led.confirmed == before && node.deadlines.none() {
            continue;
        }
        let asked = Instant::now();
        let confirmed = match before {
            Some(_) => node.confirm_here().await.is_ok() && leading(&node) == before,
            None => false,
        };
        match led.after(before.filter(|_| confirmed)) {
            Turn::Nothing => {}
            Turn::Begin => {
                let extra = node.config.election_max;
                node.deadlines.begin_leading(Instant::now(), extra);
            }
            Turn::GoOn => {
                let extra = node.config.election_max;
                node.deadlines.extend_all(Instant::now(), extra);
            }
            Turn::End => {
                let due = node.deadlines.take_over_due(asked, LEASES_A_TICK);
                futures::future::join_all(due.into_iter().map(|id| end(&node, id))).await;
            }
        }
    }
}

/// The term in which this member leads.
fn leading(node: &Node) -> Option<u64> {
    let metrics = node.raft.metrics();
    let metrics = metrics.borrow_watched();
    (metrics.state == ServerState::Leader).then_some(metrics.current_term)
}

/// Of which term a majority confirmed this member's leadership, and whether without a break.
#[derive(Default)]
struct Led {
    confirmed: Option<u64>,
    broken: bool,
}

/// What a confirmation, or its failure, allows.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Not confirmed: nothing ends.
    Nothing,
    /// The first of a term: all leases anew, and what earlier terms proposed is decided.
    Begin,
    /// The first after a break: all leases anew, but proposals of this term may still be in the log.
    GoOn,
    /// What was over when the majority was asked, ends.
    End,
}

impl Led {
    fn after(&mut self, confirmed: Option<u64>) -> Turn {
        let Some(term) = confirmed else {
            self.broken = true;
            return Turn::Nothing;
        };
        let broken = std::mem::take(&mut self.broken);
        if self.confirmed.replace(term) != Some(term) {
            Turn::Begin
        } else if broken {
            Turn::GoOn
        } else {
            Turn::End
        }
    }
}

/// Proposes the end of a lease. Whether it was taken or not, it stays ending until the log tells: a renewal answered
/// meanwhile would be broken by the proposal's late success.
async fn end(node: &Node, id: i64) {
    let command = Command(peer::Command {
        op: Some(Op::Revoke(pb::LeaseRevokeRequest { id })),
    });
    let written = node.raft.client_write(command);
    match tokio::time::timeout(node.config.request_timeout, written).await {
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
            // Never reached the log.
            node.deadlines.not_ended(id);
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(id, %error, "end of a lease not committed yet"),
        Err(_) => tracing::debug!(id, "end of a lease not committed yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_end_only_under_an_unbroken_confirmation() {
        let mut led = Led::default();
        assert_eq!(led.after(None), Turn::Nothing);
        assert_eq!(led.after(Some(3)), Turn::Begin);
        assert_eq!(led.after(Some(3)), Turn::End);
        assert_eq!(led.after(None), Turn::Nothing, "the majority is away");
        assert_eq!(led.after(None), Turn::Nothing);
        assert_eq!(led.after(Some(3)), Turn::GoOn, "nothing ends at once");
        assert_eq!(led.after(Some(3)), Turn::End);
        assert_eq!(led.after(None), Turn::Nothing);
        assert_eq!(led.after(Some(5)), Turn::Begin);
    }
}
