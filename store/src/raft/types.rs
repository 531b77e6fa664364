//! The types that openraft is told to work with.

use std::fmt;

use openraft::alias::{LogIdOf, StoredMembershipOf, VoteOf};
use prost::Message;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::mvcc::Refusal;
use crate::proto::weftpeer as peer;

/// A member as Raft keeps it: name and peer URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) peer_url: String,
}

/// A command in the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command(pub(crate) peer::Command);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use peer::command::Op;
        f.write_str(match &self.0.op {
            Some(Op::Put(_)) => "put",
            Some(Op::Delete(_)) => "delete",
            Some(Op::Txn(_)) => "txn",
            Some(Op::Compact(_)) => "compact",
            Some(Op::Grant(_)) => "lease grant",
            Some(Op::Revoke(_)) => "lease revoke",
            Some(Op::Publish(_)) => "publish",
            None => "unknown",
        })
    }
}

// openraft asks for serde where it is built with it; what travels and is stored is the protobuf form.
impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.encode_to_vec())
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Command, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let command = peer::Command::decode(&bytes[..]).map_err(serde::de::Error::custom)?;
        Ok(Command(command))
    }
}

/// What applying a command gave, for whoever proposed it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome(pub(crate) Result<peer::outcome::Result, Refusal>);

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcome = super::codec::outcome_to(self.clone());
        serializer.serialize_bytes(&outcome.encode_to_vec())
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let outcome = peer::Outcome::decode(&bytes[..]).map_err(serde::de::Error::custom)?;
        super::codec::outcome_from(outcome).ok_or_else(|| serde::de::Error::custom("empty outcome"))
    }
}

openraft::declare_raft_types!(
    /// The types of this store.
    pub(crate) TypeConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = Node,
);

pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, super::snapshot::SnapshotFile>;
pub(crate) type Raft = openraft::Raft<TypeConfig, super::state_machine::StateMachine>;
pub(crate) type Payload = openraft::EntryPayload<Command, u64, Node>;
