//! Leases as replicated: their time to live and their keys. Deadlines are the leader's affair (`crate::lease`).

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Mvcc, Refusal, State};

/// A lease.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    /// Granted time to live in seconds.
    pub(crate) ttl: i64,
    /// Keys that go with it.
    pub(crate) keys: BTreeSet<Bytes>,
}

impl Lease {
    pub(super) fn new(ttl: i64) -> Lease {
        Lease {
            ttl,
            keys: BTreeSet::new(),
        }
    }

    pub(super) fn attach(&mut self, key: Bytes) {
        self.keys.insert(key);
    }
}

impl State {
    /// Whether a put may name this lease.
    pub(super) fn check_lease(&self, id: i64) -> Result<(), Refusal> {
        if id == 0 || self.leases.contains_key(&id) {
            Ok(())
        } else {
            Err(Refusal::LeaseNotFound)
        }
    }

    pub(super) fn detach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }
}

impl Mvcc {
    /// The lease, if it exists.
    pub(crate) fn lease(&self, id: i64) -> Option<Lease> {
        self.read().leases.get(&id).cloned()
    }

    /// All leases with their granted time to live in seconds.
    pub(crate) fn leases(&self) -> Vec<(i64, i64)> {
        self.read()
            .leases
            .iter()
            .map(|(id, l)| (*id, l.ttl))
            .collect()
    }
}
