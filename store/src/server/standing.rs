//! Whether this member may vote and acknowledge: only with the data that its earlier votes and acknowledgements rest on.
//!
//! **The danger.** An entry is committed once a majority holds it, a leader is elected by a majority that holds no more than
//! it. Both count on members that forget nothing. A member whose folder was emptied (disk replaced, folder removed) and
//! that comes back under its old id has forgotten: with one member that lagged it could elect a leader that lacks an
//! acknowledged write, or vote twice in a term. Nothing in Raft's messages shows this; so each folder has a random
//! *incarnation*, and a folder that is not known to be the right one answers no vote, no entry and no snapshot.
//!
//! **Founding** takes every founding member, once, not a majority. A majority cannot be enough: where n2 and n3 had founded
//! without n1, n2 lost its folder and n3 is down, n1 and n2 see exactly what they would see at a first start without n3.
//! Each member asks all others; once all are new it *promises*, on disk, to found with exactly these incarnations, and never
//! promises others. Once all have promised the same (or one is a member, which proves it) it writes the first log entry and
//! is a member. So before anything can be acknowledged, every member's disk knows the cluster: a member emptied later is
//! told so by any other that it reaches, and one that reaches not all of them does not found. Crashes resume where they were.
//!
//! **Returning.** An emptied member that is started with `--initial-cluster-state existing` is filled before it votes:
//! 1. Every other member must answer, after its start, with term and role. All, since any of them may hold, or still be about to
//!    count, the lost folder's last vote. So no leader above the greatest of these terms can count on that vote.
//! 2. It takes entries and snapshots only of terms from there on, and only once the leader of that term has told the end of
//!    its log. A deposed leader has a smaller term, and cannot use it to commit or to confirm a read.
//! 3. When its disk holds the log up to that end, it is a member. Whatever it had acknowledged and was committed is in that leader's
//!    log at that moment (the leader sent it, or was elected by a majority that intersects the committing one in another member than
//!    this one), hence also in any later leader's: those are elected without this member's vote until then.
//!
//! Two members emptied at once do not return: each waits for the other. With three members that is the loss of a majority.
//! This module decides and guards; `admission` asks the others and carries out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Notify, watch};
use tonic::Status;

use super::identity::{self, Phase, Record};
use crate::proto::weftpeer as peer;

/// What other members may do with this one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Nothing: it is not known yet what its folder is.
    Apart,
    /// Send it entries and snapshots of this term or a later one.
    Filling {
        /// Least term.
        term: u64,
    },
    /// Everything.
    Open,
    /// Nothing, for good: the reason.
    Refused(String),
}

/// This member's standing, shared by those who guard and the one task that changes it.
pub(crate) struct Standing {
    dir: PathBuf,
    record: Mutex<Record>,
    gate: watch::Sender<Gate>,
    /// Another member told something new.
    pub(super) news: Notify,
    heard: Mutex<HashMap<u64, (u64, i32)>>,
}

impl Standing {
    pub(super) fn new(dir: PathBuf, record: Record) -> Standing {
        let gate = match record.phase {
            Phase::Member => Gate::Open,
            _ => Gate::Apart,
        };
        Standing {
            dir,
            record: Mutex::new(record),
            gate: watch::channel(gate).0,
            news: Notify::new(),
            heard: Mutex::new(HashMap::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nothing panics under this lock")
    }

    pub(super) fn record(&self) -> Record {
        self.lock().clone()
    }

    /// Notes a new phase on disk, then acts by it.
    pub(super) fn enter(&self, phase: Phase, founders: BTreeMap<u64, u64>) -> io::Result<()> {
        let mut record = self.record();
        record.phase = phase;
        record.founders = founders;
        identity::write(&self.dir, &record)?;
        *self.lock() = record;
        if phase == Phase::Member {
            self.set(Gate::Open);
        }
        Ok(())
    }

    pub(super) fn set(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate.borrow().clone()
    }

    /// Whether this member votes and acknowledges.
    pub(crate) fn open(&self) -> bool {
        *self.gate.borrow() == Gate::Open
    }

    fn apart() -> Status {
        Status::unavailable("this member does not take part yet: its data folder is new")
    }

    /// Refuses to vote before this is a member.
    pub(crate) fn guard_vote(&self) -> Result<(), Status> {
        if self.open() {
            Ok(())
        } else {
            Err(Self::apart())
        }
    }

    /// Refuses to take what a leader of this term sends before this is a member or being filled.
    pub(crate) fn guard_append(&self, from_term: u64) -> Result<(), Status> {
        match *self.gate.borrow() {
            Gate::Open => Ok(()),
            Gate::Filling { term } if from_term >= term => Ok(()),
            _ => Err(Self::apart()),
        }
    }

    /// Takes note of what another member told of itself.
    pub(crate) fn hear(&self, told: &peer::Standing) {
        let now = (told.incarnation, told.phase);
        let mut heard = self.heard.lock().expect("nothing panics under this lock");
        if heard.insert(told.id, now) != Some(now) {
            self.news.notify_one();
        }
    }

    /// What this member tells; term, role and log are for the caller to fill in.
    pub(crate) fn tell(&self) -> peer::Standing {
        let record = self.record();
        let phase = match record.phase {
            Phase::New => peer::Phase::New,
            Phase::Promised => peer::Phase::Promised,
            Phase::Returning => peer::Phase::Returning,
            Phase::Member => peer::Phase::Member,
        };
        peer::Standing {
            cluster: record.cluster_id,
            id: record.id,
            incarnation: record.incarnation,
            phase: phase as i32,
            founders: record.founders.into_iter().collect(),
            ..Default::default()
        }
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask again; for whom or what it waits.
    Wait(String),
    /// Note the founders, then ask again.
    Promise(BTreeMap<u64, u64>),
    /// Write the first log entry.
    Found,
    /// Be filled from the leader of this term up to this index.
    Fill {
        /// The greatest term of all.
        term: u64,
        /// End of the leader's log.
        target: u64,
    },
    /// Never take part with this folder.
    Refuse(String),
}

/// The other members by name, with what each answered in one round.
pub(super) type Answers<'a> = [(&'a str, Option<peer::Standing>)];

/// Decides from this member's record and one round of answers.
pub(super) fn decide(own: &Record, answers: &Answers<'_>) -> Step {
    for (name, told) in answers {
        if told.as_ref().is_some_and(|t| t.cluster != own.cluster_id) {
            return Step::Wait(format!(
                "{name} belongs to another cluster; is --initial-cluster the same on all members?"
            ));
        }
    }
    match own.phase {
        Phase::New => found_anew(own, answers),
        Phase::Promised => found_promised(own, answers),
        Phase::Returning => rejoin(answers),
        Phase::Member => Step::Wait(String::new()),
    }
}

fn missing(answers: &Answers<'_>) -> Option<String> {
    let silent: Vec<&str> = answers
        .iter()
        .filter(|(_, t)| t.is_none())
        .map(|(n, _)| *n)
        .collect();
    (!silent.is_empty()).then(|| format!("no answer from {}", silent.join(", ")))
}

fn founders(told: &peer::Standing) -> BTreeMap<u64, u64> {
    told.founders.iter().map(|(id, i)| (*id, *i)).collect()
}

fn returning(answers: &Answers<'_>) -> Option<String> {
    let found = answers.iter().find(|(_, t)| {
        t.as_ref()
            .is_some_and(|t| t.phase() == peer::Phase::Returning)
    });
    found.map(|(name, _)| {
        format!("{name} was started with --initial-cluster-state existing, but there is no cluster yet; start it with `new`")
    })
}

fn found_anew(own: &Record, answers: &Answers<'_>) -> Step {
    let mut all = BTreeMap::from([(own.id, own.incarnation)]);
    let mut promised = None;
    for (name, told) in answers.iter().filter_map(|(n, t)| Some((n, t.as_ref()?))) {
        match told.phase() {
            peer::Phase::Member => {
                return Step::Refuse(format!("{name} is a member of the running cluster"));
            }
            peer::Phase::Promised => {
                let theirs = founders(told);
                if theirs.get(&own.id) != Some(&own.incarnation) {
                    return Step::Refuse(format!(
                        "{name} was founding the cluster with an earlier folder of this member"
                    ));
                }
                promised = Some(theirs);
            }
            peer::Phase::New | peer::Phase::Returning => {}
        }
        all.insert(told.id, told.incarnation);
    }
    if let Some(founders) = promised {
        return Step::Promise(founders);
    }
    match returning(answers).or_else(|| missing(answers)) {
        Some(why) => Step::Wait(why),
        None => Step::Promise(all),
    }
}

fn found_promised(own: &Record, answers: &Answers<'_>) -> Step {
    let mut waiting = missing(answers);
    for (name, told) in answers.iter().filter_map(|(n, t)| Some((n, t.as_ref()?))) {
        let same = founders(told) == own.founders;
        match told.phase() {
            // It could become one only after all had promised the same.
            peer::Phase::Member if same => return Step::Found,
            peer::Phase::Member => {
                return Step::Refuse(format!(
                    "{name} is a member of a cluster that was founded without this folder"
                ));
            }
            peer::Phase::Promised if same => {}
            _ if own.founders.get(&told.id) == Some(&told.incarnation) => {
                waiting = Some(format!("{name} has not promised yet"));
            }
            _ => {
                waiting = Some(format!(
                    "the founding was interrupted: {name} has lost its folder. If no member ever answered a client, stop all members, move all their folders away and start them together"
                ));
            }
        }
    }
    waiting.map_or(Step::Found, Step::Wait)
}

fn rejoin(answers: &Answers<'_>) -> Step {
    if let Some(why) = missing(answers) {
        return Step::Wait(why);
    }
    let told = || answers.iter().filter_map(|(_, t)| t.as_ref());
    if let Some((name, _)) = answers
        .iter()
        .find(|(_, t)| t.as_ref().is_some_and(|t| t.phase() != peer::Phase::Member))
    {
        return Step::Wait(format!("{name} is not a member itself"));
    }
    let term = told().map(|t| t.term).max().unwrap_or(0);
    match told().find(|t| t.leads && t.term == term) {
        Some(leader) => Step::Fill {
            term,
            target: leader.last_index,
        },
        None => Step::Wait("the others have no leader".to_owned()),
    }
}

#[cfg(test)]
mod tests;
