//! Versions by key, in memory: answers which version of which key a revision sees.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Its revision.
    pub(crate) main: i64,
    /// Its place within the revision.
    pub(crate) sub: u32,
    /// Revision of the put that made the key; 0 for a deletion.
    pub(crate) create: i64,
    /// Puts since then; 0: this is a deletion.
    pub(crate) version: i64,
    /// Lease; 0: none.
    pub(crate) lease: i64,
}

impl Version {
    pub(crate) fn deleted(&self) -> bool {
        self.version == 0
    }
}

/// A range of keys as etcd writes it: empty end: the one key; end `\0`: from the key on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    first: Bytes,
    end: Bytes,
}

impl Keys {
    pub(crate) fn new(first: Bytes, end: Bytes) -> Keys {
        Keys { first, end }
    }

    pub(crate) fn single(&self) -> bool {
        self.end.is_empty()
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        if self.single() {
            return key == self.first;
        }
        key >= &self.first[..] && (self.open() || key < &self.end[..])
    }

    fn open(&self) -> bool {
        self.end[..] == [0]
    }

    /// As bounds; `None` if no key can be in it.
    pub(super) fn bounds(&self) -> Option<Bounds<'_>> {
        let first = Bound::Included(&self.first[..]);
        if self.single() {
            Some((first, Bound::Included(&self.first[..])))
        } else if self.open() {
            Some((first, Bound::Unbounded))
        } else if self.first < self.end {
            Some((first, Bound::Excluded(&self.end[..])))
        } else {
            None
        }
    }
}

/// First and last key as `BTreeMap::range` takes them.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// All versions, each key's in order.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Bytes, Vec<Version>>,
}

impl Index {
    pub(super) fn push(&mut self, key: Bytes, version: Version) {
        self.keys.entry(key).or_default().push(version);
    }

    /// The key's version that `revision` sees, if the key exists there.
    pub(super) fn get(&self, key: &[u8], revision: i64) -> Option<Version> {
        visible(self.keys.get(key)?, revision)
    }

    /// Keys of a range that exist at `revision`, in order.
    pub(super) fn range<'a>(
        &'a self,
        keys: &'a Keys,
        revision: i64,
    ) -> impl Iterator<Item = (&'a Bytes, Version)> + 'a {
        keys.bounds()
            .into_iter()
            .flat_map(move |bounds| self.keys.range::<[u8], _>(bounds))
            .filter_map(move |(key, versions)| Some((key, visible(versions, revision)?)))
    }

    /// Forgets what no revision from `compacted` on needs; returns the places of the forgotten records.
    ///
    /// The newest version up to `compacted` stays, unless it is a deletion of an older revision: a deletion
    /// at exactly `compacted` stays, because a watch may start there.
    pub(super) fn compact(&mut self, compacted: i64) -> Vec<(i64, u32)> {
        let mut gone = Vec::new();
        self.keys.retain(|_, versions| {
            let upto = versions.partition_point(|v| v.main <= compacted);
            let keep = match upto.checked_sub(1) {
                None => 0,
                Some(last) if versions[last].deleted() && versions[last].main < compacted => upto,
                Some(last) => last,
            };
            gone.extend(versions.drain(..keep).map(|v| (v.main, v.sub)));
            !versions.is_empty()
        });
        gone.sort_unstable();
        gone
    }

    /// All versions up to `revision` in order of their places.
    pub(super) fn places_upto(&self, revision: i64) -> Vec<(i64, u32)> {
        let mut places: Vec<(i64, u32)> = self
            .keys
            .values()
            .flatten()
            .filter(|v| v.main <= revision)
            .map(|v| (v.main, v.sub))
            .collect();
        places.sort_unstable();
        places
    }
}

fn visible(versions: &[Version], revision: i64) -> Option<Version> {
    let upto = versions.partition_point(|v| v.main <= revision);
    let version = versions[..upto].last()?;
    (!version.deleted()).then_some(*version)
}
