//! Carries the versions of chains: steering blocks, compiled tables, the word that this node is ready.

use std::collections::BTreeMap;

use weft_chain::{
    CarriedVersion, ChainTables, CompileInput, Instance, LocalPort, StageIds, compile,
};
use weft_ebpf::Tables;
use weft_overlay::documents::ContainerState;
use weft_overlay::keys::Key;
use weft_overlay::{ContainerRef, EndpointRef, PortId};

use super::{Reconciler, now};
use crate::mirror::{InstanceKey, State, VersionKey};
use crate::plan::chains::{
    allocate, carried, classified, expired_versions, memory_key, missing_instances, stale_instances,
};
use crate::plan::desired::Write;

/// What the loop keeps of chains between passes.
#[derive(Debug, Default)]
pub(super) struct ChainMemory {
    /// Numbers of stages that are in the kernel.
    stage_ids: StageIds,
    /// Since when each older version is superseded.
    superseded: BTreeMap<VersionKey, u64>,
}

impl Reconciler {
    /// Steering blocks for the hops that run here, and back for those that do not; old versions away.
    pub(super) async fn keep_instances(&mut self, state: &State) {
        let me = self.shared.config.name.clone();
        let missing = missing_instances(state, self.file.get(), &me);
        // Nodes that allocate at once begin in different places.
        let start = uuid::Uuid::new_v4().as_u128() as u32;
        for (one, write) in missing.iter().zip(allocate(state, &missing, start)) {
            let (tenant, chain, version, hop, container) = &one.key;
            let subject =
                format!("instance {tenant}/{container} of hop {hop} of chain {chain} v{version}");
            self.write(subject, &write).await;
        }
        for write in stale_instances(state, self.file.get(), &me) {
            self.write("instances of hops that are gone", &write).await;
        }
        let mut superseded = std::mem::take(&mut self.chains.superseded);
        for write in expired_versions(state, &me, &mut superseded, now()) {
            self.write("superseded versions of chains", &write).await;
        }
        self.chains.superseded = superseded;
    }

    /// The chains' part of the tables.
    pub(super) fn compile_chains(
        &mut self,
        state: &State,
        ifindexes: &BTreeMap<PortId, u32>,
    ) -> ChainTables {
        let me = self.shared.config.name.clone();
        let classify = classified(state, self.file.get(), &me);
        let to_keep = classify
            .iter()
            .map(|(chain, version)| (memory_key(chain), *version))
            .collect();
        self.remember(|local| local.classified = to_keep);
        let ports = self.file.get().interfaces().filter_map(|(_, i)| {
            let ifindex = *ifindexes.get(&i.port)?;
            Some((
                i.endpoint_ref(),
                LocalPort {
                    ifindex,
                    port: i.port.0,
                },
            ))
        });
        let ports: BTreeMap<EndpointRef, LocalPort> = ports.collect();
        let keys = carried(state, self.file.get());
        let chains = keys
            .iter()
            .filter_map(|key| {
                Some(CarriedVersion {
                    tenant: &key.0,
                    chain: &key.1,
                    version: key.2,
                    policy: &state.versions.get(key)?.value.policy,
                    classifies: classify.get(&(key.0.clone(), key.1.clone())) == Some(&key.2),
                    instances: instances(state, key),
                })
            })
            .collect();
        let tables = compile(&CompileInput {
            node: &me,
            nodes: state
                .nodes
                .iter()
                .map(|(n, d)| (n.clone(), d.value.id))
                .collect(),
            networks: state
                .networks
                .iter()
                .map(|(n, d)| (n.clone(), d.value.vni))
                .collect(),
            endpoints: state.endpoints.iter().map(|(e, d)| (e, &d.value)).collect(),
            ports,
            chains,
            stage_ids: std::mem::take(&mut self.chains.stage_ids),
        });
        self.chains.stage_ids = tables.stage_ids.clone();
        for (number, problem) in tables.problems.iter().enumerate() {
            self.problems
                .insert(format!("chains, {}", number + 1), problem.clone());
        }
        tables
    }

    /// Says of each carried version that its tables are in the kernel.
    pub(super) async fn mark_ready(&mut self, state: &State) {
        let me = self.shared.config.name.clone();
        for key in carried(state, self.file.get()) {
            if state
                .ready
                .get(&key)
                .is_some_and(|nodes| nodes.contains(&me))
            {
                continue;
            }
            let Some(version) = state.versions.get(&key) else {
                continue;
            };
            let (t, c, v) = key;
            let mut write = Write::default();
            write.require(
                &Key::ChainVersion(t.clone(), c.clone(), v),
                version.revision,
            );
            let ready = Key::ChainReady(t.clone(), c.clone(), v, me.clone());
            write.put(&ready, &serde_json::json!({}), None);
            self.write(format!("readiness for chain {t}/{c} v{v}"), &write)
                .await;
        }
    }
}

/// The instances of a version that may serve: all but those whose own node says that they ended.
fn instances(state: &State, version: &VersionKey) -> Vec<Instance> {
    let of = |key: &InstanceKey| key.0 == version.0 && key.1 == version.1 && key.2 == version.2;
    let ended = |key: &InstanceKey| {
        let container = ContainerRef {
            tenant: key.0.clone(),
            container: key.4.clone(),
        };
        state.statuses.get(&container).is_some_and(|d| {
            matches!(
                d.value.state,
                ContainerState::Exited | ContainerState::Failed
            )
        })
    };
    state
        .instances
        .iter()
        .filter(|(key, _)| of(key) && !ended(key))
        .map(|(key, doc)| Instance {
            hop: key.3.clone(),
            container: key.4.clone(),
            doc: doc.value.clone(),
        })
        .collect()
}

/// Puts the chains' part into the tables.
pub(super) fn merge(chains: ChainTables, tables: &mut Tables) {
    tables.classes = chains.classes;
    // The kernel's trie counts the VNI's 32 bits as part of the prefix.
    let with_vni = chains
        .class_cidrs
        .into_iter()
        .map(|((len, key), class)| ((len + 32, key), class));
    tables.class_cidrs = with_vni.collect();
    tables.pairs = chains.pairs;
    tables.stages = chains.stages;
    tables.slots = chains.slots;
    tables.positions = chains.positions;
    for (vni, flags) in chains.network_flags {
        if let Some(network) = tables.networks.get_mut(&vni) {
            network.flags |= flags;
        }
    }
}
