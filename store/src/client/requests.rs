//! What a client can ask: keys, transactions, leases, members. Each is one call with its rule for repeating.

use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Response, Status as Grpc};

use super::call::{Client, Repeat};
use super::error::Error;
use super::types::*;
use super::watch::WatchStream;
use super::watch_set::WatchSet;
use crate::proto::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;

/// Largest answer accepted: a range has no limit of its own in the protocol.
const MAX_ANSWER: usize = 512 << 20;

impl Client {
    /// Reads one key, linearizably.
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<KeyValue>, Error> {
        let reply = self
            .range(KeyRange::key(key), RangeOptions::default())
            .await?;
        Ok(reply.kvs.into_iter().next())
    }

    /// Reads keys at one revision.
    pub async fn range(&self, range: KeyRange, options: RangeOptions) -> Result<RangeReply, Error> {
        let request = range_request(range, options);
        let response = self
            .call("range", Repeat::Freely, |channel| {
                let request = request.clone();
                async move { kv(channel).range(request).await }
            })
            .await?;
        Ok(range_reply(response))
    }

    /// Writes a key; `lease` 0: none. Returns the revision.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Bytes>,
        lease: i64,
    ) -> Result<i64, Error> {
        let (key, value) = (key.into(), value.into());
        self.put_with(key, value, lease, Repeat::OnlyIfNotTaken)
            .await
    }

    /// As [`Client::put`], but sent again when the outcome is unknown: for values that may be written twice, such as a
    /// status of which only the last one counts. Watches may then see it twice, and the version counts both.
    pub async fn put_at_least_once(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Bytes>,
        lease: i64,
    ) -> Result<i64, Error> {
        let (key, value) = (key.into(), value.into());
        self.put_with(key, value, lease, Repeat::Freely).await
    }

    async fn put_with(
        &self,
        key: Vec<u8>,
        value: Bytes,
        lease: i64,
        repeat: Repeat,
    ) -> Result<i64, Error> {
        let request = pb::PutRequest {
            key: key.into(),
            value,
            lease,
            ..Default::default()
        };
        let response = self
            .call("put", repeat, |channel| {
                let request = request.clone();
                async move { kv(channel).put(request).await }
            })
            .await?;
        Ok(revision(response.header))
    }

    /// Deletes keys; returns how many there were. Repeating a delete changes nothing more, but the count may then be
    /// of another's, so it is not repeated blindly either.
    pub async fn delete(&self, range: KeyRange) -> Result<i64, Error> {
        let request = pb::DeleteRangeRequest {
            key: range.key.into(),
            range_end: range.end.into(),
            prev_kv: false,
        };
        let response = self
            .call("delete", Repeat::OnlyIfNotTaken, |channel| {
                let request = request.clone();
                async move { kv(channel).delete_range(request).await }
            })
            .await?;
        Ok(response.deleted)
    }

    /// Carries out a transaction.
    pub async fn txn(&self, txn: Txn) -> Result<TxnReply, Error> {
        let repeat = if txn.read_only() {
            Repeat::Freely
        } else {
            Repeat::OnlyIfNotTaken
        };
        let request = pb::TxnRequest {
            compare: txn.compares.into_iter().map(|c| c.0).collect(),
            success: txn.then.into_iter().map(Op::into_proto).collect(),
            failure: txn.otherwise.into_iter().map(Op::into_proto).collect(),
        };
        let response = self
            .call("txn", repeat, |channel| {
                let request = request.clone();
                async move { kv(channel).txn(request).await }
            })
            .await?;
        let responses = response
            .responses
            .into_iter()
            .map(op_reply)
            .collect::<Result<_, _>>()?;
        Ok(TxnReply {
            succeeded: response.succeeded,
            revision: revision(response.header),
            responses,
        })
    }

    /// Watches keys from `from_revision` on (0: from now on). Reconnects by itself and goes on where it was.
    pub fn watch(&self, range: KeyRange, from_revision: i64) -> WatchStream {
        WatchStream::open(self.clone(), range, from_revision)
    }

    /// Watches that come and go on one stream; none at first.
    pub fn watch_set(&self) -> WatchSet {
        WatchSet::open(self.clone())
    }

    /// Drops the history below `revision`.
    pub async fn compact(&self, revision: i64) -> Result<(), Error> {
        let request = pb::CompactionRequest {
            revision,
            physical: false,
        };
        self.call("compact", Repeat::OnlyIfNotTaken, |channel| async move {
            kv(channel).compact(request).await
        })
        .await?;
        Ok(())
    }

    /// Grants a lease of `ttl` (whole seconds, rounded up; the store may lengthen very short ones); returns its id.
    pub async fn lease_grant(&self, ttl: Duration) -> Result<i64, Error> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let request = pb::LeaseGrantRequest {
            ttl: i64::try_from(seconds).unwrap_or(i64::MAX),
            id: 0,
        };
        // A grant that was taken without our knowing only leaves a lease that nobody keeps alive.
        let response = self
            .call("lease grant", Repeat::Freely, |channel| async move {
                lease(channel).lease_grant(request).await
            })
            .await?;
        Ok(response.id)
    }

    /// Keeps a lease alive once; returns what remains after it. [`Error::LeaseNotFound`] if it is lost.
    pub async fn lease_keepalive(&self, id: i64) -> Result<Duration, Error> {
        const OPERATION: &str = "lease keep-alive";
        let response = self
            .call(OPERATION, Repeat::Freely, |channel| async move {
                let request = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
                let mut answers = lease(channel).lease_keep_alive(request).await?.into_inner();
                match answers.message().await? {
                    Some(answer) => Ok(Response::new(answer)),
                    None => Err(Grpc::unavailable("stream ended without an answer")),
                }
            })
            .await?;
        match u64::try_from(response.ttl) {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
            _ => Err(Error::LeaseNotFound {
                operation: OPERATION,
            }),
        }
    }

    /// Ends a lease; its keys are deleted at one revision. [`Error::LeaseNotFound`] also if an attempt whose answer was lost
    /// had ended it already.
    pub async fn lease_revoke(&self, id: i64) -> Result<(), Error> {
        self.call("lease revoke", Repeat::Freely, |channel| async move {
            lease(channel)
                .lease_revoke(pb::LeaseRevokeRequest { id })
                .await
        })
        .await?;
        Ok(())
    }

    /// The members as the store knows them.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        let response = self
            .call("member list", Repeat::Freely, |channel| async move {
                let request = pb::MemberListRequest { linearizable: true };
                ClusterClient::new(channel).member_list(request).await
            })
            .await?;
        let members = response.members.into_iter().map(|m| Member {
            id: m.id,
            name: m.name,
            peer_urls: m.peer_ur_ls,
            client_urls: m.client_ur_ls,
            learner: m.is_learner,
        });
        Ok(members.collect())
    }

    /// State of the member behind `endpoint`; asked directly, without failing over.
    pub async fn status(&self, endpoint: &str) -> Result<Status, Error> {
        let single = Client::with_options([endpoint], *self.options())?;
        let response = single
            .call("status", Repeat::Freely, |channel| async move {
                MaintenanceClient::new(channel)
                    .status(pb::StatusRequest {})
                    .await
            })
            .await?;
        let header = response.header.unwrap_or_default();
        Ok(Status {
            member: header.member_id,
            leader: response.leader,
            term: response.raft_term,
            revision: header.revision,
            log_index: response.raft_index,
            applied_index: response.raft_applied_index,
            db_size: response.db_size,
            version: response.version,
        })
    }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

fn lease(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel)
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |h| h.revision)
}

fn op_reply(response: pb::ResponseOp) -> Result<OpReply, Error> {
    use pb::response_op::Response as R;
    match response.response {
        Some(R::ResponsePut(_)) => Ok(OpReply::Put),
        Some(R::ResponseDeleteRange(d)) => Ok(OpReply::Deleted(d.deleted)),
        Some(R::ResponseRange(r)) => Ok(OpReply::Range(range_reply(r))),
        Some(R::ResponseTxn(_)) | None => Err(Error::Protocol {
            operation: "txn",
            detail: "an operation's answer is missing or nested".to_owned(),
        }),
    }
}
