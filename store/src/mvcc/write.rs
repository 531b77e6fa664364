//! The one way in which the state changes: a log entry becomes one batch.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use prost::Message;

use super::disk::{self, REVISION};
use super::history::Change;
use super::index::{Keys, Version};
use super::lease::Lease;
use super::load::put_applied;
use super::range::header;
use super::{Mvcc, Refusal, State};
use crate::proto::etcdserverpb as pb;
use crate::proto::mvccpb::KeyValue;
use crate::proto::weftpeer as peer;
use crate::raft::types::{LogId, StoredMembership};
use peer::command::Op;
use peer::outcome::Result as Done;

/// A change under way: the state with the new versions, the batch that will make them lasting.
pub(super) struct Writing<'a> {
    pub(super) state: &'a mut State,
    pub(super) batch: sled::Batch,
    /// The revision that this change gets if it writes anything.
    main: i64,
    written: BTreeMap<u32, KeyValue>,
}

impl Writing<'_> {
    pub(super) fn main_or_current(&self) -> i64 {
        if self.written.is_empty() {
            self.state.revision
        } else {
            self.main
        }
    }

    pub(super) fn pending(&self, version: Version) -> Option<&KeyValue> {
        (version.main == self.main).then(|| self.written.get(&version.sub))?
    }

    fn record(&mut self, kv: KeyValue) {
        let sub = u32::try_from(self.written.len()).expect("a request holds far fewer writes");
        let version = Version {
            main: self.main,
            sub,
            create: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
        };
        // The index keeps its own copy of the key: `kv.key` is a view into the whole request.
        self.state
            .index
            .push(Bytes::copy_from_slice(&kv.key), version);
        self.batch
            .insert(&disk::record_key(self.main, sub), kv.encode_to_vec());
        self.written.insert(sub, kv);
    }

    pub(super) fn value_now(&self, key: &[u8]) -> io::Result<Option<KeyValue>> {
        use super::range::Source;
        match self.state.index.get(key, i64::MAX) {
            Some(version) => self.value(key, version).map(Some),
            None => Ok(None),
        }
    }

    /// A checked put.
    pub(super) fn put(&mut self, request: &pb::PutRequest) -> io::Result<pb::PutResponse> {
        let before = self.state.index.get(&request.key, i64::MAX);
        let needs_value = request.prev_kv || request.ignore_value;
        let old = if needs_value {
            self.value_now(&request.key)?
        } else {
            None
        };
        let lease = match before {
            Some(version) if request.ignore_lease => version.lease,
            _ => request.lease,
        };
        let value = match &old {
            Some(old) if request.ignore_value => old.value.clone(),
            _ => request.value.clone(),
        };
        if let Some(version) = before
            && version.lease != lease
        {
            self.state.detach(version.lease, &request.key);
        }
        if let Some(held) = self.state.leases.get_mut(&lease) {
            held.attach(Bytes::copy_from_slice(&request.key));
        }
        self.record(KeyValue {
            key: request.key.clone(),
            create_revision: before.map_or(self.main, |v| v.create),
            mod_revision: self.main,
            version: before.map_or(1, |v| v.version + 1),
            value,
            lease,
        });
        Ok(pb::PutResponse {
            header: header(self.main),
            prev_kv: old.filter(|_| request.prev_kv),
        })
    }

    pub(super) fn delete(
        &mut self,
        request: &pb::DeleteRangeRequest,
    ) -> io::Result<pb::DeleteRangeResponse> {
        let keys = Keys::new(request.key.clone(), request.range_end.clone());
        let gone: Vec<(Bytes, Version)> = self
            .state
            .index
            .range(&keys, i64::MAX)
            .map(|(key, version)| (key.clone(), version))
            .collect();
        let mut prev_kvs = Vec::new();
        if request.prev_kv {
            for (key, version) in &gone {
                use super::range::Source;
                prev_kvs.push(self.value(key, *version)?);
            }
        }
        let deleted = gone.len() as i64;
        for (key, version) in gone {
            self.remove(key, version.lease);
        }
        Ok(pb::DeleteRangeResponse {
            header: header(self.main_or_current()),
            deleted,
            prev_kvs,
        })
    }

    fn remove(&mut self, key: Bytes, lease: i64) {
        self.state.detach(lease, &key);
        self.record(KeyValue {
            key,
            mod_revision: self.main,
            ..Default::default()
        });
    }

    fn grant(
        &mut self,
        request: &pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, Refusal> {
        if self.state.leases.contains_key(&request.id) {
            return Err(Refusal::LeaseExists);
        }
        self.state
            .leases
            .insert(request.id, Lease::new(request.ttl));
        self.batch
            .insert(&disk::lease_key(request.id), &request.ttl.to_be_bytes());
        Ok(pb::LeaseGrantResponse {
            header: header(self.state.revision),
            id: request.id,
            ttl: request.ttl,
            error: String::new(),
        })
    }

    fn revoke(&mut self, id: i64) -> Result<pb::LeaseRevokeResponse, Refusal> {
        let Some(lease) = self.state.leases.remove(&id) else {
            return Err(Refusal::LeaseNotFound);
        };
        self.batch.remove(&disk::lease_key(id));
        for key in lease.keys {
            self.remove(key, id);
        }
        Ok(pb::LeaseRevokeResponse {
            header: header(self.main_or_current()),
        })
    }

    fn run(&mut self, op: &Op) -> io::Result<Result<Done, Refusal>> {
        Ok(Ok(match op {
            Op::Put(request) => {
                if let Err(refusal) = self.state.check_put(request) {
                    return Ok(Err(refusal));
                }
                Done::Put(self.put(request)?)
            }
            Op::Delete(request) => Done::Delete(self.delete(request)?),
            Op::Txn(request) => match self.txn(request)? {
                Ok(response) => Done::Txn(response),
                Err(refusal) => return Ok(Err(refusal)),
            },
            Op::Compact(request) => match self.state.compact(request.revision, &mut self.batch) {
                Ok(()) => Done::Compact(pb::CompactionResponse {
                    header: header(self.state.revision),
                }),
                Err(refusal) => return Ok(Err(refusal)),
            },
            Op::Grant(request) => match self.grant(request) {
                Ok(response) => Done::Grant(response),
                Err(refusal) => return Ok(Err(refusal)),
            },
            Op::Revoke(request) => match self.revoke(request.id) {
                Ok(response) => Done::Revoke(response),
                Err(refusal) => return Ok(Err(refusal)),
            },
            Op::Publish(publish) => {
                self.state.published.insert(publish.id, publish.clone());
                self.batch
                    .insert(&disk::publish_key(publish.id), publish.encode_to_vec());
                Done::Done(true)
            }
        }))
    }
}

impl State {
    pub(super) fn check_put(&self, request: &pb::PutRequest) -> Result<(), Refusal> {
        if !request.ignore_lease {
            self.check_lease(request.lease)?;
        }
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.index.get(&request.key, i64::MAX).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }
}

impl Mvcc {
    /// Applies a committed entry. `None`: an entry without a command (a new leader's first, or a membership).
    pub(crate) fn apply(
        &self,
        log: LogId,
        membership: Option<StoredMembership>,
        command: Option<&peer::Command>,
    ) -> io::Result<Result<Done, Refusal>> {
        let op = command.and_then(|c| c.op.as_ref());
        let history = matches!(op, Some(Op::Compact(_)))
            .then(|| self.history.write().expect("history's holder panicked"));
        let mut state = self.state.write().expect("the state's writer panicked");
        let main = state.revision + 1;
        let mut writing = Writing {
            state: &mut state,
            batch: sled::Batch::default(),
            main,
            written: BTreeMap::new(),
        };
        let outcome = match op {
            Some(op) => writing.run(op)?,
            None => Ok(Done::Done(true)),
        };
        let Writing {
            mut batch, written, ..
        } = writing;
        state.applied.log = Some(log);
        if let Some(membership) = membership {
            state.applied.membership = membership;
        }
        put_applied(&mut batch, &state.applied)?;
        if !written.is_empty() {
            batch.insert(REVISION, &main.to_be_bytes());
        }
        state.tree.apply_batch(batch)?;
        drop(history);
        if !written.is_empty() {
            state.revision = main;
            self.recent
                .push(main, written.into_values().map(Change::new).collect());
            // Under the lock: whoever is told a revision reads at least that one.
            self.revision.send_replace(main);
        }
        Ok(outcome)
    }
}
