//! One member as its services see it: propose a change, confirm a read, renew a lease, here or at the leader.
//!
//! A request that certainly was not taken (no leader, not the leader, no connection) is tried again until the
//! request's time is over; one that may have been taken never is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Instant as _, ReadPolicy};
use tokio::time::timeout_at;
use tonic::Status;

use super::config::Config;
use super::standing::Standing;
use crate::api::{NO_LEADER, NOT_LEADER, TIMED_OUT};
use crate::lease::Deadlines;
use crate::mvcc::Shared;
use crate::proto::etcdserverpb as pb;
use crate::proto::weftpeer as peer;
use crate::raft::codec;
use crate::raft::network::Peers;
use crate::raft::types::{self, Command, Outcome, Raft};

/// Pause before a request that was not taken is tried again; half a heartbeat, so that a new leader is found soon.
const AGAIN: Duration = Duration::from_millis(50);

mod leases;

/// The running parts of one member.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) cluster_id: u64,
    pub(crate) config: Config,
    pub(crate) raft: Raft,
    pub(crate) mvcc: Shared,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) peers: Peers,
    pub(crate) standing: Standing,
    heard: Mutex<Instant>,
}

/// Who leads, as this member knows.
enum Leader {
    Nobody,
    Myself,
    Other(String),
}

/// How one attempt ended.
enum Attempt<T> {
    Done(T),
    /// Certainly not taken.
    Not,
    /// May have been taken.
    Unknown,
}

fn timed_out() -> Status {
    Status::unavailable(TIMED_OUT)
}

/// Whether the leader certainly did not take it.
fn not_taken(status: &Status) -> bool {
    status.message() == NOT_LEADER || crate::client::never_connected(status)
}

impl Node {
    pub(crate) fn new(
        cluster_id: u64,
        config: Config,
        raft: Raft,
        mvcc: Shared,
        deadlines: Arc<Deadlines>,
        peers: Peers,
        standing: Standing,
    ) -> Node {
        Node {
            id: *raft.node_id(),
            cluster_id,
            config,
            raft,
            mvcc,
            deadlines,
            peers,
            standing,
            heard: Mutex::new(Instant::now()),
        }
    }

    /// The leader called: it lives.
    pub(crate) fn heard_leader(&self) {
        *self.heard.lock().expect("nothing panics under this lock") = Instant::now();
    }

    /// Whether a leader is known and was heard of lately (as leader: whether a quorum was).
    pub(crate) fn has_leader(&self) -> bool {
        use openraft::async_runtime::watch::WatchReceiver;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let lately = self.config.election_max * 2;
        match metrics.current_leader {
            None => false,
            Some(leader) if leader == self.id => {
                let alone = metrics.membership_config.voter_ids().count() == 1;
                let acked = metrics.last_quorum_acked.as_ref();
                alone || acked.is_some_and(|at| at.elapsed() < lately)
            }
            Some(_) => {
                self.heard
                    .lock()
                    .expect("nothing panics under this lock")
                    .elapsed()
                    < lately
            }
        }
    }

    fn leader(&self) -> Leader {
        use openraft::async_runtime::watch::WatchReceiver;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        match metrics.current_leader {
            None => Leader::Nobody,
            Some(leader) if leader == self.id => Leader::Myself,
            Some(leader) => match metrics.membership_config.get_node(&leader) {
                Some(node) => Leader::Other(node.peer_url.clone()),
                None => Leader::Nobody,
            },
        }
    }

    /// The header of an answer; `revision` 0: the current one.
    pub(crate) fn header(&self, revision: i64) -> pb::ResponseHeader {
        use openraft::async_runtime::watch::WatchReceiver;
        let raft_term = self.raft.metrics().borrow_watched().current_term;
        let revision = if revision > 0 {
            revision
        } else {
            self.mvcc.revision()
        };
        pb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.id,
            revision,
            raft_term,
        }
    }

    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.config.request_timeout
    }

    /// Commits a command, wherever the leader is, and returns what applying it gave. This member has then applied it too,
    /// unless it lags by more than a second.
    pub(crate) async fn propose(&self, command: peer::Command) -> Result<Outcome, Status> {
        let deadline = self.deadline();
        loop {
            match self.try_propose(&command, deadline).await {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Unknown => return Err(timed_out()),
                Attempt::Not => {}
            }
            if tokio::time::Instant::now() + AGAIN >= deadline {
                return Err(Status::unavailable(NO_LEADER));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn try_propose(
        &self,
        command: &peer::Command,
        deadline: tokio::time::Instant,
    ) -> Attempt<Outcome> {
        match self.leader() {
            Leader::Nobody => Attempt::Not,
            Leader::Myself => match timeout_at(deadline, self.write_here(command.clone())).await {
                Ok(Attempt::Done((outcome, _))) => Attempt::Done(outcome),
                Ok(Attempt::Not) => Attempt::Not,
                Ok(Attempt::Unknown) | Err(_) => Attempt::Unknown,
            },
            Leader::Other(url) => {
                let Ok(mut client) = self.peers.client(&url) else {
                    return Attempt::Not;
                };
                match timeout_at(deadline, client.propose(command.clone())).await {
                    Ok(Ok(reply)) => self.proposed_elsewhere(reply.into_inner()).await,
                    Ok(Err(status)) if not_taken(&status) => Attempt::Not,
                    Ok(Err(_)) | Err(_) => Attempt::Unknown,
                }
            }
        }
    }

    async fn proposed_elsewhere(&self, reply: peer::ProposeReply) -> Attempt<Outcome> {
        let Some(outcome) = reply.outcome.and_then(codec::outcome_from) else {
            return Attempt::Unknown;
        };
        // So that this member's serializable reads and watches see what its client was told. Not more than a courtesy.
        let wait = self.raft.wait(Some(Duration::from_secs(1)));
        let _ = wait
            .applied_index_at_least(Some(reply.index), "forwarded write")
            .await;
        Attempt::Done(outcome)
    }

    async fn write_here(&self, command: peer::Command) -> Attempt<(Outcome, u64)> {
        match self.raft.client_write(Command(command)).await {
            Ok(written) => Attempt::Done((written.data, written.log_id.index)),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Attempt::Not,
            Err(_) => Attempt::Unknown,
        }
    }

    /// Commits a command if this member leads.
    pub(crate) async fn propose_here(
        &self,
        command: peer::Command,
    ) -> Result<peer::ProposeReply, Status> {
        match timeout_at(self.deadline(), self.write_here(command)).await {
            Ok(Attempt::Done((outcome, index))) => Ok(peer::ProposeReply {
                outcome: Some(codec::outcome_to(outcome)),
                index,
            }),
            Ok(Attempt::Not) => Err(Status::failed_precondition(NOT_LEADER)),
            Ok(Attempt::Unknown) | Err(_) => Err(timed_out()),
        }
    }

    /// Returns once this member has applied all that was committed anywhere before the call.
    pub(crate) async fn read_barrier(&self) -> Result<(), Status> {
        let deadline = self.deadline();
        loop {
            let index = match self.leader() {
                Leader::Nobody => None,
                Leader::Myself => timeout_at(deadline, self.read_index_here()).await.ok(),
                Leader::Other(url) => {
                    let mut client = self.peers.client(&url)?;
                    // An ex-leader that hangs must not cost the whole time: another one may lead by now.
                    let soon = tokio::time::Instant::now() + self.config.election_max;
                    let request = client.read_index(peer::ReadIndexRequest {});
                    let reply = timeout_at(soon.min(deadline), request).await.ok();
                    reply.map(|r| r.map(|r| r.into_inner().index))
                }
            };
            if let Some(Ok(index)) = index {
                let wait = self
                    .raft
                    .wait(Some(deadline.duration_since(tokio::time::Instant::now())));
                let applied = wait.applied_index_at_least(Some(index), "read").await;
                return applied.map(|_| ()).map_err(|_| timed_out());
            }
            if tokio::time::Instant::now() + AGAIN >= deadline {
                return Err(match self.leader() {
                    Leader::Nobody => Status::unavailable(NO_LEADER),
                    _ => timed_out(),
                });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The index that a linearizable read must see, if this member leads and a quorum confirms it now.
    pub(crate) async fn read_index_here(&self) -> Result<u64, Status> {
        let asked = self.raft.get_read_log_id(ReadPolicy::ReadIndex);
        match tokio::time::timeout(self.config.election_max, asked).await {
            Ok(Ok((read, _))) => Ok(read.index()),
            Ok(Err(RaftError::APIError(_))) => Err(Status::failed_precondition(NOT_LEADER)),
            Ok(Err(RaftError::Fatal(error))) => Err(Status::unavailable(error.to_string())),
            Err(_) => Err(timed_out()),
        }
    }

    /// How this member stands, for another that asks; a leader then lets one that returns be filled from the beginning.
    pub(crate) async fn tell(&self, asker: peer::Standing) -> Result<peer::Standing, Status> {
        let stopped = |e: openraft::errors::Fatal<types::TypeConfig>| {
            Status::unavailable(format!("this member has stopped: {e}"))
        };
        self.standing.hear(&asker);
        let mut told = self.standing.tell();
        let here = self.raft.with_raft_state(|state| {
            let last = state.log_ids.last().map_or(0, |id| id.index);
            let leads = state.server_state == openraft::ServerState::Leader;
            (state.vote_ref().leader_id.term, leads, last)
        });
        (told.term, told.leads, told.last_index) = here.await.map_err(stopped)?;
        let known = self.config.initial_cluster.len() > 1 && asker.cluster == self.cluster_id;
        if told.leads && known && asker.phase() == peer::Phase::Returning {
            let trigger = self.raft.trigger();
            // A member that is unknown here: then there is nothing to fill.
            let _ = trigger
                .allow_next_revert(&asker.id, true)
                .await
                .map_err(stopped)?;
        }
        Ok(told)
    }

    /// The members with what they published.
    pub(crate) fn members(&self) -> Vec<pb::Member> {
        use openraft::async_runtime::watch::WatchReceiver;
        let published = self.mvcc.published();
        let metrics = self.raft.metrics();
        let config = metrics.borrow_watched().membership_config.clone();
        let voters: Vec<u64> = config.voter_ids().collect();
        let nodes: BTreeMap<u64, types::Node> = config
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect();
        let members = nodes.into_iter().map(|(id, node)| {
            let told = published.get(&id);
            pb::Member {
                id,
                name: told.map_or_else(String::new, |p| p.name.clone()),
                peer_ur_ls: vec![node.peer_url],
                client_ur_ls: told.map_or_else(Vec::new, |p| p.client_urls.clone()),
                is_learner: !voters.contains(&id),
            }
        });
        members.collect()
    }
}
