//! Planned writes as transactions of the store: the one place where the agent changes documents.

use weft_overlay::keys::Key;
use weft_store::client::{Client, Compare, Error, KeyRange, Op, Txn};

use crate::plan::desired::{Expect, Write, WriteOp};

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It is done, at this revision.
    Done(i64),
    /// Something it was planned from has changed by this revision: plan again.
    Stale(i64),
}

/// Makes a planned write.
pub async fn write(client: &Client, write: &Write) -> Result<Wrote, Error> {
    let compares = write
        .expect
        .iter()
        .map(|e| match e {
            Expect::Absent(key) => Compare::absent(key.as_str()),
            Expect::Revision(key, revision) => Compare::mod_revision(key.as_str(), *revision),
            Expect::NoneSince(prefix, revision) => {
                Compare::none_since(KeyRange::prefix(prefix.as_str()), *revision)
            }
        })
        .collect();
    let ops = write
        .ops
        .iter()
        .map(|op| match op {
            WriteOp::Put(key, value) => Op::put(key.as_str(), value.clone()),
            WriteOp::PutLeased(key, value, lease) => {
                Op::put_leased(key.as_str(), value.clone(), *lease)
            }
            WriteOp::Delete(key) => Op::delete(key.as_str()),
            WriteOp::DeletePrefix(prefix) => Op::Delete(KeyRange::prefix(prefix.as_str())),
        })
        .collect();
    let reply = client.txn(Txn::new(compares, ops)).await?;
    Ok(if reply.succeeded {
        Wrote::Done(reply.revision)
    } else {
        Wrote::Stale(reply.revision)
    })
}

/// The store's revision, confirmed by its majority: everything acknowledged before is at or below it.
pub async fn revision(client: &Client) -> Result<i64, Error> {
    let options = weft_store::client::RangeOptions {
        keys_only: true,
        ..Default::default()
    };
    Ok(client
        .range(KeyRange::key(Key::Cluster.path()), options)
        .await?
        .revision)
}
