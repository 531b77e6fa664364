//! Between openraft's types and the protobuf forms that travel and are stored.

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use super::types::{Command, Entry, LeaderId, LogId, Outcome, Payload, TypeConfig, Vote};
use crate::mvcc::Refusal;
use crate::proto::weftpeer as peer;

/// A message that does not hold what it must.
#[derive(Debug, thiserror::Error)]
#[error("message of a member lacks or spoils `{0}`; do all members run the same version?")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for tonic::Status {
    fn from(error: Malformed) -> tonic::Status {
        tonic::Status::invalid_argument(error.to_string())
    }
}

pub(crate) fn log_id_to(id: &LogId) -> peer::LogId {
    peer::LogId {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id_from(id: peer::LogId) -> LogId {
    let leader = LeaderId {
        term: id.term,
        node_id: id.node,
    };
    LogId::new(leader, id.index)
}

pub(crate) fn vote_to(vote: &Vote) -> peer::Ballot {
    peer::Ballot {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from(ballot: peer::Ballot) -> Vote {
    if ballot.committed {
        Vote::new_committed(ballot.term, ballot.node)
    } else {
        Vote::new(ballot.term, ballot.node)
    }
}

pub(crate) fn entry_to(entry: &Entry) -> peer::Entry {
    use peer::entry::Payload as P;
    let payload = match &entry.payload {
        Payload::Blank => P::Blank(true),
        Payload::Normal(command) => P::Command(command.0.clone()),
        Payload::Membership(membership) => {
            let json = serde_json::to_vec(membership).expect("a membership has only string keys");
            P::Membership(Bytes::from(json))
        }
    };
    peer::Entry {
        id: Some(log_id_to(&entry.log_id)),
        payload: Some(payload),
    }
}

pub(crate) fn entry_from(entry: peer::Entry) -> Result<Entry, Malformed> {
    use peer::entry::Payload as P;
    let payload = match entry.payload.ok_or(Malformed("entry.payload"))? {
        P::Blank(_) => Payload::Blank,
        P::Command(command) => Payload::Normal(Command(command)),
        P::Membership(json) => {
            let membership = serde_json::from_slice(&json);
            Payload::Membership(membership.map_err(|_| Malformed("entry.membership"))?)
        }
    };
    let log_id = log_id_from(entry.id.ok_or(Malformed("entry.id"))?);
    Ok(Entry { log_id, payload })
}

pub(crate) fn append_to(request: &AppendEntriesRequest<TypeConfig>) -> peer::AppendRequest {
    peer::AppendRequest {
        vote: Some(vote_to(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to),
        entries: request.entries.iter().map(entry_to).collect(),
        commit: request.leader_commit.as_ref().map(log_id_to),
    }
}

pub(crate) fn append_from(
    request: peer::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote_from(request.vote.ok_or(Malformed("append.vote"))?),
        prev_log_id: request.previous.map(log_id_from),
        entries: request
            .entries
            .into_iter()
            .map(entry_from)
            .collect::<Result<_, _>>()?,
        leader_commit: request.commit.map(log_id_from),
    })
}

pub(crate) fn append_reply_to(reply: &AppendEntriesResponse<TypeConfig>) -> peer::AppendReply {
    use peer::append_reply::{Partial, Result as R};
    let result = match reply {
        AppendEntriesResponse::Success => R::Success(true),
        AppendEntriesResponse::PartialSuccess(upto) => R::Partial(Partial {
            upto: upto.as_ref().map(log_id_to),
        }),
        AppendEntriesResponse::Conflict => R::Conflict(true),
        AppendEntriesResponse::HigherVote(vote) => R::Higher(vote_to(vote)),
    };
    peer::AppendReply {
        result: Some(result),
    }
}

pub(crate) fn append_reply_from(
    reply: peer::AppendReply,
) -> Result<AppendEntriesResponse<TypeConfig>, Malformed> {
    use peer::append_reply::Result as R;
    Ok(match reply.result.ok_or(Malformed("append reply"))? {
        R::Success(_) => AppendEntriesResponse::Success,
        R::Partial(partial) => AppendEntriesResponse::PartialSuccess(partial.upto.map(log_id_from)),
        R::Conflict(_) => AppendEntriesResponse::Conflict,
        R::Higher(vote) => AppendEntriesResponse::HigherVote(vote_from(vote)),
    })
}

/// Numbers of refusals between members.
const REFUSALS: [(i32, Refusal); 5] = [
    (1, Refusal::Compacted),
    (2, Refusal::FutureRevision),
    (3, Refusal::LeaseNotFound),
    (4, Refusal::LeaseExists),
    (5, Refusal::KeyNotFound),
];

pub(crate) fn outcome_to(outcome: Outcome) -> peer::Outcome {
    let result = outcome.0.unwrap_or_else(|refusal| {
        let code = REFUSALS
            .iter()
            .find(|(_, r)| *r == refusal)
            .map_or(0, |(n, _)| *n);
        peer::outcome::Result::Refusal(peer::Refusal {
            code,
            message: format!("{refusal:?}"),
        })
    });
    peer::Outcome {
        result: Some(result),
    }
}

pub(crate) fn outcome_from(outcome: peer::Outcome) -> Option<Outcome> {
    match outcome.result? {
        peer::outcome::Result::Refusal(refusal) => {
            let found = REFUSALS.iter().find(|(n, _)| *n == refusal.code)?;
            Some(Outcome(Err(found.1.clone())))
        }
        result => Some(Outcome(Ok(result))),
    }
}
