//! Which endpoint documents this node is to write and to take back.
//!
//! The local record is what is; the documents follow it. A document of another node, or of a life that
//! this node does not know, is never touched; it is reported where it stands in the way.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_overlay::documents::EndpointDoc;
use weft_overlay::keys::Key;
use weft_overlay::{EndpointRef, NetworkRef, NodeName};

use crate::local::LocalState;
use crate::mirror::State;

/// A change of an endpoint document, fenced by what was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum EndpointOp {
    /// Write it.
    Put {
        /// The endpoint.
        endpoint: EndpointRef,
        /// What it is to say.
        doc: EndpointDoc,
        /// Revision of the document that it replaces; 0 = none.
        expect: i64,
        /// Revision of its network: an endpoint never outlives or precedes it.
        network: i64,
        /// For each of its addresses the claim's key, and the revision of its own claim; 0 = nobody may have claimed it.
        claims: Vec<(Key, i64)>,
    },
    /// Take it back.
    Delete {
        /// The endpoint.
        endpoint: EndpointRef,
        /// Revision that is deleted.
        expect: i64,
        /// Keys of the addresses that were claimed for it.
        claims: Vec<Key>,
    },
    /// Another container has the name.
    Conflict {
        /// The endpoint.
        endpoint: EndpointRef,
        /// Who has it.
        holder: String,
    },
}

/// What this node has to say, given what the store says.
pub fn plan(state: &State, local: &LocalState, me: &NodeName) -> Vec<EndpointOp> {
    let mut wanted: BTreeMap<EndpointRef, EndpointDoc> = BTreeMap::new();
    for (container, record) in &local.containers {
        // The labels stand in the spec; a spec that is gone is about to take its endpoints along.
        let Some(spec) = state.containers.get(container) else {
            continue;
        };
        for i in &record.interfaces {
            let doc = EndpointDoc {
                uid: record.uid.clone(),
                addresses: i.addresses.clone(),
                mac: i.mac,
                node: me.clone(),
                labels: spec.value.labels.clone(),
                container: container.container.clone(),
                interface: i.interface.clone(),
            };
            wanted.insert(i.endpoint_ref(), doc);
        }
    }
    let mut ops = Vec::new();
    for (endpoint, doc) in &wanted {
        if state.is_unreadable(&Key::Endpoint(endpoint.clone())) {
            continue;
        }
        match state.endpoints.get(endpoint) {
            Some(there) if there.value == *doc => {}
            Some(there) if there.value.node != *me => ops.push(EndpointOp::Conflict {
                endpoint: endpoint.clone(),
                holder: format!("{} on {}", there.value.container, there.value.node),
            }),
            there => {
                let network = NetworkRef {
                    tenant: endpoint.tenant.clone(),
                    network: endpoint.network.clone(),
                };
                // Without its network it has no place; the container's own problem says so.
                let Some(spec) = state.networks.get(&network) else {
                    continue;
                };
                ops.push(match claims(state, &network, endpoint, doc) {
                    Ok(claims) => EndpointOp::Put {
                        endpoint: endpoint.clone(),
                        doc: doc.clone(),
                        expect: there.map_or(0, |d| d.revision),
                        network: spec.revision,
                        claims,
                    },
                    Err(holder) => EndpointOp::Conflict {
                        endpoint: endpoint.clone(),
                        holder,
                    },
                });
            }
        }
    }
    for (endpoint, there) in &state.endpoints {
        let container = weft_overlay::ContainerRef {
            tenant: endpoint.tenant.clone(),
            container: there.value.container.clone(),
        };
        // A container that is recorded or still wanted here may be about to write its documents.
        let ours = there.value.node == *me && !wanted.contains_key(endpoint);
        let is_recorded = local.containers.contains_key(&container);
        let is_wanted = state
            .containers
            .get(&container)
            .is_some_and(|d| d.value.node == *me)
            || state.is_unreadable(&Key::Container(container.clone()));
        // One that is recorded as it is wanted has all its endpoints: it left the network of this one.
        let is_settled = local.containers.get(&container).is_some_and(|record| {
            let doc = state.containers.get(&container);
            doc.is_some_and(|d| d.value.node == *me && d.value.uid == record.uid)
        });
        if ours && (is_settled || (!is_recorded && !is_wanted)) {
            let name = endpoint.to_string();
            // What moved to another node has taken its addresses along.
            let moved = state
                .containers
                .get(&container)
                .is_some_and(|d| d.value.node != *me);
            let claims = state
                .addresses
                .iter()
                .filter(|(_, holder)| !moved && holder.value == name);
            let claims = claims
                .map(|((n, a), _)| Key::Address(n.clone(), *a))
                .collect();
            ops.push(EndpointOp::Delete {
                endpoint: endpoint.clone(),
                expect: there.revision,
                claims,
            });
        }
    }
    ops
}

/// What must be true of the claims of an endpoint's addresses; whoever else claimed one of them.
fn claims(
    state: &State,
    network: &NetworkRef,
    endpoint: &EndpointRef,
    doc: &EndpointDoc,
) -> Result<Vec<(Key, i64)>, String> {
    let name = endpoint.to_string();
    let of = |address: &IpAddr| {
        let key = Key::Address(network.clone(), *address);
        match state.addresses.get(&(network.clone(), *address)) {
            Some(claim) if claim.value != name => {
                Err(format!("{}, which claimed {address},", claim.value))
            }
            claim => Ok((key, claim.map_or(0, |c| c.revision))),
        }
    };
    doc.addresses.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::{LocalContainer, LocalInterface};
    use weft_overlay::{Mac, PortId, Vni};

    fn me() -> NodeName {
        "n1".parse().unwrap()
    }

    fn world() -> (State, LocalState) {
        let mut state = State::default();
        let spec =
            br#"{"uid":"u","image":"host","command":["x"],"node":"n1","labels":{"role":"web"}}"#;
        state.put("/weft/v1/tenants/red/containers/a/spec", spec, 5);
        let network = br#"{"vni":1,"cidr4":"10.1.0.0/16","subnet_len4":26}"#;
        state.put("/weft/v1/tenants/red/networks/front/spec", network, 4);
        let mut local = LocalState::default();
        let interface = LocalInterface {
            interface: "eth0".parse().unwrap(),
            endpoint: "a".parse().unwrap(),
            network: "red/front".parse().unwrap(),
            vni: Vni::new(1).unwrap(),
            addresses: vec!["10.1.0.2".parse().unwrap()],
            mac: Mac([2; 6]),
            port: PortId(1),
            hop: false,
            tap: None,
        };
        let record = LocalContainer {
            uid: "u".into(),
            interfaces: vec![interface],
            ..Default::default()
        };
        local.containers.insert("red/a".parse().unwrap(), record);
        (state, local)
    }

    #[test]
    fn what_is_here_is_told_once_and_taken_back_at_the_end() {
        let (mut state, mut local) = world();
        let ops = plan(&state, &local, &me());
        let [
            EndpointOp::Put {
                endpoint,
                doc,
                expect: 0,
                network: 4,
                claims,
            },
        ] = &ops[..]
        else {
            panic!("{ops:?}")
        };
        let address = Key::Address("red/front".parse().unwrap(), "10.1.0.2".parse().unwrap());
        assert_eq!(*claims, [(address, 0)], "nobody may have claimed it");
        assert_eq!(doc.labels["role"], "web");
        let json = serde_json::to_vec(doc).unwrap();
        state.put(&Key::Endpoint(endpoint.clone()).path(), &json, 9);
        assert!(plan(&state, &local, &me()).is_empty());
        local.containers.clear();
        assert!(
            plan(&state, &local, &me()).is_empty(),
            "the container is still wanted"
        );
        state.delete("/weft/v1/tenants/red/containers/a/spec");
        let deleted = EndpointOp::Delete {
            endpoint: endpoint.clone(),
            expect: 9,
            claims: vec![],
        };
        assert_eq!(plan(&state, &local, &me()), [deleted]);
    }

    #[test]
    fn a_container_that_left_a_network_leaves_no_endpoint_there() {
        let (mut state, mut local) = world();
        let left = br#"{"uid":"t","addresses":["10.2.0.2"],"mac":"0a:00:00:00:00:01","node":"n1","container":"a","interface":"eth0"}"#;
        state.put("/weft/v1/tenants/red/networks/back/endpoints/a", left, 7);
        let claim = "/weft/v1/tenants/red/networks/back/addresses/10.2.0.2";
        state.put(claim, br#""red/back/a""#, 6);
        let deletes = |state: &State, local: &LocalState| {
            let ops = plan(state, local, &me());
            let deleted = |op: &EndpointOp| match op {
                EndpointOp::Delete {
                    expect: 7, claims, ..
                } => Some(claims.len()),
                _ => None,
            };
            ops.iter().find_map(deleted)
        };
        assert_eq!(deletes(&state, &local), Some(1));
        // Its old life is not taken down yet.
        let record = local.containers.values_mut().next().unwrap();
        record.uid = "t".into();
        assert_eq!(deletes(&state, &local), None);
    }

    #[test]
    fn an_address_that_another_endpoint_claimed_is_never_announced() {
        let (mut state, local) = world();
        let key = "/weft/v1/tenants/red/networks/front/addresses/10.1.0.2";
        state.put(key, br#""red/front/z""#, 7);
        let ops = plan(&state, &local, &me());
        assert!(
            matches!(&ops[..], [EndpointOp::Conflict { holder, .. }] if holder.contains("red/front/z")),
            "{ops:?}"
        );
        state.put(key, br#""red/front/a""#, 8);
        let ops = plan(&state, &local, &me());
        assert!(
            matches!(&ops[..], [EndpointOp::Put { claims, .. }] if claims[0].1 == 8),
            "its own claim must still stand: {ops:?}"
        );
    }

    #[test]
    fn another_nodes_endpoint_is_never_overwritten() {
        let (mut state, local) = world();
        let doc = br#"{"uid":"v","addresses":[],"mac":"0a:00:00:00:00:01","node":"n2","container":"b","interface":"eth0"}"#;
        state.put("/weft/v1/tenants/red/networks/front/endpoints/a", doc, 7);
        assert!(matches!(
            &plan(&state, &local, &me())[..],
            [EndpointOp::Conflict { .. }]
        ));
    }
}
