//! The node's permanent entry: its id, never reused, and where it is reached.
//!
//! Ids come from a counter in the cluster document, taken in the same transaction that writes the
//! node's spec. A node whose memory is lost gets its id back by its name, unless a node of that name
//! is alive.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_overlay::documents::NodeSpec;
use weft_overlay::keys::Key;
use weft_overlay::{NodeId, NodeName};
use weft_store::client::Client;

use super::NodeError;
use crate::plan::desired::Write;
use crate::storage::{Wrote, write};

/// `cluster`: what the cluster is, and what its next node is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterDoc {
    /// Unique for each cluster.
    id: String,
    /// Which formats of documents may run.
    format: Format,
    /// The next node id.
    next_node: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    min: u32,
    max: u32,
}

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
    /// The id that its memory has.
    pub remembered: Option<NodeId>,
}

/// What the store says about the node, each with its revision.
#[derive(Clone, Debug, Default)]
struct Found {
    cluster: Option<(ClusterDoc, i64)>,
    spec: Option<(NodeSpec, i64)>,
    alive: bool,
}

/// What to write for a node, and the id that it then has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    id: NodeId,
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

/// Registers the node, or finds it registered; returns its id.
pub async fn register(client: &Client, node: &Registration) -> Result<NodeId, Error> {
    for attempt in 0..ATTEMPTS {
        let found = find(client, node).await?;
        let plan = plan(node, &found, &uuid::Uuid::new_v4().to_string())?;
        if plan.write.ops.is_empty() {
            return Ok(plan.id);
        }
        match write(client, &plan.write).await {
            Ok(Wrote::Done(_)) => return Ok(plan.id),
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
    let damaged = |key: &str, e: serde_json::Error| {
        let help = "it was written by another version or by hand; restore it";
        NodeError::new(
            format!("document {key}"),
            format!("cannot be read: {e}"),
            help,
        )
    };
    let mut found = Found::default();
    if let Some(kv) = client.get(Key::Cluster.path()).await? {
        let doc = serde_json::from_slice(&kv.value).map_err(|e| damaged("cluster", e))?;
        found.cluster = Some((doc, kv.mod_revision));
    }
    if let Some(kv) = client.get(Key::NodeSpec(node.name.clone()).path()).await? {
        let doc = serde_json::from_slice(&kv.value).map_err(|e| damaged(kv.key_str(), e))?;
        found.spec = Some((doc, kv.mod_revision));
    }
    found.alive = client
        .get(Key::NodeAlive(node.name.clone()).path())
        .await?
        .is_some();
    Ok(found)
}

fn plan(node: &Registration, found: &Found, cluster_id: &str) -> Result<Plan, NodeError> {
    if let Some((cluster, _)) = &found.cluster
        && (cluster.format.min > FORMAT || cluster.format.max < FORMAT)
    {
        return Err(NodeError {
            subject: format!("node {}", node.name),
            cause: format!(
                "speaks format {FORMAT}; the cluster runs {} to {}",
                cluster.format.min, cluster.format.max
            ),
            help: "install the cluster's version of weft on this node".into(),
        });
    }
    let spec = |id| NodeSpec {
        id,
        vteps: vec![node.vtep],
        api: node.api.clone(),
        labels: Default::default(),
    };
    let key = Key::NodeSpec(node.name.clone());
    let mut write = Write::default();
    if let Some((present, revision)) = &found.spec {
        let mine = node.remembered == Some(present.id);
        if !mine && found.alive {
            return Err(NodeError {
                subject: format!("node {}", node.name),
                cause: format!("a node of this name is alive at {}", present.api),
                help: "give this one another --name, or stop the other".into(),
            });
        }
        let wanted = NodeSpec {
            labels: present.labels.clone(),
            ..spec(present.id)
        };
        if wanted != *present {
            write.put(&key, &wanted, Some(*revision));
        }
        return Ok(Plan {
            id: present.id,
            write,
        });
    }
    let (mut cluster, revision) = match &found.cluster {
        Some((doc, revision)) => (doc.clone(), Some(*revision)),
        None => {
            let format = Format {
                min: FORMAT,
                max: FORMAT,
            };
            (
                ClusterDoc {
                    id: cluster_id.to_owned(),
                    format,
                    next_node: 1,
                },
                None,
            )
        }
    };
    let id = NodeId(cluster.next_node);
    cluster.next_node += 1;
    write.put(&Key::Cluster, &cluster, revision);
    write.put(&key, &spec(id), None);
    Ok(Plan { id, write })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(remembered: Option<u32>) -> Registration {
        Registration {
            name: "n1".parse().unwrap(),
            vtep: "192.0.2.1".parse().unwrap(),
            api: "192.0.2.1:7946".into(),
            remembered: remembered.map(NodeId),
        }
    }

    fn cluster(next_node: u32) -> Option<(ClusterDoc, i64)> {
        Some((
            ClusterDoc {
                id: "c".into(),
                format: Format { min: 1, max: 1 },
                next_node,
            },
            4,
        ))
    }

    fn spec(id: u32, vtep: &str) -> Option<(NodeSpec, i64)> {
        let doc = NodeSpec {
            id: NodeId(id),
            vteps: vec![vtep.parse().unwrap()],
            api: "192.0.2.1:7946".into(),
            labels: Default::default(),
        };
        Some((doc, 9))
    }

    #[test]
    fn ids_only_grow() {
        let first = plan(&node(None), &Found::default(), "c").unwrap();
        assert_eq!((first.id, first.write.ops.len()), (NodeId(1), 2));
        // Node 1 was removed: its number does not come back, not even for a node that remembers it.
        let found = Found {
            cluster: cluster(5),
            ..Found::default()
        };
        assert_eq!(plan(&node(Some(1)), &found, "c").unwrap().id, NodeId(5));
    }

    #[test]
    fn a_registered_node_keeps_its_id_and_updates_its_address() {
        let found = Found {
            cluster: cluster(5),
            spec: spec(2, "192.0.2.1"),
            alive: true,
        };
        let same = plan(&node(Some(2)), &found, "c").unwrap();
        assert_eq!((same.id, same.write), (NodeId(2), Write::default()));
        let found = Found {
            spec: spec(2, "192.0.2.99"),
            ..found
        };
        assert_eq!(
            plan(&node(Some(2)), &found, "c").unwrap().write.ops.len(),
            1
        );
    }

    #[test]
    fn a_living_namesake_is_refused_and_a_dead_one_is_taken_over() {
        let found = Found {
            cluster: cluster(5),
            spec: spec(2, "192.0.2.1"),
            alive: true,
        };
        let text = plan(&node(None), &found, "c").unwrap_err().to_string();
        assert!(
            text.contains("is alive at 192.0.2.1:7946") && text.contains("help: "),
            "{text}"
        );
        let found = Found {
            alive: false,
            ..found
        };
        assert_eq!(plan(&node(None), &found, "c").unwrap().id, NodeId(2));
    }

    #[test]
    fn a_cluster_of_another_format_is_refused() {
        let mut found = Found {
            cluster: cluster(5),
            ..Found::default()
        };
        if let Some((doc, _)) = &mut found.cluster {
            doc.format = Format { min: 2, max: 3 };
        }
        assert!(plan(&node(None), &found, "c").is_err());
    }
}
