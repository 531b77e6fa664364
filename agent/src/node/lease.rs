//! The node's word that it lives: `nodes/<node>/alive` under a lease of the store.
//!
//! One task, owned by `node::run`. A lease that is lost is granted anew; nothing else changes by that,
//! for a node that was not heard for a while is still the node that it was.

use std::time::Duration;

use tokio::sync::watch;
use weft_overlay::NodeName;
use weft_overlay::documents::NodeAlive;
use weft_overlay::keys::Key;
use weft_store::client::{Client, Error};

/// Keeps the lease until the task is aborted; tells in `health` what hinders it.
pub async fn keep(
    client: Client,
    node: NodeName,
    alive: NodeAlive,
    ttl: Duration,
    health: watch::Sender<Option<String>>,
) {
    let mut lease = None;
    let mut ticks = tokio::time::interval(ttl / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = match lease {
            Some(id) => keep_alive(&client, id)
                .await
                .map(|lives| lives.then_some(id)),
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
                health.send_replace(Some(error.to_string()));
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

async fn announce(
    client: &Client,
    node: &NodeName,
    alive: &NodeAlive,
    ttl: Duration,
) -> Result<i64, Error> {
    let lease = client.lease_grant(ttl).await?;
    let json = serde_json::to_vec(alive).unwrap_or_default();
    client
        .put(Key::NodeAlive(node.clone()).path(), json, lease)
        .await?;
    Ok(lease)
}
