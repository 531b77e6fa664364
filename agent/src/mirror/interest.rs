//! Which documents a node must know: those of the cluster, its containers, the networks that it is in, and the chains
//! of these networks' tenants. Pure.
//!
//! A network of which some document names the node is one that the node is in, so it stays until the node has taken
//! back what it said there; and a container stays while anything of it is on the node. So what is absent from the
//! documents of this node is absent from the store, and may be acted on.

use std::collections::BTreeSet;

use weft_overlay::keys::{self, Key};
use weft_overlay::{ContainerRef, NetworkRef, NodeName, TenantName};
use weft_store::client::KeyRange;

use super::State;
use crate::local::LocalState;

/// Documents that are watched together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The cluster's document.
    Cluster,
    /// All nodes.
    Nodes,
    /// Which containers are to be on this node.
    Placed(NodeName),
    /// A container: what it should be, how it is.
    Container(ContainerRef),
    /// A network with its leases, endpoints and claims.
    Network(NetworkRef),
    /// The chains of a tenant.
    Chains(TenantName),
}

impl Part {
    /// Its keys.
    pub fn range(&self) -> KeyRange {
        match self {
            Part::Cluster => KeyRange::key(Key::Cluster.path()),
            Part::Nodes => KeyRange::prefix(keys::nodes_prefix()),
            Part::Placed(node) => KeyRange::prefix(keys::placed_prefix(node)),
            Part::Container(container) => KeyRange::prefix(keys::prefix_of(container)),
            Part::Network(network) => KeyRange::prefix(keys::network_prefix(network)),
            Part::Chains(tenant) => KeyRange::prefix(keys::chains_prefix(tenant)),
        }
    }

    /// The part that a key is in; `None`: nodes do not watch it.
    pub fn of(key: &Key) -> Option<Part> {
        Some(match key {
            Key::Cluster => Part::Cluster,
            Key::NodeSpec(_) | Key::NodeAlive(_) => Part::Nodes,
            Key::Placed(node, _) => Part::Placed(node.clone()),
            Key::Container(c) | Key::ContainerStatus(c) => Part::Container(c.clone()),
            Key::Network(n) | Key::Subnet(n, _) | Key::Address(n, _) => Part::Network(n.clone()),
            Key::Endpoint(e) => Part::Network(NetworkRef {
                tenant: e.tenant.clone(),
                network: e.network.clone(),
            }),
            Key::Chain(t, _)
            | Key::ChainVersion(t, ..)
            | Key::ChainReady(t, ..)
            | Key::ChainInstance(t, ..) => Part::Chains(t.clone()),
            Key::Tenant(_) | Key::Vni(_) | Key::Steer(_) => return None,
        })
    }
}

/// What is on the node, whatever the documents say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Containers that have something on the node.
    pub containers: BTreeSet<ContainerRef>,
    /// Networks that have something on the node.
    pub networks: BTreeSet<NetworkRef>,
}

impl Here {
    /// As the node remembers it.
    pub fn of(local: &LocalState) -> Here {
        let interfaces = local.interfaces().map(|(_, i)| i.network.clone());
        Here {
            containers: local.containers.keys().cloned().collect(),
            networks: interfaces.chain(local.gateways.keys().cloned()).collect(),
        }
    }
}

/// What node `me` must know, as far as its documents tell: more documents may tell more.
pub fn interest(state: &State, here: &Here, me: &NodeName) -> BTreeSet<Part> {
    let mut containers = here.containers.clone();
    let mut networks = here.networks.clone();
    let placed = state.placed.iter().filter(|(node, _)| node == me);
    containers.extend(placed.map(|(_, container)| container.clone()));
    let said = state.statuses.iter().filter(|(_, d)| d.value.node == *me);
    containers.extend(said.map(|(container, _)| container.clone()));
    for (container, doc) in state.containers.iter().filter(|(_, d)| d.value.node == *me) {
        containers.insert(container.clone());
        networks.extend(doc.value.interfaces.iter().map(|i| NetworkRef {
            tenant: container.tenant.clone(),
            network: i.network.clone(),
        }));
    }
    for (endpoint, doc) in state.endpoints.iter().filter(|(_, d)| d.value.node == *me) {
        networks.insert(NetworkRef {
            tenant: endpoint.tenant.clone(),
            network: endpoint.network.clone(),
        });
        containers.insert(ContainerRef {
            tenant: endpoint.tenant.clone(),
            container: doc.value.container.clone(),
        });
    }
    let leases = state.subnets.iter();
    let own = leases.filter(|(_, nets)| nets.values().any(|d| d.value.node == *me));
    networks.extend(own.map(|(network, _)| network.clone()));
    let tenants: BTreeSet<TenantName> = networks.iter().map(|n| n.tenant.clone()).collect();
    // Whether a hop's instance runs is said by its container's status, wherever it is.
    let instances = state
        .instances
        .keys()
        .filter(|key| tenants.contains(&key.0));
    containers.extend(instances.map(|key| ContainerRef {
        tenant: key.0.clone(),
        container: key.4.clone(),
    }));
    let base = [Part::Cluster, Part::Nodes, Part::Placed(me.clone())];
    let containers = containers.into_iter().map(Part::Container);
    let networks = networks.into_iter().map(Part::Network);
    let chains = tenants.into_iter().map(Part::Chains);
    let more = containers.chain(networks).chain(chains);
    base.into_iter().chain(more).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEC: &str = r#"{"uid":"u","image":"host","command":["x"],"node":"n1","interfaces":[{"network":"front"}]}"#;

    fn put(state: &mut State, key: &str, value: &str) {
        state.put(&format!("{}{key}", keys::ROOT), value.as_bytes(), 1);
    }

    fn parts(state: &State, here: &Here) -> BTreeSet<Part> {
        interest(state, here, &"n1".parse().unwrap())
    }

    fn network(name: &str) -> Part {
        Part::Network(name.parse().unwrap())
    }

    #[test]
    fn a_placed_container_leads_to_its_network_and_its_tenants_chains() {
        let mut state = State::default();
        let none = parts(&state, &Here::default());
        assert_eq!(none.len(), 3);
        put(&mut state, "placed/n1/red/a", "{}");
        put(&mut state, "placed/n2/red/b", "{}");
        let container = Part::Container("red/a".parse().unwrap());
        let all = parts(&state, &Here::default());
        assert_eq!(all.difference(&none).collect::<Vec<_>>(), [&container]);
        put(&mut state, "tenants/red/containers/a/spec", SPEC);
        let all = parts(&state, &Here::default());
        assert!(all.contains(&network("red/front")));
        assert!(all.contains(&Part::Chains("red".parse().unwrap())));
    }

    #[test]
    fn a_network_stays_while_a_document_there_names_the_node() {
        let mut state = State::default();
        let lease = "tenants/red/networks/front/subnets/10.10.0.0-26";
        put(&mut state, lease, r#"{"node":"n1","since":1}"#);
        assert!(parts(&state, &Here::default()).contains(&network("red/front")));
        put(&mut state, lease, r#"{"node":"n2","since":1}"#);
        assert!(!parts(&state, &Here::default()).contains(&network("red/front")));
        // What is on the node counts, whatever the documents say.
        let mut here = Here::default();
        here.networks.insert("blue/back".parse().unwrap());
        assert!(parts(&state, &here).contains(&network("blue/back")));
    }

    #[test]
    fn instances_lead_to_their_containers_elsewhere() {
        let mut state = State::default();
        let mut here = Here::default();
        here.networks.insert("red/front".parse().unwrap());
        put(
            &mut state,
            "tenants/red/chains/c/versions/0000000001/instances/fw/f1",
            r#"{"block":4,"node":"n3","input":"f1-in","output":"f1-out"}"#,
        );
        let container = Part::Container("red/f1".parse().unwrap());
        assert!(parts(&state, &here).contains(&container));
        assert!(!parts(&state, &Here::default()).contains(&container));
    }

    proptest! {
        #[test]
        fn each_key_lies_in_the_range_of_its_part_alone(tenant in "[a-c]{1,2}", name in "[a-c]{1,2}", node in "n[1-9]") {
            let tenant: TenantName = tenant.parse().unwrap();
            let network = NetworkRef { tenant: tenant.clone(), network: name.parse().unwrap() };
            let container = ContainerRef { tenant: tenant.clone(), container: name.parse().unwrap() };
            let node: NodeName = node.parse().unwrap();
            let keys = [
                Key::Cluster,
                Key::NodeSpec(node.clone()),
                Key::Placed(node, container.clone()),
                Key::Container(container.clone()),
                Key::ContainerStatus(container),
                Key::Network(network.clone()),
                Key::Subnet(network, "10.0.0.0/26".parse().unwrap()),
                Key::Chain(tenant, name.parse().unwrap()),
            ];
            let contains = |part: &Part, key: &Key| part.range().contains(key.path().as_bytes());
            let parts: BTreeSet<Part> = keys.iter().filter_map(Part::of).collect();
            for key in &keys {
                let own = Part::of(key).unwrap();
                let holding: Vec<&Part> = parts.iter().filter(|part| contains(part, key)).collect();
                prop_assert_eq!(holding, vec![&own]);
            }
        }
    }
}
