//! The node's word that it lives: `nodes/<node>/alive` under a lease of the store.
//!
//! One task, owned by `node::run`; the first lease comes with the registration. A lease that is lost is
//! granted anew; nothing else changes by that, for a node that was not heard for a while is still the
//! node that it was. Unless another has taken its name meanwhile: then this one stays silent and says so.

use std::time::Duration;

use tokio::sync::watch;
use weft_overlay::NodeName;
use weft_overlay::documents::NodeAlive;
use weft_overlay::keys::Key;
use weft_store::client::{Client, Compare, Error, Op, Txn};

/// Keeps the lease until the task is aborted; tells in `health` what hinders it.
pub async fn keep(
    client: Client,
    node: NodeName,
    (alive, granted): (NodeAlive, i64),
    ttl: Duration,
    health: watch::Sender<Option<String>>,
) {
    let mut lease = Some(granted);
    let mut ticks = tokio::time::interval(ttl / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = match lease {
            Some(id) => keep_alive(&client, id)
                .await
                .map(|lives| lives.then_some(id))
                .map_err(|e| e.to_string()),
            None => announce(&client, &node, &alive, ttl).await.map(Some),
        };
        match result {
            Ok(id) => {
                if lease.is_some() && id.is_none() {
                    tracing::warn!("the node's lease ran out; taking a new one");
                    ticks.reset_immediately();
                }
                lease = id;
                health.send_replace(None);
            }
            Err(error) => {
                tracing::warn!(%error, "the node's lease could not be kept alive");
                health.send_replace(Some(error));
            }
        }
    }
}

async fn keep_alive(client: &Client, lease: i64) -> Result<bool, Error> {
    match client.lease_keepalive(lease).await {
        Ok(remaining) => Ok(!remaining.is_zero()),
        Err(Error::LeaseNotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says anew that the node lives, where nothing is said or it said so itself.
async fn announce(
    client: &Client,
    node: &NodeName,
    alive: &NodeAlive,
    ttl: Duration,
) -> Result<i64, String> {
    let text = |e: Error| e.to_string();
    let key = Key::NodeAlive(node.clone()).path();
    let there = client.get(key.as_str()).await.map_err(text)?;
    let revision = match &there {
        Some(kv) => match serde_json::from_slice::<NodeAlive>(&kv.value) {
            Ok(said) if said.uid != alive.uid => {
                return Err(format!(
                    "another machine runs as node {node}; stop one of the two"
                ));
            }
            // What cannot be read is this node's own word of another version.
            _ => kv.mod_revision,
        },
        None => 0,
    };
    let lease = client.lease_grant(ttl).await.map_err(text)?;
    let json = serde_json::to_vec(alive).unwrap_or_default();
    let unchanged = Compare::mod_revision(key.as_str(), revision);
    let txn = Txn::new(vec![unchanged], vec![Op::put_leased(key, json, lease)]);
    if client.txn(txn).await.map_err(text)?.succeeded {
        return Ok(lease);
    }
    Err(format!(
        "the word of node {node} changed while it was written; tried again"
    ))
}
