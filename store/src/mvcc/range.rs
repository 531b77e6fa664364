//! Reading keys at a revision.

use std::io;

use bytes::Bytes;
use prost::Message;

use super::disk;
use super::index::{Keys, Version};
use super::write::Writing;
use super::{Mvcc, Refusal, State};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::proto::mvccpb::KeyValue;

/// A header with only the revision; the rest is the answering member's.
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

impl State {
    pub(super) fn check_range(&self, request: &RangeRequest) -> Result<(), Refusal> {
        if request.revision > self.revision {
            Err(Refusal::FutureRevision)
        } else if request.revision > 0 && request.revision < self.compacted {
            Err(Refusal::Compacted)
        } else {
            Ok(())
        }
    }

    pub(super) fn load(&self, key: &[u8], version: Version) -> io::Result<KeyValue> {
        let place = disk::record_key(version.main, version.sub);
        let Some(bytes) = self.tree.get(place)? else {
            return Err(disk::damaged("a record is missing"));
        };
        let kv = KeyValue::decode(Bytes::copy_from_slice(&bytes));
        kv.ok()
            .filter(|kv| kv.key == key)
            .ok_or_else(|| disk::damaged("a record"))
    }
}

/// Where a range finds its versions and values: the state alone, or with a transaction's own writes.
pub(super) trait Source {
    fn state(&self) -> &State;
    fn value(&self, key: &[u8], version: Version) -> io::Result<KeyValue>;
    /// The revision told in the answer.
    fn told(&self) -> i64;
}

impl Source for State {
    fn state(&self) -> &State {
        self
    }
    fn value(&self, key: &[u8], version: Version) -> io::Result<KeyValue> {
        self.load(key, version)
    }
    fn told(&self) -> i64 {
        self.revision
    }
}

impl Source for Writing<'_> {
    fn state(&self) -> &State {
        self.state
    }
    fn value(&self, key: &[u8], version: Version) -> io::Result<KeyValue> {
        match self.pending(version) {
            Some(kv) => Ok(kv.clone()),
            None => self.state.load(key, version),
        }
    }
    fn told(&self) -> i64 {
        self.main_or_current()
    }
}

/// Reads a checked range.
pub(super) fn range(source: &impl Source, request: &RangeRequest) -> io::Result<RangeResponse> {
    let keys = Keys::new(request.key.clone(), request.range_end.clone());
    let revision = if request.revision > 0 {
        request.revision
    } else {
        i64::MAX
    };
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let filtered = request.min_mod_revision > 0
        || request.max_mod_revision > 0
        || request.min_create_revision > 0
        || request.max_create_revision > 0;
    let sorted =
        request.sort_target() != SortTarget::Key || request.sort_order() == SortOrder::Descend;
    let mut found: Vec<(&Bytes, Version)> = Vec::new();
    let mut count = 0;
    for (key, version) in source.state().index.range(&keys, revision) {
        count += 1;
        let enough = limit > 0 && !filtered && !sorted && found.len() > limit;
        if !request.count_only && !enough && wanted(request, version) {
            found.push((key, version));
        }
    }
    let sort_by_value = sorted && request.sort_target() == SortTarget::Value;
    let mut kvs = Vec::with_capacity(found.len());
    if !sort_by_value {
        sort(request, &mut found);
    }
    let total = found.len();
    if limit > 0 && !sort_by_value {
        found.truncate(limit);
    }
    for (key, version) in found {
        kvs.push(source.value(key, version)?);
    }
    if sort_by_value {
        kvs.sort_by(|a, b| a.value.cmp(&b.value));
        if request.sort_order() == SortOrder::Descend {
            kvs.reverse();
        }
        if limit > 0 {
            kvs.truncate(limit);
        }
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    Ok(RangeResponse {
        header: header(source.told()),
        more: limit > 0 && total > limit,
        kvs,
        count,
    })
}

fn wanted(request: &RangeRequest, version: Version) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (min <= 0 || value >= min) && (max <= 0 || value <= max);
    within(
        version.main,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        version.create,
        request.min_create_revision,
        request.max_create_revision,
    )
}

fn sort(request: &RangeRequest, found: &mut [(&Bytes, Version)]) {
    match request.sort_target() {
        SortTarget::Key | SortTarget::Value => {}
        SortTarget::Version => found.sort_by_key(|(_, v)| v.version),
        SortTarget::Create => found.sort_by_key(|(_, v)| v.create),
        SortTarget::Mod => found.sort_by_key(|(_, v)| v.main),
    }
    if request.sort_order() == SortOrder::Descend {
        found.reverse();
    }
}

impl Mvcc {
    /// Reads a range; `Err` inside: refused.
    pub(crate) fn range(
        &self,
        request: &RangeRequest,
    ) -> io::Result<Result<RangeResponse, Refusal>> {
        let state = self.read();
        match state.check_range(request) {
            Ok(()) => range(&*state, request).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }
}
