//! The node's permanent entry: its id, never reused, and where it is reached; and which cluster it
//! belongs to.
//!
//! Ids come from a counter in the cluster document, taken in the same transaction that writes the
//! node's spec and its `alive`: of two nodes that come up with one name, exactly one is in. A node
//! whose memory is lost gets its id back by its name, unless a node of that name is alive.
//!
//! A node remembers its cluster. A store without that cluster's document is another one, or was
//! emptied: the absence of a container there is no proof that it is to go, so the node refuses and
//! touches nothing.

use std::net::IpAddr;
use std::time::Duration;

use weft_overlay::documents::{ClusterDoc, FormatRange, NodeAlive, NodeSpec};
use weft_overlay::keys::Key;
use weft_overlay::{NodeId, NodeName};
use weft_store::client::Client;

use super::NodeError;
use crate::plan::desired::Write;
use crate::storage::{Wrote, write};

/// The format of documents that this program reads and writes.
const FORMAT: u32 = 1;
/// Nodes that register at once each lose a transaction to each other; this many rounds see 64 through.
const ATTEMPTS: u32 = 64;

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its name.
    pub name: NodeName,
    /// Its VTEP.
    pub vtep: IpAddr,
    /// `host:port` of its API.
    pub api: String,
    /// MTU of its underlay, bytes.
    pub mtu: u32,
    /// The cluster that its memory has.
    pub cluster: Option<String>,
    /// What it says while it lives.
    pub alive: NodeAlive,
    /// How long its word counts without a keep-alive.
    pub ttl: Duration,
}

/// A node that is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: NodeId,
    /// The cluster's.
    pub cluster: String,
    /// The lease of its `alive`.
    pub lease: i64,
}

/// What the store says about the node, each with its revision.
#[derive(Clone, Debug, Default)]
struct Found {
    cluster: Option<(ClusterDoc, i64)>,
    spec: Option<(NodeSpec, i64)>,
    alive: Option<(NodeAlive, i64)>,
}

/// What to write for a node, and what it then is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    registered: Registered,
    write: Write,
}

/// Why a node is not registered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It must not be.
    #[error(transparent)]
    Refused(#[from] NodeError),
    /// The store did not answer; it may later.
    #[error(transparent)]
    Store(#[from] weft_store::client::Error),
}

/// Registers the node, or finds it registered, and says that it lives.
pub async fn register(client: &Client, node: &Registration) -> Result<Registered, Error> {
    // A refused node leaves no lease behind that lives for long: nothing keeps it alive.
    let lease = client.lease_grant(node.ttl).await?;
    for attempt in 0..ATTEMPTS {
        let found = find(client, node).await?;
        let plan = plan(node, &found, lease, &uuid::Uuid::new_v4().to_string())?;
        match write(client, &plan.write).await {
            Ok(Wrote::Done(_)) => return Ok(plan.registered),
            Ok(Wrote::Stale(_)) => {}
            // It may have been done: the next round reads what is.
            Err(e) if e.outcome_unknown() => {}
            Err(e) => return Err(e.into()),
        }
        tokio::time::sleep(super::jitter(Duration::from_millis(5), attempt)).await;
    }
    let cause = format!("lost {ATTEMPTS} transactions for an id to other nodes");
    Err(NodeError::new(format!("node {}", node.name), cause, "start it again").into())
}

async fn find(client: &Client, node: &Registration) -> Result<Found, Error> {
    async fn read<T: serde::de::DeserializeOwned>(
        client: &Client,
        key: Key,
    ) -> Result<Option<(T, i64)>, Error> {
        let Some(kv) = client.get(key.path()).await? else {
            return Ok(None);
        };
        let doc = serde_json::from_slice(&kv.value).map_err(|e| {
            NodeError::new(
                format!("document {}", kv.key_str()),
                format!("cannot be read: {e}"),
                "it was written by another version or by hand; restore it",
            )
        })?;
        Ok(Some((doc, kv.mod_revision)))
    }
    Ok(Found {
        cluster: read(client, Key::Cluster).await?,
        spec: read(client, Key::NodeSpec(node.name.clone())).await?,
        alive: read(client, Key::NodeAlive(node.name.clone())).await?,
    })
}

/// Refuses a store that is not the one of the node's cluster, or that this program cannot work with.
fn check_cluster(node: &Registration, found: Option<&ClusterDoc>) -> Result<(), NodeError> {
    let subject = format!("node {}", node.name);
    if let Some(mine) = &node.cluster
        && found.is_none_or(|c| c.id != *mine)
    {
        let there = found.map_or_else(
            || "the store is empty".to_owned(),
            |c| format!("the store is of cluster {}", c.id),
        );
        return Err(NodeError::new(
            subject,
            format!("belongs to cluster {mine}, but {there}; its containers are left as they are"),
            "point it to its own cluster's store, or restore that from a member that has its data; \
             to make a new node of it, stop its containers and start with an empty --state-dir",
        ));
    }
    if let Some(cluster) = found
        && (cluster.format.min > FORMAT || cluster.format.max < FORMAT)
    {
        return Err(NodeError::new(
            subject,
            format!(
                "speaks format {FORMAT}; the cluster runs {} to {}",
                cluster.format.min, cluster.format.max
            ),
            "install the cluster's version of weft on this node",
        ));
    }
    Ok(())
}

fn plan(
    node: &Registration,
    found: &Found,
    lease: i64,
    new_cluster: &str,
) -> Result<Plan, NodeError> {
    check_cluster(node, found.cluster.as_ref().map(|(c, _)| c))?;
    if let Some((alive, _)) = &found.alive
        && alive.uid != node.alive.uid
    {
        let at = found
            .spec
            .as_ref()
            .map_or_else(|| "another machine".to_owned(), |(s, _)| s.api.clone());
        return Err(NodeError::new(
            format!("node {}", node.name),
            format!("a node of this name is alive at {at}"),
            format!(
                "give this one another --name; or stop the other and wait {:?}",
                node.ttl
            ),
        ));
    }
    let mut write = Write::default();
    let (mut cluster, revision) = match &found.cluster {
        Some((doc, revision)) => (doc.clone(), Some(*revision)),
        None => (new_document(new_cluster), None),
    };
    let (id, labels, replaces) = match &found.spec {
        Some((present, revision)) => (present.id, present.labels.clone(), Some(*revision)),
        None => {
            let id = NodeId(cluster.next_node);
            cluster.next_node += 1;
            write.put(&Key::Cluster, &cluster, revision);
            (id, Default::default(), None)
        }
    };
    let spec = NodeSpec {
        id,
        vteps: vec![node.vtep],
        api: node.api.clone(),
        mtu: Some(node.mtu),
        labels,
    };
    let key = Key::NodeSpec(node.name.clone());
    match (&found.spec, replaces) {
        (Some((present, _)), Some(revision)) if *present == spec => write.require(&key, revision),
        _ => write.put(&key, &spec, replaces),
    }
    let alive = Key::NodeAlive(node.name.clone());
    let before = found.alive.as_ref().map(|(_, revision)| *revision);
    write.put_leased(&alive, &node.alive, before, lease);
    let registered = Registered {
        id,
        cluster: cluster.id,
        lease,
    };
    Ok(Plan { registered, write })
}

fn new_document(id: &str) -> ClusterDoc {
    ClusterDoc {
        id: id.to_owned(),
        format: FormatRange {
            min: FORMAT,
            max: FORMAT,
        },
        next_node: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::desired::{Expect, WriteOp};

    fn node(uid: &str) -> Registration {
        Registration {
            name: "n1".parse().unwrap(),
            vtep: "192.0.2.1".parse().unwrap(),
            api: "192.0.2.1:7946".into(),
            mtu: 1500,
            cluster: None,
            alive: alive(uid),
            ttl: Duration::from_secs(10),
        }
    }

    fn alive(uid: &str) -> NodeAlive {
        NodeAlive {
            uid: uid.into(),
            version: "1".into(),
            since: 1,
        }
    }

    fn cluster(next_node: u32) -> Option<(ClusterDoc, i64)> {
        let doc = ClusterDoc {
            next_node,
            ..new_document("c")
        };
        Some((doc, 4))
    }

    fn spec(id: u32, vtep: &str) -> Option<(NodeSpec, i64)> {
        let doc = NodeSpec {
            mtu: Some(1500),
            id: NodeId(id),
            vteps: vec![vtep.parse().unwrap()],
            api: "192.0.2.1:7946".into(),
            labels: Default::default(),
        };
        Some((doc, 9))
    }

    fn planned(node: &Registration, found: &Found) -> Plan {
        plan(node, found, 77, "c").unwrap()
    }

    fn refusal(node: &Registration, found: &Found) -> String {
        plan(node, found, 77, "c").unwrap_err().to_string()
    }

    #[test]
    fn ids_only_grow() {
        let first = planned(&node("a"), &Found::default());
        assert_eq!(
            (first.registered.id, first.write.ops.len()),
            (NodeId(1), 3),
            "the cluster, the node, its word"
        );
        // Node 1 was removed: its number does not come back, not even for a node that remembers it.
        let found = Found {
            cluster: cluster(5),
            ..Found::default()
        };
        let again = Registration {
            cluster: Some("c".into()),
            ..node("a")
        };
        assert_eq!(planned(&again, &found).registered.id, NodeId(5));
    }

    #[test]
    fn a_registered_node_keeps_its_id_and_updates_its_address() {
        let found = Found {
            cluster: cluster(5),
            spec: spec(2, "192.0.2.1"),
            alive: Some((alive("a"), 12)),
        };
        let same = planned(&node("a"), &found);
        assert_eq!(same.registered.id, NodeId(2));
        assert!(
            matches!(&same.write.ops[..], [WriteOp::PutLeased(_, _, 77)]),
            "only its word is new: {:?}",
            same.write
        );
        let found = Found {
            spec: spec(2, "192.0.2.99"),
            ..found
        };
        assert_eq!(planned(&node("a"), &found).write.ops.len(), 2);
    }

    #[test]
    fn a_living_namesake_is_refused_and_a_dead_one_is_taken_over() {
        let found = Found {
            cluster: cluster(5),
            spec: spec(2, "192.0.2.1"),
            alive: Some((alive("other"), 12)),
        };
        let text = refusal(&node("a"), &found);
        assert!(
            text.contains("is alive at 192.0.2.1:7946") && text.contains("help: "),
            "{text}"
        );
        let found = Found {
            alive: None,
            ..found
        };
        let taken = planned(&node("a"), &found);
        assert_eq!(taken.registered.id, NodeId(2));
        // Whoever else takes it over at the same time loses, by the absence of `alive`.
        let absent = Expect::Absent("/weft/v1/nodes/n1/alive".into());
        assert!(taken.write.expect.contains(&absent), "{:?}", taken.write);
    }

    #[test]
    fn an_emptied_or_foreign_store_is_refused_by_a_node_that_remembers_its_own() {
        let mine = Registration {
            cluster: Some("mine".into()),
            ..node("a")
        };
        let text = refusal(&mine, &Found::default());
        assert!(text.contains("the store is empty"), "{text}");
        let foreign = Found {
            cluster: cluster(5),
            ..Found::default()
        };
        let text = refusal(&mine, &foreign);
        assert!(
            text.contains("cluster mine, but the store is of cluster c"),
            "{text}"
        );
    }

    #[test]
    fn a_cluster_of_another_format_is_refused() {
        let mut found = Found {
            cluster: cluster(5),
            ..Found::default()
        };
        if let Some((doc, _)) = &mut found.cluster {
            doc.format = FormatRange { min: 2, max: 3 };
        }
        assert!(refusal(&node("a"), &found).contains("speaks format 1"));
    }
}
