//! Versions of chains: who carries them, which one classifies, which steering blocks are to be
//! allocated and which given back.
//!
//! A node carries a version when an endpoint of one of its networks is there. Traffic is classified by
//! the newest version that every living carrier has in its tables (`ready/<node>`); a node counts
//! itself as ready, for it fills positions before rules. Once a node classifies by a version it never
//! goes back because another node joins: the version it remembers stays until a newer one is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_chain::policy::has_all;
use weft_ebpf_abi::STEER_ID_MAX;
use weft_overlay::documents::InstanceDoc;
use weft_overlay::keys::Key;
use weft_overlay::{ChainName, InterfaceName, NetworkRef, NodeName, TenantName};

use super::desired::{Expect, Write, WriteOp};
use crate::local::LocalState;
use crate::mirror::{ChainKey, InstanceKey, State, VersionKey};

mod view;

pub use view::{HopView, VersionView, view};

/// How long a version is carried after a newer one is complete, so that packets on their way arrive.
pub const RETAIN: Duration = Duration::from_secs(60);

/// The nodes that carry a version, alive or not.
pub fn carriers(state: &State, key: &VersionKey) -> BTreeSet<NodeName> {
    let Some(doc) = state.versions.get(key) else {
        return BTreeSet::new();
    };
    let view = view(&key.0, &doc.value);
    view.networks
        .iter()
        .flat_map(|n| state.endpoints_of(n))
        .map(|(_, e)| e.node.clone())
        .collect()
}

/// Whether the networks of a version are among the documents: a node knows those that it is in.
fn knows_carriers(state: &State, key: &VersionKey) -> bool {
    state.versions.get(key).is_some_and(|doc| {
        let networks = view(&key.0, &doc.value).networks;
        networks.iter().all(|n| state.networks.contains_key(n))
    })
}

/// Whether every living carrier, `besides` one, has the version in its tables.
fn is_complete(state: &State, key: &VersionKey, besides: Option<&NodeName>) -> bool {
    let none = BTreeSet::new();
    let ready = state.ready.get(key).unwrap_or(&none);
    carriers(state, key)
        .iter()
        .filter(|n| Some(*n) != besides && state.is_alive(n))
        .all(|n| ready.contains(n))
}

/// The versions of a chain, oldest first.
pub fn versions(state: &State, tenant: &TenantName, chain: &ChainName) -> Vec<VersionKey> {
    let of = |key: &&VersionKey| key.0 == *tenant && key.1 == *chain;
    state.versions.keys().filter(of).cloned().collect()
}

/// The newest version that all its living carriers have.
pub fn complete_version(state: &State, tenant: &TenantName, chain: &ChainName) -> Option<u64> {
    versions(state, tenant, chain)
        .iter()
        .rev()
        .find(|k| is_complete(state, k, None))
        .map(|k| k.2)
}

/// The name under which a node remembers a chain.
pub fn memory_key(chain: &ChainKey) -> String {
    format!("{}/{}", chain.0, chain.1)
}

/// The version that each chain is classified by on node `me`, given what it remembers.
pub fn classified(state: &State, local: &LocalState, me: &NodeName) -> BTreeMap<ChainKey, u64> {
    let mut result = BTreeMap::new();
    for chain in state.chains.keys() {
        let all = versions(state, &chain.0, &chain.1);
        if !all.iter().all(|key| knows_carriers(state, key)) {
            continue;
        }
        let complete = all
            .iter()
            .rev()
            .find(|k| is_complete(state, k, Some(me)))
            .map(|k| k.2);
        let remembered = local.classified.get(&memory_key(chain)).copied();
        let remembered = remembered.filter(|v| all.iter().any(|k| k.2 == *v));
        if let Some(version) = complete.max(remembered) {
            result.insert(chain.clone(), version);
        }
    }
    result
}

/// Versions that this node is to have in its tables: every one that exists of a chain that it carries.
pub fn carried(state: &State, local: &LocalState) -> Vec<VersionKey> {
    let here: BTreeSet<&NetworkRef> = local.interfaces().map(|(_, i)| &i.network).collect();
    state
        .versions
        .iter()
        .filter(|(key, doc)| {
            view(&key.0, &doc.value)
                .networks
                .iter()
                .any(|n| here.contains(n))
        })
        .map(|(key, _)| key.clone())
        .collect()
}

/// An instance that has no steering block yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Where its document stands.
    pub key: InstanceKey,
    /// Its endpoints.
    pub doc: InstanceDoc,
    /// Revision of the version's document.
    pub version_revision: i64,
}

/// The instances of hops that containers of this node are, and those documents do not have.
/// The block in them is still 0.
pub fn missing_instances(state: &State, local: &LocalState, me: &NodeName) -> Vec<Missing> {
    let mut missing = Vec::new();
    for (version, doc) in &state.versions {
        for hop in &view(&version.0, &doc.value).hops {
            for (container, input, output) in members(state, local, &version.0, hop) {
                let key = (
                    version.0.clone(),
                    version.1.clone(),
                    version.2,
                    hop.name.clone(),
                    container,
                );
                let there = state.instances.get(&key).map(|d| &d.value);
                if there.is_some_and(|d| d.node == *me && d.input == input && d.output == output) {
                    continue;
                }
                // Another node's document goes first: its container was moved here.
                if there.is_some() {
                    continue;
                }
                let instance = InstanceDoc {
                    block: 0,
                    node: me.clone(),
                    input,
                    output,
                };
                missing.push(Missing {
                    key,
                    doc: instance,
                    version_revision: doc.revision,
                });
            }
        }
    }
    missing
}

type Member = (
    weft_overlay::ContainerName,
    weft_overlay::EndpointName,
    weft_overlay::EndpointName,
);

/// The containers here that serve a hop, with the endpoints of its two interfaces.
fn members(state: &State, local: &LocalState, tenant: &TenantName, hop: &HopView) -> Vec<Member> {
    local
        .containers
        .iter()
        .filter(|(c, _)| c.tenant == *tenant)
        .filter(|(c, _)| {
            state
                .containers
                .get(c)
                .is_some_and(|d| has_all(&d.value.labels, &hop.select))
        })
        .filter_map(|(c, record)| {
            let of = |name: &InterfaceName| {
                record
                    .interfaces
                    .iter()
                    .find(|i| i.hop && i.interface == *name)
                    .map(|i| i.endpoint.clone())
            };
            Some((c.container.clone(), of(&hop.input)?, of(&hop.output)?))
        })
        .collect()
}

/// Gives each missing instance a free block, looking from `start` on; the write is fenced against
/// everyone who allocates at once.
pub fn allocate(state: &State, missing: &[Missing], start: u32) -> Vec<Write> {
    let mut taken: BTreeSet<u32> = state.steer.keys().copied().collect();
    missing
        .iter()
        .filter_map(|m| {
            let block = free_block(&taken, start)?;
            taken.insert(block);
            let doc = InstanceDoc {
                block,
                ..m.doc.clone()
            };
            let (t, c, v, hop, container) = m.key.clone();
            let mut write = Write::default();
            write.require(
                &Key::ChainVersion(t.clone(), c.clone(), v),
                m.version_revision,
            );
            let key = Key::ChainInstance(t, c, v, hop, container);
            write.put(&Key::Steer(block), &key.path(), None);
            write.put(&key, &doc, None);
            Some(write)
        })
        .collect()
}

/// The first free multiple of 4 from `start` on and around, never 0.
fn free_block(taken: &BTreeSet<u32>, start: u32) -> Option<u32> {
    let count = STEER_ID_MAX / 4;
    (0..=taken.len() as u32)
        .map(|i| (start % count + i) % count * 4 + 4)
        .find(|b| !taken.contains(b))
}

/// Instances of this node that are no more: its container is gone from here, or serves the hop no longer.
pub fn stale_instances(state: &State, local: &LocalState, me: &NodeName) -> Vec<Write> {
    state
        .instances
        .iter()
        .filter(|(_, d)| d.value.node == *me)
        .filter(|((t, c, v, hop, container), d)| {
            let Some(version) = state.versions.get(&(t.clone(), c.clone(), *v)) else {
                // A version that cannot be read is not a version that is gone.
                return !state.is_unreadable(&Key::ChainVersion(t.clone(), c.clone(), *v));
            };
            let hops = view(t, &version.value).hops;
            let serving = hops
                .iter()
                .filter(|h| h.name == *hop)
                .flat_map(|h| members(state, local, t, h));
            let reference = weft_overlay::ContainerRef {
                tenant: t.clone(),
                container: container.clone(),
            };
            let unreadable = state.is_unreadable(&Key::Container(reference));
            let serves = serving
                .into_iter()
                .any(|(m, i, o)| m == *container && i == d.value.input && o == d.value.output);
            !serves && !unreadable
        })
        .map(|(key, d)| drop_instance(key, d.value.block, d.revision))
        .collect()
}

fn drop_instance(key: &InstanceKey, block: u32, revision: i64) -> Write {
    let (t, c, v, hop, container) = key.clone();
    let path = Key::ChainInstance(t, c, v, hop, container).path();
    Write {
        expect: vec![Expect::Revision(path.clone(), revision)],
        ops: vec![
            WriteOp::Delete(path),
            WriteOp::Delete(Key::Steer(block).path()),
        ],
    }
}

/// Versions older than the newest complete one, after their time. `since` remembers when each was
/// first found superseded. One node acts on it: of the living carriers the one with the lowest id.
pub fn expired_versions(
    state: &State,
    me: &NodeName,
    since: &mut BTreeMap<VersionKey, u64>,
    now: u64,
) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut still = BTreeMap::new();
    for (tenant, chain) in state.chains.keys() {
        let Some(complete) = complete_version(state, tenant, chain) else {
            continue;
        };
        let newest = (tenant.clone(), chain.clone(), complete);
        if !knows_carriers(state, &newest) || first_carrier(state, &newest) != Some(me) {
            continue;
        }
        for key in versions(state, tenant, chain)
            .into_iter()
            .filter(|k| k.2 < complete)
        {
            let first = since.get(&key).copied().unwrap_or(now).min(now);
            if now - first < RETAIN.as_millis() as u64 {
                still.insert(key, first);
            } else if let Some(doc) = state.versions.get(&key) {
                writes.push(drop_version(state, &key, doc.revision));
            }
        }
    }
    *since = still;
    writes
}

/// The living carrier of a version with the lowest id.
fn first_carrier<'a>(state: &'a State, key: &VersionKey) -> Option<&'a NodeName> {
    let carriers = carriers(state, key);
    let nodes = state.nodes.iter();
    let living = nodes.filter(|(n, _)| carriers.contains(*n) && state.is_alive(n));
    living.min_by_key(|(_, doc)| doc.value.id).map(|(n, _)| n)
}

fn drop_version(state: &State, key: &VersionKey, revision: i64) -> Write {
    let path = Key::ChainVersion(key.0.clone(), key.1.clone(), key.2).path();
    let mut write = Write::default();
    write.expect.push(Expect::Revision(path.clone(), revision));
    write.ops.push(WriteOp::DeletePrefix(format!("{path}/")));
    write.ops.push(WriteOp::Delete(path));
    for ((t, c, v, ..), doc) in &state.instances {
        if (t, c, v) == (&key.0, &key.1, &key.2) {
            write
                .ops
                .push(WriteOp::Delete(Key::Steer(doc.value.block).path()));
        }
    }
    write
}

#[cfg(test)]
mod tests;
