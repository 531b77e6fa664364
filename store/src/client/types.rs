//! The client's own types: what callers see instead of wire messages.

use bytes::Bytes;

use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb;

/// One key with its value and history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// The value; empty if only keys were asked for, or in a delete event.
    pub value: Bytes,
    /// Revision of the put that made the key.
    pub create_revision: i64,
    /// Revision of the last put or delete.
    pub mod_revision: i64,
    /// Puts since it was made.
    pub version: i64,
    /// Lease it is attached to; 0: none.
    pub lease: i64,
}

impl KeyValue {
    /// The key as text; empty if it is not UTF-8.
    pub fn key_str(&self) -> &str {
        std::str::from_utf8(&self.key).unwrap_or("")
    }
}

impl From<mvccpb::KeyValue> for KeyValue {
    fn from(kv: mvccpb::KeyValue) -> KeyValue {
        KeyValue {
            key: kv.key.to_vec(),
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// Which keys are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub(super) key: Vec<u8>,
    pub(super) end: Vec<u8>,
}

impl KeyRange {
    /// Whether a key is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end.as_slice() {
            [] => key == self.key,
            // etcd: everything from the key on.
            [0] => key >= self.key.as_slice(),
            end => (self.key.as_slice()..end).contains(&key),
        }
    }

    /// Exactly this key.
    pub fn key(key: impl Into<Vec<u8>>) -> KeyRange {
        KeyRange {
            key: key.into(),
            end: Vec::new(),
        }
    }
    /// All keys that start with `prefix`; the empty prefix means all keys.
    pub fn prefix(prefix: impl Into<Vec<u8>>) -> KeyRange {
        let key: Vec<u8> = prefix.into();
        let mut end = key.clone();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return KeyRange { key, end };
            }
        }
        KeyRange {
            key: if key.is_empty() { vec![0] } else { key },
            end: vec![0],
        }
    }
    /// Keys from `first` up to, not including, `end`.
    pub fn range(first: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> KeyRange {
        KeyRange {
            key: first.into(),
            end: end.into(),
        }
    }
    /// All keys.
    pub fn all() -> KeyRange {
        KeyRange::prefix("")
    }
}

/// How to read a range. The default: newest revision, everything, linearizable, ordered by key.
#[derive(Clone, Copy, Debug, Default)]
pub struct RangeOptions {
    /// Read as of this revision; 0: the newest.
    pub revision: i64,
    /// At most so many keys; 0: all.
    pub limit: i64,
    /// Leave values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Read what the asked member has, without asking the quorum: it may be stale.
    pub serializable: bool,
}

/// Answer to a range.
#[derive(Clone, Debug, Default)]
pub struct RangeReply {
    /// The store's revision when it answered.
    pub revision: i64,
    /// The keys, in order.
    pub kvs: Vec<KeyValue>,
    /// How many keys match, also those beyond the limit.
    pub count: i64,
}

/// A condition of a transaction.
#[derive(Clone, Debug)]
pub struct Compare(pub(super) pb::Compare);

impl Compare {
    fn new(
        key: impl Into<Vec<u8>>,
        target: pb::compare::CompareTarget,
        value: pb::compare::TargetUnion,
    ) -> Compare {
        Compare(pb::Compare {
            result: pb::compare::CompareResult::Equal as i32,
            target: target as i32,
            key: Bytes::from(key.into()),
            range_end: Bytes::new(),
            target_union: Some(value),
        })
    }
    /// The key does not exist.
    pub fn absent(key: impl Into<Vec<u8>>) -> Compare {
        Compare::new(
            key,
            pb::compare::CompareTarget::Create,
            pb::compare::TargetUnion::CreateRevision(0),
        )
    }
    /// The key exists.
    pub fn present(key: impl Into<Vec<u8>>) -> Compare {
        let mut compare = Compare::absent(key);
        compare.0.result = pb::compare::CompareResult::NotEqual as i32;
        compare
    }
    /// The key was last changed at this revision; 0: it does not exist.
    pub fn mod_revision(key: impl Into<Vec<u8>>, revision: i64) -> Compare {
        Compare::new(
            key,
            pb::compare::CompareTarget::Mod,
            pb::compare::TargetUnion::ModRevision(revision),
        )
    }
    /// No key of the range was written after this revision (an empty range never was).
    pub fn none_since(range: KeyRange, revision: i64) -> Compare {
        let mut compare = Compare::mod_revision(range.key, revision.saturating_add(1));
        compare.0.result = pb::compare::CompareResult::Less as i32;
        compare.0.range_end = Bytes::from(range.end);
        compare
    }
    /// The key has exactly this value.
    pub fn value(key: impl Into<Vec<u8>>, value: impl Into<Bytes>) -> Compare {
        Compare::new(
            key,
            pb::compare::CompareTarget::Value,
            pb::compare::TargetUnion::Value(value.into()),
        )
    }
    /// The key is attached to this lease.
    pub fn lease(key: impl Into<Vec<u8>>, lease: i64) -> Compare {
        Compare::new(
            key,
            pb::compare::CompareTarget::Lease,
            pb::compare::TargetUnion::Lease(lease),
        )
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    /// Write a key; lease 0: none.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Bytes,
        /// The lease.
        lease: i64,
    },
    /// Delete keys.
    Delete(KeyRange),
    /// Read keys within the transaction.
    Range(KeyRange, RangeOptions),
}

impl Op {
    /// Write a key without a lease.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Bytes>) -> Op {
        Op::put_leased(key, value, 0)
    }
    /// Write a key that goes away with the lease.
    pub fn put_leased(key: impl Into<Vec<u8>>, value: impl Into<Bytes>, lease: i64) -> Op {
        Op::Put {
            key: key.into(),
            value: value.into(),
            lease,
        }
    }
    /// Delete one key.
    pub fn delete(key: impl Into<Vec<u8>>) -> Op {
        Op::Delete(KeyRange::key(key))
    }
    /// Read one key.
    pub fn get(key: impl Into<Vec<u8>>) -> Op {
        Op::Range(KeyRange::key(key), RangeOptions::default())
    }
    pub(super) fn into_proto(self) -> pb::RequestOp {
        use pb::request_op::Request;
        let request = match self {
            Op::Put { key, value, lease } => Request::RequestPut(pb::PutRequest {
                key: key.into(),
                value,
                lease,
                ..Default::default()
            }),
            Op::Delete(range) => Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: range.key.into(),
                range_end: range.end.into(),
                prev_kv: false,
            }),
            Op::Range(range, options) => Request::RequestRange(range_request(range, options)),
        };
        pb::RequestOp {
            request: Some(request),
        }
    }
}

pub(super) fn range_request(range: KeyRange, options: RangeOptions) -> pb::RangeRequest {
    pb::RangeRequest {
        key: range.key.into(),
        range_end: range.end.into(),
        limit: options.limit,
        revision: options.revision,
        serializable: options.serializable,
        keys_only: options.keys_only,
        count_only: options.count_only,
        ..Default::default()
    }
}

pub(super) fn range_reply(response: pb::RangeResponse) -> RangeReply {
    RangeReply {
        revision: response.header.map_or(0, |h| h.revision),
        kvs: response.kvs.into_iter().map(KeyValue::from).collect(),
        count: response.count,
    }
}

/// A transaction: if all `compares` hold, `then`, else `otherwise`; at one revision.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// Conditions; all must hold.
    pub compares: Vec<Compare>,
    /// Done if they hold.
    pub then: Vec<Op>,
    /// Done if not.
    pub otherwise: Vec<Op>,
}

impl Txn {
    /// A transaction with conditions and what to do if they hold.
    pub fn new(compares: Vec<Compare>, then: Vec<Op>) -> Txn {
        Txn {
            compares,
            then,
            otherwise: Vec::new(),
        }
    }
    /// Adds what to do if they do not hold.
    pub fn or_else(mut self, otherwise: Vec<Op>) -> Txn {
        self.otherwise = otherwise;
        self
    }
    /// Whether it changes nothing in any case, so that it may be repeated freely.
    pub(super) fn read_only(&self) -> bool {
        let reads = |ops: &[Op]| ops.iter().all(|op| matches!(op, Op::Range(..)));
        reads(&self.then) && reads(&self.otherwise)
    }
}

/// Answer to one operation of a transaction.
#[derive(Clone, Debug)]
pub enum OpReply {
    /// The put was done.
    Put,
    /// So many keys were deleted.
    Deleted(i64),
    /// What was read.
    Range(RangeReply),
}

/// Answer to a transaction.
#[derive(Clone, Debug)]
pub struct TxnReply {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// The store's revision after it.
    pub revision: i64,
    /// One answer for each operation done, in order.
    pub responses: Vec<OpReply>,
}

/// Put or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was written.
    Put,
    /// The key is gone: deleted, or its lease ended.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after it; for a delete only key and `mod_revision` are set.
    pub kv: KeyValue,
}

/// All changes of one response, of whole revisions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvents {
    /// Everything up to and including this revision has been told.
    pub revision: i64,
    /// The changes.
    pub events: Vec<Event>,
}

/// A member of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has published it.
    pub name: String,
    /// Where members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has published them.
    pub client_urls: Vec<String>,
    /// Whether it only learns and does not vote.
    pub learner: bool,
}

/// State of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The member that answered.
    pub member: u64,
    /// The leader it knows; 0: none.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// Its revision.
    pub revision: i64,
    /// Last log index it has.
    pub log_index: u64,
    /// Last log index it applied.
    pub applied_index: u64,
    /// Size of its state on disk in bytes.
    pub db_size: i64,
    /// Version of its program.
    pub version: String,
}
