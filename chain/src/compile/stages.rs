//! Hops to stages, stages to slots, instances to positions.
//!
//! A slot goes to the instance whose hash with it is highest (rendezvous hashing), so an instance that
//! comes takes slots only for itself, and one that goes gives up only its own. The hash leaves out
//! version and direction: both directions of a flow, and the next version, meet the same instance.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use weft_ebpf_abi as abi;
use weft_overlay::{EndpointName, EndpointRef, NetworkRef};

use super::{BlockName, CarriedVersion, ChainTables, CompileInput, Instance, hash};
use crate::policy::{Hop, OnFailure};

/// Numbers of the stages that are in use: `tenant/chain/version/hop/direction` -> stage.
pub type StageIds = BTreeMap<String, u32>;

fn key(carried: &CarriedVersion<'_>, hop: &Hop, reverse: bool) -> String {
    let direction = if reverse { "reverse" } else { "forward" };
    let CarriedVersion {
        tenant,
        chain,
        version,
        ..
    } = carried;
    format!("{tenant}/{chain}/{version}/{}/{direction}", hop.name)
}

/// Stage numbers for all versions, those of `before` kept.
pub(super) fn number(order: &[&CarriedVersion<'_>], before: &StageIds) -> StageIds {
    let mut wanted = BTreeSet::new();
    for carried in order {
        for hop in &carried.policy.hops {
            wanted.insert(key(carried, hop, false));
            if carried.policy.chain.symmetric {
                wanted.insert(key(carried, hop, true));
            }
        }
    }
    let mut ids: StageIds = before
        .iter()
        .filter(|(name, _)| wanted.contains(*name))
        .map(|(name, id)| (name.clone(), *id))
        .collect();
    // A number of a version that just went is free only in the next compile: its entries may still
    // be in the kernel while the new ones are written.
    let mut taken: BTreeSet<u32> = before.values().copied().collect();
    for name in wanted {
        let Entry::Vacant(vacant) = ids.entry(name) else {
            continue;
        };
        let id = hash::number(&[b"stage", vacant.key().as_bytes()], |id| {
            taken.contains(&id)
        });
        taken.insert(id);
        vacant.insert(id);
    }
    ids
}

/// First stage of a carried version: forward, and in reverse (0 when it is not symmetric).
pub(super) fn entry(carried: &CarriedVersion<'_>, ids: &StageIds) -> Option<(u32, u32)> {
    let hops = &carried.policy.hops;
    let forward = *ids.get(&key(carried, hops.first()?, false))?;
    let reverse = match carried.policy.chain.symmetric {
        true => *ids.get(&key(carried, hops.last()?, true))?,
        false => 0,
    };
    Some((forward, reverse))
}

/// Puts the stages, slots and positions of one version into `tables`.
pub(super) fn carry(
    carried: &CarriedVersion<'_>,
    network: &NetworkRef,
    vni: u32,
    input: &CompileInput<'_>,
    tables: &mut ChainTables,
) {
    let hops = &carried.policy.hops;
    let symmetric = carried.policy.chain.symmetric;
    let id = |tables: &ChainTables, place: usize, reverse: bool| -> u32 {
        let hop = hops.get(place);
        hop.and_then(|hop| tables.stage_ids.get(&key(carried, hop, reverse)))
            .copied()
            .unwrap_or(0)
    };
    for (place, hop) in hops.iter().enumerate() {
        let next_forward = id(tables, place + 1, false);
        let next_reverse = match (symmetric, place.checked_sub(1)) {
            (true, Some(before)) => id(tables, before, true),
            _ => 0,
        };
        let serving = serving(carried, hop, input, &mut tables.problems);
        let bypass = match hop.on_failure {
            OnFailure::Bypass => abi::STAGE_BYPASS,
            OnFailure::Drop => 0,
        };
        let owners = owners(carried, hop, &serving);
        let slots = u32::try_from(owners.len()).unwrap_or(0);
        let mut stage = |stage: u32, next: u32, flags: u32| {
            tables.stages.insert(
                stage,
                abi::Stage {
                    slots,
                    next,
                    flags: bypass | flags,
                    pad: 0,
                },
            );
            for (slot, block) in (0..).zip(&owners) {
                tables.slots.insert(abi::SlotKey { stage, slot }, *block);
            }
        };
        let forward = tables.stage_ids.get(&key(carried, hop, false)).copied();
        let reverse = tables.stage_ids.get(&key(carried, hop, true)).copied();
        if let Some(forward) = forward {
            stage(forward, next_forward, 0);
        }
        if let Some(reverse) = reverse.filter(|_| symmetric) {
            stage(reverse, next_reverse, abi::STAGE_REVERSE);
        }
        for instance in serving {
            let next = (next_forward, next_reverse);
            place_instance(carried, instance, network, vni, next, input, tables);
        }
    }
}

/// The instances of a hop that can be used, by container.
fn serving<'c>(
    carried: &'c CarriedVersion<'_>,
    hop: &Hop,
    input: &CompileInput<'_>,
    problems: &mut Vec<String>,
) -> Vec<&'c Instance> {
    let mut serving: Vec<&Instance> = Vec::new();
    for instance in carried.instances.iter().filter(|i| i.hop == hop.name) {
        let (block, node) = (instance.doc.block, &instance.doc.node);
        let subject = format!(
            "chain {}/{}: instance {} of hop {}",
            carried.tenant, carried.chain, instance.container, hop.name
        );
        if block == 0 || block % 4 != 0 || block > abi::STEER_ID_MAX {
            problems.push(format!("{subject}: {block} is no steering block"));
        } else if !input.nodes.contains_key(node) {
            problems.push(format!("{subject}: node {node} is not known"));
        } else {
            serving.push(instance);
        }
    }
    serving.sort_by_key(|i| &i.container);
    serving
}

/// The block of each slot; empty without instances.
fn owners(carried: &CarriedVersion<'_>, hop: &Hop, serving: &[&Instance]) -> Vec<u32> {
    let (tenant, chain) = (carried.tenant.as_str(), carried.chain.as_str());
    let weight = |slot: u32, instance: &Instance| {
        let container = instance.container.as_str();
        let parts = [tenant, chain, &hop.name, container].map(str::as_bytes);
        let [t, c, h, i] = parts;
        hash::stable(&[t, c, h, i, &slot.to_be_bytes()])
    };
    (0..abi::STAGE_SLOTS)
        .filter_map(|slot| {
            let best = serving
                .iter()
                .max_by_key(|i| (weight(slot, i), &i.container))?;
            Some(best.doc.block)
        })
        .collect()
}

fn place_instance(
    carried: &CarriedVersion<'_>,
    instance: &Instance,
    network: &NetworkRef,
    vni: u32,
    (next_forward, next_reverse): (u32, u32),
    input: &CompileInput<'_>,
    tables: &mut ChainTables,
) {
    let Some(node) = input.nodes.get(&instance.doc.node) else {
        return;
    };
    let name = BlockName {
        tenant: carried.tenant.clone(),
        chain: carried.chain.clone(),
        version: carried.version,
        hop: instance.hop.clone(),
        container: instance.container.clone(),
    };
    tables.blocks.insert(instance.doc.block, name);
    let mut position = abi::Position {
        vni,
        node: node.0,
        next_forward,
        next_reverse,
        ..abi::Position::default()
    };
    if instance.doc.node == *input.node {
        let port = |endpoint: &EndpointName| {
            input.ports.get(&EndpointRef {
                tenant: network.tenant.clone(),
                network: network.network.clone(),
                endpoint: endpoint.clone(),
            })
        };
        // Without its interfaces the instance keeps its slots (all nodes must agree on them), and
        // what is steered to it is a drop with a reason.
        let (Some(input), Some(output)) = (port(&instance.doc.input), port(&instance.doc.output))
        else {
            let (chain, container) = (carried.chain, &instance.container);
            tables.problems.push(format!(
                "chain {}/{chain}: instance {container} of hop {} has not both interfaces here yet",
                carried.tenant, instance.hop
            ));
            return;
        };
        (position.in_ifindex, position.in_port) = (input.ifindex, input.port);
        (position.out_ifindex, position.out_port) = (output.ifindex, output.port);
    }
    tables.positions.insert(instance.doc.block, position);
}
