//! Removals: what goes along, and what forbids them.

use weft_overlay::documents::ContainerSpec;
use weft_overlay::keys::{Key, container_prefix, network_prefix, tenant_prefix};
use weft_overlay::naming::{name_interfaces, network_of};
use weft_overlay::{ChainName, ContainerRef, NetworkRef, TenantName};

use super::{Expect, Refusal, Write, WriteOp, known};
use crate::mirror::State;

/// A planned removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What is removed, for people.
    pub removed: Vec<String>,
    /// The transaction.
    pub write: Write,
}

/// How something is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// A container is stopped, and kept.
    pub stop_only: bool,
    /// A network goes with the containers that use it.
    pub force: bool,
}

/// Plans the removal of `kind` `name`.
pub fn remove(state: &State, kind: &str, name: &str, how: How) -> Result<Removal, Refusal> {
    let subject = format!("{kind} {name}");
    let bad = |e: &dyn std::fmt::Display| {
        Refusal::invalid(&subject, e, "write the name as `weft` lists it")
    };
    match kind {
        "container" => container(state, &name.parse().map_err(|e| bad(&e))?, how.stop_only),
        "network" => network(state, &name.parse().map_err(|e| bad(&e))?, how.force),
        "tenant" => tenant(state, &name.parse().map_err(|e| bad(&e))?),
        "chain" => {
            let (tenant, chain) = name
                .split_once('/')
                .ok_or_else(|| bad(&"is not TENANT/NAME"))?;
            let tenant = tenant.parse().map_err(|e| bad(&e))?;
            remove_chain(state, tenant, chain.parse().map_err(|e| bad(&e))?)
        }
        _ => Err(Refusal::invalid(
            subject,
            "this kind cannot be removed",
            "remove a tenant, network, container or chain",
        )),
    }
}

fn container(state: &State, name: &ContainerRef, stop_only: bool) -> Result<Removal, Refusal> {
    let subject = format!("container {name}");
    let Some(doc) = state.containers.get(name) else {
        let help = known("container", state.containers.keys());
        return Err(Refusal::not_found(subject, "does not exist", help));
    };
    let mut write = Write::default();
    let key = Key::Container(name.clone());
    if stop_only {
        let mut spec = doc.value.clone();
        spec.running = false;
        write.put(&key, &spec, Some(doc.revision));
    } else {
        write
            .expect
            .push(Expect::Revision(key.path(), doc.revision));
        write.ops.push(WriteOp::Delete(key.path()));
        let placed = state.placed.iter().filter(|(_, c)| c == name);
        write
            .ops
            .extend(placed.map(|(n, c)| WriteOp::Delete(Key::Placed(n.clone(), c.clone()).path())));
        write.ops.extend(kept_claims(state, name, &doc.value));
    }
    Ok(Removal {
        removed: vec![subject],
        write,
    })
}

/// Claims of a container that was moved and is not yet where it was moved to: no node knows of them.
fn kept_claims(state: &State, name: &ContainerRef, spec: &ContainerSpec) -> Vec<WriteOp> {
    let named = name_interfaces(name, &spec.interfaces).unwrap_or_default();
    let mut ops = Vec::new();
    for interface in named {
        if state.endpoints.contains_key(&interface.endpoint) {
            continue;
        }
        let network = network_of(name, &interface.spec);
        for address in &interface.spec.kept {
            let claim = state.addresses.get(&(network.clone(), *address));
            if claim.is_some_and(|c| c.value == interface.endpoint.to_string()) {
                ops.push(WriteOp::Delete(
                    Key::Address(network.clone(), *address).path(),
                ));
            }
        }
    }
    ops
}

fn network(state: &State, name: &NetworkRef, force: bool) -> Result<Removal, Refusal> {
    let subject = format!("network {name}");
    let Some(doc) = state.networks.get(name) else {
        let help = known("network", state.networks.keys());
        return Err(Refusal::not_found(subject, "does not exist", help));
    };
    // Who uses it can be read from every document of the tenant, or not said.
    if state.is_unreadable_below(&tenant_prefix(&name.tenant)) {
        return Err(Refusal::unreadable_below(subject, &name.tenant));
    }
    let users = state.containers.iter().filter(|(c, d)| {
        c.tenant == name.tenant && d.value.interfaces.iter().any(|i| i.network == name.network)
    });
    let containers: Vec<&ContainerRef> = users.map(|(c, _)| c).collect();
    let users: Vec<String> = containers
        .iter()
        .map(|c| format!("container {c}"))
        .collect();
    let endpoints: Vec<String> = state
        .endpoints_of(name)
        .map(|(e, _)| format!("endpoint {e}"))
        .collect();
    let in_use = if users.is_empty() { endpoints } else { users };
    if !in_use.is_empty() && !force {
        return Err(Refusal::state(
            subject,
            format!("is in use by {}", in_use.join(", ")),
            "remove the containers first (`weft rm TENANT/NAME`), or with it (`--force`)",
        ));
    }
    let mut write = Write::default();
    write.require(&Key::Network(name.clone()), doc.revision);
    // A container or endpoint that comes meanwhile wins: its network stays.
    write.none_since(container_prefix(&name.tenant), state.revision);
    write.none_since(network_prefix(name), state.revision);
    write.ops.push(WriteOp::DeletePrefix(network_prefix(name)));
    write
        .ops
        .push(WriteOp::Delete(Key::Vni(doc.value.vni).path()));
    let mut removed = vec![subject];
    for container in containers {
        let more = self::container(state, container, false)?;
        write.expect.extend(more.write.expect);
        write.ops.extend(more.write.ops);
        removed.extend(more.removed);
    }
    Ok(Removal { removed, write })
}

fn tenant(state: &State, name: &TenantName) -> Result<Removal, Refusal> {
    let subject = format!("tenant {name}");
    let Some(doc) = state.tenants.get(name) else {
        return Err(Refusal::not_found(
            subject,
            "does not exist",
            known("tenant", state.tenants.keys()),
        ));
    };
    if state.is_unreadable_below(&tenant_prefix(name)) {
        return Err(Refusal::unreadable_below(subject, name));
    }
    let networks = state
        .networks
        .keys()
        .filter(|n| n.tenant == *name)
        .map(|n| format!("network {n}"));
    let containers = state
        .containers
        .keys()
        .filter(|c| c.tenant == *name)
        .map(|c| format!("container {c}"));
    let chains = state
        .chains
        .keys()
        .filter(|(t, _)| t == name)
        .map(|(t, c)| format!("chain {t}/{c}"));
    let held: Vec<String> = networks.chain(containers).chain(chains).collect();
    if !held.is_empty() {
        return Err(Refusal::state(
            subject,
            format!("still has {}", held.join(", ")),
            "remove these first",
        ));
    }
    let mut write = Write::default();
    write.require(&Key::Tenant(name.clone()), doc.revision);
    write.none_since(tenant_prefix(name), state.revision);
    write.ops.push(WriteOp::DeletePrefix(tenant_prefix(name)));
    Ok(Removal {
        removed: vec![subject],
        write,
    })
}

fn remove_chain(state: &State, tenant: TenantName, chain: ChainName) -> Result<Removal, Refusal> {
    let subject = format!("chain {tenant}/{chain}");
    let key = (tenant.clone(), chain.clone());
    let Some(doc) = state.chains.get(&key) else {
        let names = state.chains.keys().map(|(t, c)| format!("{t}/{c}"));
        return Err(Refusal::not_found(
            subject,
            "does not exist",
            known("chain", names),
        ));
    };
    let mut write = Write::default();
    let path = Key::Chain(tenant.clone(), chain.clone()).path();
    write
        .expect
        .push(Expect::Revision(path.clone(), doc.revision));
    // "…/spec" -> "…/": the chain's own prefix, with versions, ready marks and instances.
    let prefix = path.trim_end_matches("spec").to_owned();
    write.ops.push(WriteOp::DeletePrefix(prefix));
    for ((t, c, ..), instance) in &state.instances {
        if *t == tenant && *c == chain {
            write
                .ops
                .push(WriteOp::Delete(Key::Steer(instance.value.block).path()));
        }
    }
    Ok(Removal {
        removed: vec![subject],
        write,
    })
}
