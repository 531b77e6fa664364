//! Lists of what is, served from the mirror: they work, and say so, while the store does not answer.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::{Code, Status};
use weft_overlay::ContainerRef;
use weft_overlay::documents::{NetworkSpec, NodeSpec};
use weft_overlay::mtu::network_mtu;

use super::fault::fault;
use super::shared::Shared;
use crate::mirror::State;
use crate::proto::{ListReply, ListRequest, NodeState, Object, StatusReply};

/// How long a list waits for the store before it shows what is known.
const FRESH: Duration = Duration::from_secs(2);

/// Lists the objects of a kind.
pub async fn list(shared: &Shared, request: &ListRequest) -> Result<ListReply, Status> {
    // Freshest if the store answers: what a person just did elsewhere is there. Else what is known.
    let fresh = match shared.store_error() {
        None => tokio::time::timeout(FRESH, shared.fresh())
            .await
            .ok()
            .and_then(Result::ok),
        Some(_) => None,
    };
    let state = match fresh {
        Some(state) => state,
        None => shared.known().await?,
    };
    let mut objects = objects(&state, &request.kind).ok_or_else(|| {
        fault(
            Code::InvalidArgument,
            format!("kind {:?}", request.kind),
            "is not known",
            "use tenant, network, container, chain, node, endpoint or subnet",
        )
    })?;
    let tenant = format!("{}/", request.tenant);
    objects.retain(|o| {
        let in_tenant =
            request.tenant.is_empty() || o.name == request.tenant || o.name.starts_with(&tenant);
        let named = request.name.is_empty()
            || o.name == request.name
            || o.name
                .strip_prefix(&tenant)
                .is_some_and(|rest| rest == request.name);
        in_tenant && named
    });
    if objects.is_empty() && !request.name.is_empty() {
        let shown_by = match request.kind.as_str() {
            "container" => "ps".to_owned(),
            "subnet" => "network show".to_owned(),
            kind => format!("{kind} ls"),
        };
        let help = format!("`weft {shown_by}` shows what there is");
        return Err(fault(
            Code::NotFound,
            format!("{} {}", request.kind, request.name),
            "does not exist",
            &help,
        ));
    }
    Ok(ListReply {
        objects,
        revision: state.revision,
    })
}

fn object(kind: &str, name: impl ToString, json: &Value, revision: i64) -> Object {
    Object {
        kind: kind.to_owned(),
        name: name.to_string(),
        json: json.to_string(),
        revision,
    }
}

/// A document as JSON, with what the kind adds.
fn with(document: &impl serde::Serialize, added: Value) -> Value {
    let mut value = serde_json::to_value(document).unwrap_or(Value::Null);
    if let (Value::Object(map), Value::Object(added)) = (&mut value, added) {
        map.extend(added);
    }
    value
}

fn objects(state: &State, kind: &str) -> Option<Vec<Object>> {
    let list = match kind {
        "tenant" => state
            .tenants
            .iter()
            .map(|(n, d)| object(kind, n, &with(&d.value, json!({})), d.revision))
            .collect(),
        "network" => networks(state),
        "container" => state
            .containers
            .keys()
            .filter_map(|c| container(state, c))
            .collect(),
        "chain" => chains(state),
        "node" => nodes(state),
        "endpoint" => state
            .endpoints
            .iter()
            .map(|(n, d)| {
                object(
                    kind,
                    n,
                    &with(
                        &d.value,
                        json!({ "network": format!("{}/{}", n.tenant, n.network) }),
                    ),
                    d.revision,
                )
            })
            .collect(),
        "subnet" => subnets(state),
        _ => return None,
    };
    Some(list)
}

fn networks(state: &State) -> Vec<Object> {
    let one = |(name, doc): (
        &weft_overlay::NetworkRef,
        &crate::mirror::Doc<weft_overlay::documents::NetworkSpec>,
    )| {
        let added = json!({
            "dscp": doc.value.dscp,
            "ttl": doc.value.ttl,
            "endpoints": state.endpoints_of(name).count(),
            "subnets": state.subnets.get(name).map_or(0, |s| s.len()),
        });
        object("network", name, &with(&doc.value, added), doc.revision)
    };
    state.networks.iter().map(one).collect()
}

fn container(state: &State, name: &ContainerRef) -> Option<Object> {
    let doc = state.containers.get(name)?;
    let endpoints: Vec<Value> = state
        .endpoints
        .iter()
        .filter(|(e, d)| e.tenant == name.tenant && d.value.container == name.container)
        .map(|(e, d)| {
            json!({
                "name": e.to_string(),
                "network": format!("{}/{}", e.tenant, e.network),
                "interface": d.value.interface,
                "addresses": d.value.addresses,
                "mac": d.value.mac,
            })
        })
        .collect();
    let addresses: Vec<Value> = endpoints
        .iter()
        .flat_map(|e| e["addresses"].as_array().cloned().unwrap_or_default())
        .collect();
    let status = state
        .statuses
        .get(name)
        .map(|d| &d.value)
        .filter(|s| s.uid == doc.value.uid);
    let json = json!({ "spec": doc.value, "status": status, "addresses": addresses, "endpoints": endpoints });
    Some(object("container", name, &json, doc.revision))
}

fn chains(state: &State) -> Vec<Object> {
    state
        .chains
        .iter()
        .map(|((tenant, chain), doc)| {
            let versions: Vec<Value> = state
                .versions
                .keys()
                .filter(|(t, c, _)| t == tenant && c == chain)
                .map(|key| {
                    let instances: Vec<Value> = state
                        .instances
                        .iter()
                        .filter(|((t, c, v, ..), _)| (t, c, v) == (&key.0, &key.1, &key.2))
                        .map(|((t, .., hop, i), d)| json!({"hop": hop, "instance": format!("{t}/{i}"), "node": d.value.node, "block": d.value.block}))
                        .collect();
                    json!({
                        "version": key.2,
                        "ready": state.ready.get(key),
                        "carriers": crate::plan::chains::carriers(state, key),
                        "instances": instances,
                    })
                })
                .collect();
            let added = json!({ "versions": versions, "classified": crate::plan::chains::complete_version(state, tenant, chain) });
            object("chain", format!("{tenant}/{chain}"), &with(&doc.value, added), doc.revision)
        })
        .collect()
}

fn nodes(state: &State) -> Vec<Object> {
    state
        .nodes
        .iter()
        .map(|(name, doc)| {
            let alive = state.alive.get(name);
            let added = json!({
                "alive": alive.is_some(),
                "version": alive.map(|a| &a.value.version),
                "since": alive.map(|a| a.value.since),
                "containers": state.containers.values().filter(|c| c.value.node == *name).count(),
            });
            object("node", name, &with(&doc.value, added), doc.revision)
        })
        .collect()
}

fn subnets(state: &State) -> Vec<Object> {
    let mut list = Vec::new();
    for (network, leases) in &state.subnets {
        for (net, doc) in leases {
            let node = state.nodes.get(&doc.value.node);
            let vtep = node.and_then(|n| n.value.vteps.first());
            let fits = (state.networks.get(network)).and_then(|n| fits(&n.value, &node?.value));
            let added = json!({
                "network": network, "subnet": net, "vtep": vtep,
                "mtu": fits.map(|(mtu, _)| mtu), "mtu_from": fits.map(|(_, from)| from),
            });
            list.push(object(
                "subnet",
                format!("{network}/{net}"),
                &with(&doc.value, added),
                doc.revision,
            ));
        }
    }
    list
}

/// The MTU of a network's interfaces on a node, bytes, and what it comes from.
fn fits(network: &NetworkSpec, node: &NodeSpec) -> Option<(u16, &'static str)> {
    let (underlay, vtep) = (node.mtu?, *node.vteps.first()?);
    let mtu = network_mtu(network, underlay, vtep);
    let from = match network.mtu {
        Some(asked) if asked == mtu => "document",
        _ => "underlay",
    };
    Some((mtu, from))
}

/// How the node and its cluster are, as far as it knows.
pub async fn status(shared: &Shared) -> StatusReply {
    let report = shared.report.borrow().clone();
    let state = shared.known().await.ok();
    let mut problems: Vec<String> = report
        .problems
        .iter()
        .map(|(s, p)| format!("{s}: {p}"))
        .collect();
    let mut nodes = Vec::new();
    if let Some(state) = &state {
        problems.extend(state.problem_lines());
        for (name, doc) in &state.nodes {
            let alive = state.alive.get(name);
            let containers = state
                .containers
                .values()
                .filter(|c| c.value.node == *name)
                .count();
            nodes.push(NodeState {
                name: name.to_string(),
                id: doc.value.id.0,
                alive: alive.is_some(),
                vteps: doc.value.vteps.iter().map(ToString::to_string).collect(),
                version: alive.map(|a| a.value.version.clone()).unwrap_or_default(),
                containers: u32::try_from(containers).unwrap_or(u32::MAX),
            });
        }
    }
    StatusReply {
        node: shared.config.name.to_string(),
        node_id: shared.parts.get().map_or(0, |p| p.node_id.0),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: report.ready,
        store_error: shared.store_error().unwrap_or_default(),
        revision: state.map_or(0, |s| s.revision.unsigned_abs()),
        problems,
        nodes,
        repairs: report.repairs.into_iter().map(repair).collect(),
        told: shared.mirror.told(),
    }
}

fn repair(one: super::shared::Repair) -> crate::proto::Repair {
    let super::shared::Repair { at, subject, lost } = one;
    crate::proto::Repair { at, subject, lost }
}
