//! A container that is wanted: names checked, placed if the user named no node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_overlay::allocate::{AddressError, AddressPool};
use weft_overlay::documents::{ContainerSpec, InterfaceSpec};
use weft_overlay::foreign::Foreign;
use weft_overlay::keys::Key;
use weft_overlay::naming::name_interfaces;
use weft_overlay::site::{Attachment, Container};
use weft_overlay::{ContainerRef, EndpointRef, NetworkRef, NodeName};

use super::tenant::room_for_endpoints;
use super::{Action, Planned, Refusal, Write, WriteOp, known};
use crate::mirror::State;

/// Plans an apply of a container; `uid` is used if it is to be made (anew).
pub fn container(state: &State, wanted: &Container, uid: String) -> Result<Planned, Refusal> {
    let subject = format!("container {}", wanted.name);
    let key = Key::Container(wanted.name.clone());
    if state.is_unreadable(&key) {
        return Err(Refusal::unreadable(subject));
    }
    let foreign =
        Foreign::of(&wanted.image).map_err(|e| Refusal::invalid(&subject, &e, e.help()))?;
    if let Some(place) = &foreign {
        check_foreign(place, wanted, &subject)?;
        check_device(state, place, wanted, &subject)?;
    } else if wanted.command.is_empty() {
        return Err(Refusal::invalid(
            subject,
            "has no command",
            "say what it runs, e.g. command = [\"sleep\", \"infinity\"]",
        ));
    }
    if foreign.is_none() && wanted.image != "host" {
        return Err(Refusal::not_found(
            subject,
            format!("image {:?} is not there", wanted.image),
            "write image = \"host\": this machine's own root, read-only; it is the image that works now",
        ));
    }
    let tenant = &wanted.name.tenant;
    if !state.tenants.contains_key(tenant) {
        let help = format!(
            "{}; a tenant is made with its first network: `weft network create {tenant}/NAME --cidr CIDR`",
            known("tenant", state.tenants.keys())
        );
        return Err(Refusal::not_found(
            subject,
            format!("tenant {tenant} does not exist"),
            help,
        ));
    }
    let interfaces = interfaces(state, wanted, &subject)?;
    let present = state.containers.get(&wanted.name);
    let node = match (&wanted.node, present) {
        (Some(node), _) => {
            check_node(state, node, &subject)?;
            node.clone()
        }
        (None, Some(doc)) => doc.value.node.clone(),
        (None, None) => place(state, &subject)?,
    };
    check_published(state, wanted, &node, &interfaces, &subject)?;
    let mut spec = ContainerSpec {
        uid,
        image: wanted.image.clone(),
        command: wanted.command.clone(),
        env: wanted.env.clone(),
        interfaces,
        labels: wanted.labels.clone(),
        capabilities: wanted.capabilities.clone(),
        resources: wanted.resources.clone(),
        publish: wanted.publish.clone(),
        restart: wanted.restart,
        node: node.clone(),
        running: true,
    };
    let detail = format!("on {node}");
    let mut write = Write::default();
    if let Some(doc) = present {
        keep_addresses(state, &wanted.name, &doc.value, &mut spec, &mut write);
    }
    let action = match present {
        Some(doc) => {
            let same = ContainerSpec {
                uid: doc.value.uid.clone(),
                ..spec.clone()
            };
            if same == doc.value {
                return Ok(Planned::unchanged(detail));
            }
            // Started again as it was, or with other labels or published ports only: the same life goes on.
            let lives_on = ContainerSpec {
                running: true,
                labels: same.labels.clone(),
                publish: same.publish.clone(),
                restart: same.restart,
                ..doc.value.clone()
            };
            if lives_on == same {
                spec = same;
            }
            Action::Update
        }
        None => Action::Create,
    };
    for network in spec
        .interfaces
        .iter()
        .map(|i| &i.network)
        .collect::<BTreeSet<_>>()
    {
        let network = NetworkRef {
            tenant: tenant.clone(),
            network: network.clone(),
        };
        if let Some(doc) = state.networks.get(&network) {
            write.require(&Key::Network(network), doc.revision);
        }
    }
    let others = state.containers.iter();
    let others = others.filter(|(c, _)| c.tenant == *tenant && **c != wanted.name);
    let has: usize = others.map(|(_, d)| d.value.interfaces.len()).sum();
    let before = present.map_or(0, |d| d.value.interfaces.len());
    // One that asks for no more than before is nobody's loss.
    let more = spec.interfaces.len();
    if more > before {
        room_for_endpoints(state, tenant, &mut write, (has, more))?;
    }
    write.put(&key, &spec, present.map(|d| d.revision));
    place_on(state, &wanted.name, &spec.node, &mut write);
    Ok(Planned {
        action,
        detail,
        write,
    })
}

/// Tells the node that the container is to be there, and every other one that it is not.
fn place_on(state: &State, name: &ContainerRef, node: &NodeName, write: &mut Write) {
    let key = |node: &NodeName| Key::Placed(node.clone(), name.clone()).path();
    if !state.placed.contains(&(node.clone(), name.clone())) {
        write.ops.push(WriteOp::Put(key(node), b"{}".to_vec()));
    }
    let elsewhere = state.placed.iter().filter(|(n, c)| c == name && n != node);
    write
        .ops
        .extend(elsewhere.map(|(n, _)| WriteOp::Delete(key(n))));
}

/// A node's port leads to one container. Two that ask at once are told apart by the node.
fn check_published(
    state: &State,
    wanted: &Container,
    node: &NodeName,
    interfaces: &[InterfaceSpec],
    subject: &str,
) -> Result<(), Refusal> {
    if !wanted.publish.is_empty() && interfaces.iter().all(|i| i.hop) {
        let cause = "publishes a port, and has no interface with an address";
        let help = "name its network: `networks = [\"TENANT/NETWORK\"]`";
        return Err(Refusal::invalid(subject, cause, help));
    }
    let mut own = BTreeSet::new();
    for publish in &wanted.publish {
        let (transport, port) = (publish.transport, publish.outside);
        if !own.insert((transport, port)) {
            let cause = format!("publishes port {port}/{} twice", transport.name());
            return Err(Refusal::invalid(
                subject,
                cause,
                "choose another port of the node",
            ));
        }
        let takes = |spec: &ContainerSpec| {
            let mut all = spec.publish.iter();
            spec.node == *node && all.any(|p| (p.transport, p.outside) == (transport, port))
        };
        let mut others = state.containers.iter().filter(|(c, _)| **c != wanted.name);
        if let Some((other, _)) = others.find(|(_, doc)| takes(&doc.value)) {
            // The other may be of a tenant whose names are nobody else's affair.
            let whose = if other.tenant == wanted.name.tenant {
                format!("container {other}")
            } else {
                "a container of another tenant".to_owned()
            };
            let cause = format!(
                "port {port}/{} of node {node} is published by {whose}",
                transport.name()
            );
            let help = "choose another port, or another node with `--node`";
            return Err(Refusal::state(subject, cause, help));
        }
    }
    Ok(())
}

/// A tap device joins one network, whoever's. Two that ask at once are told apart by the node.
fn check_device(
    state: &State,
    place: &Foreign,
    wanted: &Container,
    subject: &str,
) -> Result<(), Refusal> {
    let image = place.to_string();
    let mut others = state.containers.iter().filter(|(c, _)| **c != wanted.name);
    let same =
        others.find(|(_, d)| d.value.image == image && Some(&d.value.node) == wanted.node.as_ref());
    match (place, same) {
        (Foreign::Tap(name), Some((other, _))) => Err(Refusal::state(
            subject,
            format!("tap device {name} is that of {other}"),
            "detach it there, or name another",
        )),
        _ => Ok(()),
    }
}

/// What goes to another node takes its addresses along: they are claimed before the old node lets go of them.
fn keep_addresses(
    state: &State,
    container: &ContainerRef,
    before: &ContainerSpec,
    spec: &mut ContainerSpec,
    write: &mut Write,
) {
    let moves = before.node != spec.node;
    // What could not be named was never made.
    let named = name_interfaces(container, &before.interfaces).unwrap_or_default();
    for interface in &mut spec.interfaces {
        let old = named.iter().find(|old| {
            old.spec.network == interface.network && Some(&old.name) == interface.name.as_ref()
        });
        let Some(old) = old else {
            continue;
        };
        interface.kept.clone_from(&old.spec.kept);
        let endpoint = &old.endpoint;
        let Some(doc) = state.endpoints.get(endpoint).filter(|_| moves) else {
            continue;
        };
        interface.kept.clone_from(&doc.value.addresses);
        let network = NetworkRef {
            tenant: endpoint.tenant.clone(),
            network: endpoint.network.clone(),
        };
        for address in &doc.value.addresses {
            let key = Key::Address(network.clone(), *address);
            let claim = state.addresses.get(&(network.clone(), *address));
            if claim.is_none() {
                write.put(&key, &endpoint.to_string(), None);
            }
        }
    }
}

/// What somebody else made is on one node, and runs by itself.
fn check_foreign(place: &Foreign, wanted: &Container, subject: &str) -> Result<(), Refusal> {
    let invalid = |cause: &str, help: &str| Err(Refusal::invalid(subject, cause, help));
    if !wanted.command.is_empty() {
        let cause = format!("{place} runs by itself, and a command is given");
        return invalid(&cause, "leave the command out");
    }
    if wanted.node.is_none() {
        let cause = format!("{place} is somewhere, and no node is named");
        return invalid(&cause, "name the node that it is on");
    }
    let one = matches!(place, Foreign::Tap(_));
    if wanted.networks.is_empty() || (one && wanted.networks.len() > 1) {
        let cause = format!("{place} joins {} networks", wanted.networks.len());
        return invalid(
            &cause,
            "a tap device joins one network, a namespace one or more",
        );
    }
    Ok(())
}

fn interfaces(
    state: &State,
    wanted: &Container,
    subject: &str,
) -> Result<Vec<InterfaceSpec>, Refusal> {
    let tenant = &wanted.name.tenant;
    let mut specs = Vec::new();
    for attachment in &wanted.networks {
        let (network, spec) = interface(attachment);
        if network.tenant != *tenant {
            let help = format!(
                "use a network of tenant {tenant}, or make the container in tenant {}",
                network.tenant
            );
            return Err(Refusal::invalid(
                subject,
                format!("network {network} is of another tenant"),
                help,
            ));
        }
        if !state.networks.contains_key(&network) {
            let mine = state.networks.keys().filter(|n| n.tenant == *tenant);
            let help = format!(
                "{}; make it with `weft network create {network} --cidr CIDR`",
                known("network", mine)
            );
            return Err(Refusal::not_found(
                subject,
                format!("network {network} does not exist"),
                help,
            ));
        }
        specs.push(spec);
    }
    let named = name_interfaces(&wanted.name, &specs)
        .map_err(|e| Refusal::invalid(subject, &e, e.help()))?;
    let taken = endpoint_names(state, &wanted.name);
    for i in &named {
        if let Some(other) = taken.get(&i.endpoint) {
            let cause = format!("endpoint {} belongs to container {other}", i.endpoint);
            return Err(Refusal::state(
                subject,
                cause,
                "choose another name for the container or the interface",
            ));
        }
        if let Some(address) = i.spec.address {
            check_address(state, &i.endpoint, i.spec.hop, address, subject)?;
        }
    }
    Ok(named
        .into_iter()
        .map(|i| InterfaceSpec {
            name: Some(i.name),
            ..i.spec
        })
        .collect())
}

fn interface(attachment: &Attachment) -> (NetworkRef, InterfaceSpec) {
    match attachment {
        Attachment::Name(network) => {
            let spec = InterfaceSpec {
                network: network.network.clone(),
                name: None,
                address: None,
                kept: Vec::new(),
                hop: false,
            };
            (network.clone(), spec)
        }
        Attachment::Full(t) => {
            let spec = InterfaceSpec {
                network: t.network.network.clone(),
                name: t.interface.clone(),
                address: t.address,
                kept: Vec::new(),
                hop: t.hop,
            };
            (t.network.clone(), spec)
        }
    }
}

/// Endpoint names that other containers of the tenant have or are about to have.
fn endpoint_names(state: &State, except: &ContainerRef) -> BTreeMap<EndpointRef, ContainerRef> {
    let others = state
        .containers
        .iter()
        .filter(|(c, _)| c.tenant == except.tenant && *c != except);
    others
        .filter_map(|(c, doc)| Some((c, name_interfaces(c, &doc.value.interfaces).ok()?)))
        .flat_map(|(c, named)| named.into_iter().map(move |i| (i.endpoint, c.clone())))
        .collect()
}

/// A fixed address must be one that an endpoint of the network can have, and free but for itself.
fn check_address(
    state: &State,
    endpoint: &EndpointRef,
    hop: bool,
    address: IpAddr,
    subject: &str,
) -> Result<(), Refusal> {
    if hop {
        let cause = format!("interface {} of a hop has an address", endpoint.endpoint);
        return Err(Refusal::invalid(
            subject,
            cause,
            "leave `address` out: hop interfaces have none",
        ));
    }
    let network = NetworkRef {
        tenant: endpoint.tenant.clone(),
        network: endpoint.network.clone(),
    };
    let Some(doc) = state.networks.get(&network) else {
        return Ok(());
    };
    let used: BTreeSet<IpAddr> = state
        .endpoints_of(&network)
        .filter(|(e, _)| *e != endpoint)
        .flat_map(|(_, d)| d.addresses.iter().copied())
        .collect();
    let none = BTreeSet::new();
    let pool = AddressPool {
        spec: &doc.value,
        own: &BTreeSet::new(),
        used: &used,
        claimed: &none,
    };
    match pool.fixed(address) {
        Ok(_) => Ok(()),
        Err(error @ AddressError::Taken(_)) => {
            let holder = state
                .endpoints_of(&network)
                .find(|(_, d)| d.addresses.contains(&address))
                .map_or_else(String::new, |(e, _)| format!(" ({e})"));
            Err(Refusal::state(
                subject,
                format!("{error}{holder}"),
                error.help(),
            ))
        }
        Err(error) => Err(Refusal::invalid(subject, &error, error.help())),
    }
}

fn check_node(state: &State, node: &NodeName, subject: &str) -> Result<(), Refusal> {
    if state.nodes.contains_key(node) {
        return Ok(());
    }
    let help = format!(
        "{}; or leave the node out",
        known("node", state.nodes.keys())
    );
    Err(Refusal::not_found(
        subject,
        format!("node {node} does not exist"),
        help,
    ))
}

/// The alive node with the fewest containers; the first by name among equals.
fn place(state: &State, subject: &str) -> Result<NodeName, Refusal> {
    let count = |node: &NodeName| {
        state
            .containers
            .values()
            .filter(|d| d.value.node == *node)
            .count()
    };
    state
        .nodes
        .keys()
        .filter(|n| state.is_alive(n))
        .min_by_key(|n| (count(n), (*n).clone()))
        .cloned()
        .ok_or_else(|| {
            Refusal::state(
                subject,
                "no node is alive to run it",
                "`weft node ls` shows the nodes; start one with `weft node run`",
            )
        })
}
