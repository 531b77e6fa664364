//! The store's documents, typed, at one revision. Pure.
//!
//! A document that cannot be read is kept aside: the last readable one stays in force, the key is in
//! [`State::problems`], and no plan takes its absence for a wish.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use weft_chain::{ChainDoc, ChainVersionDoc};
use weft_overlay::documents::{
    ClusterDoc, ContainerSpec, ContainerStatus, EndpointDoc, InstanceDoc, NetworkSpec, NodeAlive,
    NodeSpec, SubnetLease, TenantSpec,
};
use weft_overlay::keys::{Key, ROOT};
use weft_overlay::{
    ChainName, ContainerName, ContainerRef, EndpointRef, NetworkRef, NodeName, TenantName, Vni,
};

/// A document and the revision that wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Doc<T> {
    /// What it says.
    pub value: T,
    /// Revision of its last change: the fence for whoever changes it next.
    pub revision: i64,
}

/// A chain of a tenant.
pub type ChainKey = (TenantName, ChainName);
/// A version of a chain.
pub type VersionKey = (TenantName, ChainName, u64);
/// An instance of a hop in a version: tenant, chain, version, hop, container.
pub type InstanceKey = (TenantName, ChainName, u64, String, ContainerName);

/// Everything below `/weft/v1/` at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is one line of the key layout")]
pub struct State {
    pub revision: i64,
    pub cluster: Option<Doc<ClusterDoc>>,
    pub nodes: BTreeMap<NodeName, Doc<NodeSpec>>,
    pub alive: BTreeMap<NodeName, Doc<NodeAlive>>,
    pub tenants: BTreeMap<TenantName, Doc<TenantSpec>>,
    pub networks: BTreeMap<NetworkRef, Doc<NetworkSpec>>,
    pub subnets: BTreeMap<NetworkRef, BTreeMap<IpNet, Doc<SubnetLease>>>,
    pub endpoints: BTreeMap<EndpointRef, Doc<EndpointDoc>>,
    /// Claims of single addresses; the value is the endpoint, `red/front/a`.
    pub addresses: BTreeMap<(NetworkRef, std::net::IpAddr), Doc<String>>,
    pub containers: BTreeMap<ContainerRef, Doc<ContainerSpec>>,
    pub statuses: BTreeMap<ContainerRef, Doc<ContainerStatus>>,
    pub chains: BTreeMap<ChainKey, Doc<ChainDoc>>,
    pub versions: BTreeMap<VersionKey, Doc<ChainVersionDoc>>,
    pub ready: BTreeMap<VersionKey, BTreeSet<NodeName>>,
    pub instances: BTreeMap<InstanceKey, Doc<InstanceDoc>>,
    /// Who has a VNI.
    pub vnis: BTreeMap<Vni, Doc<NetworkRef>>,
    /// Blocks that are taken.
    pub steer: BTreeMap<u32, i64>,
    /// Which container is to be on which node.
    pub placed: BTreeSet<(NodeName, ContainerRef)>,
    /// Up to which revision everything of a network is here, where that is not `revision`.
    pub seen: BTreeMap<NetworkRef, i64>,
    /// Unreadable documents: key -> why.
    pub problems: BTreeMap<String, String>,
    /// Keys that were unreadable when this process first read everything: what stood there before is unknown.
    pub unknown: BTreeSet<String>,
}

fn set<K: Ord, T: DeserializeOwned>(
    map: &mut BTreeMap<K, Doc<T>>,
    key: K,
    value: &[u8],
    revision: i64,
) -> Result<(), String> {
    let value = serde_json::from_slice(value).map_err(|e| e.to_string())?;
    map.insert(key, Doc { value, revision });
    Ok(())
}

impl State {
    /// Takes in a document.
    pub fn put(&mut self, path: &str, value: &[u8], revision: i64) {
        let Some(key) = Key::parse(path) else {
            self.problem(path, "weft does not know this key".to_owned());
            return;
        };
        match self.put_parsed(key, value, revision) {
            Ok(()) => {
                self.problems.remove(path);
            }
            Err(cause) => self.problem(path, cause),
        }
    }

    fn problem(&mut self, path: &str, cause: String) {
        self.problems.insert(path.to_owned(), cause);
    }

    fn put_parsed(&mut self, key: Key, v: &[u8], r: i64) -> Result<(), String> {
        match key {
            Key::Cluster => {
                let value = serde_json::from_slice(v).map_err(|e| e.to_string())?;
                self.cluster = Some(Doc { value, revision: r });
                Ok(())
            }
            Key::NodeSpec(n) => set(&mut self.nodes, n, v, r),
            Key::NodeAlive(n) => set(&mut self.alive, n, v, r),
            Key::Tenant(t) => set(&mut self.tenants, t, v, r),
            Key::Network(n) => set(&mut self.networks, n, v, r),
            Key::Subnet(n, net) => set(self.subnets.entry(n).or_default(), net, v, r),
            Key::Endpoint(e) => set(&mut self.endpoints, e, v, r),
            Key::Address(n, a) => set(&mut self.addresses, (n, a), v, r),
            Key::Container(c) => set(&mut self.containers, c, v, r),
            Key::ContainerStatus(c) => set(&mut self.statuses, c, v, r),
            Key::Chain(t, c) => set(&mut self.chains, (t, c), v, r),
            Key::ChainVersion(t, c, n) => set(&mut self.versions, (t, c, n), v, r),
            Key::ChainReady(t, c, n, node) => {
                self.ready.entry((t, c, n)).or_default().insert(node);
                Ok(())
            }
            Key::ChainInstance(t, c, n, hop, i) => {
                set(&mut self.instances, (t, c, n, hop, i), v, r)
            }
            Key::Vni(vni) => set(&mut self.vnis, vni, v, r),
            Key::Steer(block) => {
                self.steer.insert(block, r);
                Ok(())
            }
            Key::Placed(node, container) => {
                self.placed.insert((node, container));
                Ok(())
            }
        }
    }

    /// Takes out a document.
    pub fn delete(&mut self, path: &str) {
        self.problems.remove(path);
        let Some(key) = Key::parse(path) else { return };
        match key {
            Key::Cluster => self.cluster = None,
            Key::NodeSpec(n) => drop(self.nodes.remove(&n)),
            Key::NodeAlive(n) => drop(self.alive.remove(&n)),
            Key::Tenant(t) => drop(self.tenants.remove(&t)),
            Key::Network(n) => drop(self.networks.remove(&n)),
            Key::Subnet(n, net) => remove_inner(&mut self.subnets, &n, |nets| {
                nets.remove(&net);
                nets.is_empty()
            }),
            Key::Endpoint(e) => drop(self.endpoints.remove(&e)),
            Key::Address(n, a) => drop(self.addresses.remove(&(n, a))),
            Key::Container(c) => drop(self.containers.remove(&c)),
            Key::ContainerStatus(c) => drop(self.statuses.remove(&c)),
            Key::Chain(t, c) => drop(self.chains.remove(&(t, c))),
            Key::ChainVersion(t, c, v) => drop(self.versions.remove(&(t, c, v))),
            Key::ChainReady(t, c, v, node) => {
                remove_inner(&mut self.ready, &(t, c, v), |nodes| {
                    nodes.remove(&node);
                    nodes.is_empty()
                });
            }
            Key::ChainInstance(t, c, v, h, i) => drop(self.instances.remove(&(t, c, v, h, i))),
            Key::Vni(vni) => drop(self.vnis.remove(&vni)),
            Key::Steer(block) => drop(self.steer.remove(&block)),
            Key::Placed(node, container) => drop(self.placed.remove(&(node, container))),
        }
    }

    /// Takes over from `old` what stood in each document that cannot be read here: a full reading keeps
    /// the last readable ones in force as a change does.
    pub fn keep_readable(&mut self, old: &State) {
        self.unknown = old.unknown.clone();
        let unreadable: Vec<Key> = self.problems.keys().filter_map(|p| Key::parse(p)).collect();
        for key in unreadable {
            match key {
                Key::Cluster => self.cluster = self.cluster.take().or_else(|| old.cluster.clone()),
                Key::NodeSpec(n) => copy(&old.nodes, &mut self.nodes, &n),
                Key::NodeAlive(n) => copy(&old.alive, &mut self.alive, &n),
                Key::Tenant(t) => copy(&old.tenants, &mut self.tenants, &t),
                Key::Network(n) => copy(&old.networks, &mut self.networks, &n),
                Key::Subnet(n, net) => {
                    if let Some(nets) = old.subnets.get(&n).filter(|nets| nets.contains_key(&net)) {
                        copy(nets, self.subnets.entry(n).or_default(), &net);
                    }
                }
                Key::Endpoint(e) => copy(&old.endpoints, &mut self.endpoints, &e),
                Key::Address(n, a) => copy(&old.addresses, &mut self.addresses, &(n, a)),
                Key::Container(c) => copy(&old.containers, &mut self.containers, &c),
                Key::ContainerStatus(c) => copy(&old.statuses, &mut self.statuses, &c),
                Key::Chain(t, c) => copy(&old.chains, &mut self.chains, &(t, c)),
                Key::ChainVersion(t, c, v) => {
                    copy(&old.versions, &mut self.versions, &(t, c, v));
                }
                Key::ChainInstance(t, c, v, h, i) => {
                    copy(&old.instances, &mut self.instances, &(t, c, v, h, i));
                }
                Key::Vni(vni) => copy(&old.vnis, &mut self.vnis, &vni),
                // Their values are not read, so they are never unreadable.
                Key::ChainReady(..) | Key::Steer(_) | Key::Placed(..) => {}
            }
        }
    }

    /// The revision up to which nothing of a network is missing here: the fence for what must come before others.
    pub fn revision_of(&self, network: &NetworkRef) -> i64 {
        self.seen.get(network).copied().unwrap_or(self.revision)
    }

    /// Marks what cannot be read in the first full reading.
    pub fn first_reading(&mut self) {
        self.unknown = self.problems.keys().cloned().collect();
    }

    /// An unreadable document that the datapath is made from and of which no earlier text is known:
    /// what it said may be in the kernel, and nobody can say that it is not wanted. One that came
    /// unreadable while this process watched was never in force, and hinders nothing.
    pub fn blind(&self) -> Option<&str> {
        let is_blind = |path: &&String| match Key::parse(path) {
            Some(Key::NodeSpec(n)) => !self.nodes.contains_key(&n),
            Some(Key::Network(n)) => !self.networks.contains_key(&n),
            Some(Key::Subnet(n, net)) => !self
                .subnets
                .get(&n)
                .is_some_and(|nets| nets.contains_key(&net)),
            Some(Key::Endpoint(e)) => !self.endpoints.contains_key(&e),
            Some(Key::Chain(t, c)) => !self.chains.contains_key(&(t, c)),
            Some(Key::ChainVersion(t, c, v)) => !self.versions.contains_key(&(t, c, v)),
            Some(Key::ChainInstance(t, c, v, h, i)) => {
                !self.instances.contains_key(&(t, c, v, h, i))
            }
            _ => false,
        };
        let unknown = self.unknown.iter();
        unknown
            .filter(|path| self.problems.contains_key(*path))
            .find(is_blind)
            .map(String::as_str)
    }

    /// Leaves out every document whose key is not asked for.
    pub fn retain(&mut self, wanted: impl Fn(&Key) -> bool) {
        self.nodes.retain(|n, _| wanted(&Key::NodeSpec(n.clone())));
        self.alive.retain(|n, _| wanted(&Key::NodeAlive(n.clone())));
        self.tenants.retain(|t, _| wanted(&Key::Tenant(t.clone())));
        self.networks
            .retain(|n, _| wanted(&Key::Network(n.clone())));
        for (network, nets) in &mut self.subnets {
            nets.retain(|net, _| wanted(&Key::Subnet(network.clone(), *net)));
        }
        self.subnets.retain(|_, nets| !nets.is_empty());
        self.endpoints
            .retain(|e, _| wanted(&Key::Endpoint(e.clone())));
        self.addresses
            .retain(|(n, a), _| wanted(&Key::Address(n.clone(), *a)));
        self.containers
            .retain(|c, _| wanted(&Key::Container(c.clone())));
        self.statuses
            .retain(|c, _| wanted(&Key::ContainerStatus(c.clone())));
        self.chains
            .retain(|(t, c), _| wanted(&Key::Chain(t.clone(), c.clone())));
        self.versions
            .retain(|(t, c, v), _| wanted(&Key::ChainVersion(t.clone(), c.clone(), *v)));
        self.ready
            .retain(|(t, c, v), _| wanted(&Key::ChainVersion(t.clone(), c.clone(), *v)));
        self.instances.retain(|(t, c, v, h, i), _| {
            wanted(&Key::ChainInstance(
                t.clone(),
                c.clone(),
                *v,
                h.clone(),
                i.clone(),
            ))
        });
        self.vnis.retain(|v, _| wanted(&Key::Vni(*v)));
        self.steer.retain(|s, _| wanted(&Key::Steer(*s)));
        self.placed
            .retain(|(n, c)| wanted(&Key::Placed(n.clone(), c.clone())));
        self.seen.retain(|n, _| wanted(&Key::Network(n.clone())));
        // A key that weft does not know is nobody's.
        self.problems
            .retain(|path, _| Key::parse(path).is_some_and(|key| wanted(&key)));
        // What comes back later has not been in force meanwhile.
        self.unknown.retain(|path| self.problems.contains_key(path));
    }

    /// Whether a document whose key starts with `prefix` cannot be read.
    pub fn is_unreadable_below(&self, prefix: &str) -> bool {
        let mut from = self.problems.range(prefix.to_owned()..);
        from.next()
            .is_some_and(|(path, _)| path.starts_with(prefix))
    }

    /// Whether there is a document at `key` that cannot be read: its absence here means nothing.
    pub fn is_unreadable(&self, key: &Key) -> bool {
        self.problems.contains_key(&key.path())
    }

    /// Whether the node's lease lives.
    pub fn is_alive(&self, node: &NodeName) -> bool {
        self.alive.contains_key(node)
    }

    /// The leases of a network, without their revisions' documents.
    pub fn leases(&self, network: &NetworkRef) -> BTreeMap<IpNet, (SubnetLease, i64)> {
        self.subnets
            .get(network)
            .into_iter()
            .flatten()
            .map(|(net, doc)| (*net, (doc.value.clone(), doc.revision)))
            .collect()
    }

    /// The endpoints of a network.
    pub fn endpoints_of<'a>(
        &'a self,
        network: &'a NetworkRef,
    ) -> impl Iterator<Item = (&'a EndpointRef, &'a EndpointDoc)> {
        self.endpoints
            .iter()
            .filter(move |(e, _)| e.tenant == network.tenant && e.network == network.network)
            .map(|(e, doc)| (e, &doc.value))
    }

    /// The network with this VNI.
    pub fn network_of(&self, vni: u32) -> Option<(&NetworkRef, &NetworkSpec)> {
        self.networks
            .iter()
            .find(|(_, doc)| doc.value.vni.get() == vni)
            .map(|(name, doc)| (name, &doc.value))
    }

    /// The name of the node with this id.
    pub fn node_name(&self, id: u32) -> Option<&NodeName> {
        self.nodes
            .iter()
            .find(|(_, doc)| doc.value.id.0 == id)
            .map(|(name, _)| name)
    }

    /// The problems as lines for people.
    pub fn problem_lines(&self) -> Vec<String> {
        let line = |(key, cause): (&String, &String)| {
            format!(
                "document {}: {cause}",
                key.strip_prefix(ROOT).unwrap_or(key)
            )
        };
        self.problems.iter().map(line).collect()
    }
}

fn copy<K: Ord + Clone, T: Clone>(
    old: &BTreeMap<K, Doc<T>>,
    new: &mut BTreeMap<K, Doc<T>>,
    key: &K,
) {
    if let Some(doc) = old.get(key) {
        new.entry(key.clone()).or_insert_with(|| doc.clone());
    }
}

fn remove_inner<K: Ord, V>(map: &mut BTreeMap<K, V>, key: &K, remove: impl FnOnce(&mut V) -> bool) {
    if map.get_mut(key).is_some_and(remove) {
        map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut s = State::default();
        s.put(
            "/weft/v1/nodes/n1/spec",
            br#"{"id":1,"vteps":["192.0.2.1"],"api":"192.0.2.1:7946"}"#,
            3,
        );
        s
    }

    #[test]
    fn documents_come_and_go() {
        let mut s = state();
        assert_eq!(s.node_name(1).map(NodeName::as_str), Some("n1"));
        s.put(
            "/weft/v1/tenants/red/networks/front/subnets/10.1.0.0-26",
            br#"{"node":"n1","since":1}"#,
            4,
        );
        let network: NetworkRef = "red/front".parse().unwrap();
        assert_eq!(s.leases(&network).len(), 1);
        s.delete("/weft/v1/tenants/red/networks/front/subnets/10.1.0.0-26");
        s.delete("/weft/v1/nodes/n1/spec");
        assert_eq!(s, State::default());
    }

    #[test]
    fn an_unreadable_change_keeps_the_last_readable_document() {
        let mut s = state();
        s.put("/weft/v1/nodes/n1/spec", br#"{"id":1,"vtps":[]}"#, 5);
        let key = Key::NodeSpec("n1".parse().unwrap());
        assert!(s.is_unreadable(&key));
        assert_eq!(s.nodes.len(), 1);
        assert!(s.problem_lines()[0].starts_with("document nodes/n1/spec: unknown field"));
        s.put(
            "/weft/v1/nodes/n1/spec",
            br#"{"id":1,"vteps":[],"api":"x"}"#,
            6,
        );
        assert!(s.problems.is_empty());
    }

    #[test]
    fn a_full_reading_keeps_what_was_readable_before() {
        let path = "/weft/v1/nodes/n1/spec";
        let mut read = State::default();
        read.put(path, b"{", 9);
        assert_eq!(read.blind(), None, "it came so: it was never in force");
        read.first_reading();
        assert_eq!(
            read.blind(),
            Some(path),
            "it was there so: nobody knows what was in force"
        );
        let old = state();
        read.keep_readable(&old);
        assert_eq!((&read.nodes, read.blind()), (&old.nodes, None));
        assert!(read.is_unreadable_below("/weft/v1/nodes/"));
        assert!(!read.is_unreadable_below("/weft/v1/tenants/"));
        // What is gone is gone.
        let mut empty = State::default();
        empty.keep_readable(&old);
        assert!(empty.nodes.is_empty());
    }

    #[test]
    fn what_is_left_out_hinders_nothing_when_it_comes_again() {
        let path = "/weft/v1/tenants/red/networks/front/spec";
        let mut read = state();
        read.put(path, b"{", 9);
        read.first_reading();
        assert_eq!(read.blind(), Some(path));
        read.retain(|key| matches!(key, Key::NodeSpec(_)));
        assert_eq!(read, state());
        // The node comes into the network, which nothing of it was in before.
        read.put(path, b"{", 9);
        assert_eq!((read.problems.len(), read.blind()), (1, None));
    }

    #[test]
    fn an_unknown_key_is_reported_and_harmless() {
        let mut s = State::default();
        s.put("/weft/v1/future/thing", b"{}", 1);
        assert_eq!(s.problems.len(), 1);
        s.delete("/weft/v1/future/thing");
        assert!(s.problems.is_empty());
    }
}
