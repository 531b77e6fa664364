//! The task by which a member with a new folder comes to take part: asks the others how they stand, does what `standing` decides.
//!
//! It asks anew at once when another member tells something new, so a first start waits for nobody's timer. It ends when the
//! member is one, is refused, or stops.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use rand::Rng;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::identity::Phase;
use super::node::Node;
use super::standing::{Gate, Step, decide};
use crate::proto::weftpeer as peer;
use crate::raft::log_store::LogStore;
use crate::raft::types;

/// How long another member may take to answer.
const ANSWER: Duration = Duration::from_millis(300);
/// Longest pause between two rounds, doubled up to from [`FIRST_PAUSE`]; news ends a pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Admission {
    pub(super) node: Arc<Node>,
    pub(super) log: LogStore,
    /// All founding members, this one too.
    pub(super) members: BTreeMap<u64, types::Node>,
}

type Answer = (String, Option<peer::Standing>);

impl Admission {
    /// Runs until it is decided; `first` is told after the first round.
    pub(super) async fn run(self, first: oneshot::Sender<()>, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.decide_all(first) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    async fn decide_all(&self, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut pause = FIRST_PAUSE;
        let mut said = String::new();
        while !self.node.standing.open() {
            let answers = self.ask().await;
            match self.act(&answers).await {
                Ok(None) => {
                    pause = FIRST_PAUSE;
                    continue;
                }
                Ok(Some(why)) => {
                    if first.is_none() && why != said {
                        tracing::warn!(member = self.node.config.name, why, "not taking part yet");
                        said = why;
                    }
                }
                Err(error) => tracing::error!(error, "cannot take part yet"),
            }
            first.take().map(|first| first.send(()));
            if matches!(self.node.standing.gate(), Gate::Refused(_)) {
                return;
            }
            self.pause(&mut pause).await;
        }
        first.take().map(|first| first.send(()));
        self.let_elect().await;
    }

    async fn pause(&self, longest: &mut Duration) {
        let most = longest.as_millis() as u64;
        let now = Duration::from_millis(rand::rng().random_range(most / 2..=most));
        *longest = (*longest * 2).min(LONGEST_PAUSE);
        let _ = timeout(now, self.node.standing.news.notified()).await;
    }

    /// One round: tells every other member how this one stands, and hears how they do.
    async fn ask(&self) -> Vec<Answer> {
        let own = self.node.standing.tell();
        let others = self.members.iter().filter(|(id, _)| **id != self.node.id);
        let asked = others.map(|(id, member)| {
            let own = own.clone();
            async move {
                let answer = async {
                    let mut client = self.node.peers.client(&member.peer_url).ok()?;
                    Some(client.tell(own).await.ok()?.into_inner())
                };
                let told = timeout(ANSWER, answer).await.ok().flatten();
                let told = told.filter(|t| t.id == *id || t.cluster != self.node.cluster_id);
                (format!("{} at {}", member.name, member.peer_url), told)
            }
        });
        futures::future::join_all(asked).await
    }

    /// Takes one step; what it waits for, or `None` to go on at once.
    async fn act(&self, answers: &[Answer]) -> Result<Option<String>, String> {
        let standing = &self.node.standing;
        let answers: Vec<(&str, Option<peer::Standing>)> = answers
            .iter()
            .map(|(name, told)| (name.as_str(), told.clone()))
            .collect();
        match decide(&standing.record(), &answers) {
            Step::Wait(why) => return Ok(Some(why)),
            Step::Promise(founders) => self.enter(Phase::Promised, founders)?,
            Step::Found => {
                self.found().await?;
                let founders = standing.record().founders;
                self.enter(Phase::Member, founders)?;
            }
            Step::Fill { term, target } => {
                let told = answers.iter().filter_map(|(_, t)| t.as_ref());
                let founders = told.map(|t| &t.founders).find(|f| !f.is_empty());
                let founders = founders.map(|f| f.iter().map(|(id, i)| (*id, *i)).collect());
                // Noted before the first entry: half filled it must not be taken for whole.
                self.enter(Phase::Returning, founders.unwrap_or_default())?;
                standing.set(Gate::Filling { term });
                tracing::info!(term, target, "being filled from the leader");
                if self.filled(term, target).await {
                    self.enter(Phase::Member, standing.record().founders)?;
                    tracing::info!(member = self.node.config.name, "is a voting member again");
                }
            }
            Step::Refuse(why) => {
                tracing::error!(
                    member = self.node.config.name,
                    why,
                    "this member's data is gone"
                );
                standing.set(Gate::Refused(why));
                return Ok(Some(String::new()));
            }
        }
        Ok(None)
    }

    fn enter(&self, phase: Phase, founders: BTreeMap<u64, u64>) -> Result<(), String> {
        let noted = self.node.standing.enter(phase, founders);
        noted.map_err(|e| format!("note the phase in the data folder: {e}"))
    }

    /// Every founding member writes the same first entry, so it does not matter who does so or how often.
    async fn found(&self) -> Result<(), String> {
        match self.node.raft.initialize(self.members.clone()).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(format!("found the cluster: {error}")),
        }
        self.log.wait_durable(0).await;
        Ok(())
    }

    /// Whether the disk holds the log up to `target`; not, if meanwhile another term began: then all are asked again.
    async fn filled(&self, term: u64, target: u64) -> bool {
        let mut metrics = self.node.raft.metrics();
        let another = async {
            while metrics.borrow_watched().current_term <= term {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.log.wait_durable(target) => true,
            () = another => false,
            // The leader may be gone without a successor.
            () = tokio::time::sleep(self.node.config.election_max * 4) => false,
        }
    }

    /// Lets this member ask for elections. After a founding one goes first, so that votes are not split: as soon as all
    /// the others are members too, for one that is not yet refuses its vote; these only if that one fails.
    async fn let_elect(&self) {
        let goes_first = self.members.keys().next() == Some(&self.node.id);
        let ready = async {
            loop {
                let answers = self.ask().await;
                let members = answers.iter().filter(|(_, told)| {
                    told.as_ref()
                        .is_some_and(|t| t.phase() == peer::Phase::Member)
                });
                if goes_first && members.count() + 1 == self.members.len() {
                    return;
                }
                if !goes_first
                    && self
                        .node
                        .raft
                        .metrics()
                        .borrow_watched()
                        .current_leader
                        .is_some()
                {
                    return;
                }
                self.pause(&mut FIRST_PAUSE.clone()).await;
            }
        };
        let in_time = timeout(self.node.config.election_min, ready).await.is_ok();
        self.node.raft.runtime_config().elect(true);
        if goes_first && in_time {
            // At once, not at the next timeout; refused if there is a leader already.
            let _ = self.node.raft.trigger().elect(true).await;
        }
    }
}
