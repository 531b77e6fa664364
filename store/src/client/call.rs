//! The client itself: its channels, and how a call chooses, retries and gives up.
//!
//! One HTTP/2 channel per endpoint, connected lazily and kept alive by pings. All clones share them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status as Grpc};

use super::error::Error;
use super::types::*;
use super::watch::WatchStream;
use crate::proto::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;

/// Largest answer accepted: a range has no limit of its own in the protocol.
const MAX_ANSWER: usize = 512 << 20;

/// Timing of a client.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest time to set up a connection.
    pub connect_timeout: Duration,
    /// Longest time one attempt may take. Above the members' own waiting for a leader, so that they answer first.
    pub attempt_timeout: Duration,
    /// Longest time for a call with all its attempts.
    pub call_timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(6),
            call_timeout: Duration::from_secs(10),
        }
    }
}

/// A client of the store; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Vec<(String, Channel)>,
    /// Where the last call succeeded.
    preferred: AtomicUsize,
    options: Options,
}

/// Whether a call may be sent again after it may have been carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Freely,
    OnlyIfNotTaken,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.names())
            .finish()
    }
}

impl Client {
    /// A client of these endpoints (`http://HOST:PORT`, or `HOST:PORT`); connects at the first call.
    /// Must be called within a tokio runtime.
    pub fn connect<I, S>(endpoints: I) -> Result<Client, Error>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Client::with_options(endpoints, Options::default())
    }

    /// As [`Client::connect`], with other timing.
    pub fn with_options<I, S>(endpoints: I, options: Options) -> Result<Client, Error>
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        let mut channels = Vec::new();
        for endpoint in endpoints {
            let given: String = endpoint.into();
            let url = if given.contains("://") {
                given.clone()
            } else {
                format!("http://{given}")
            };
            let channel = Endpoint::from_shared(url.clone())
                .map_err(|e| Error::InvalidEndpoint {
                    endpoint: given,
                    reason: e.to_string(),
                })?
                .connect_timeout(options.connect_timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(2))
                .keep_alive_timeout(Duration::from_secs(3))
                .keep_alive_while_idle(true)
                .connect_lazy();
            channels.push((url, channel));
        }
        if channels.is_empty() {
            return Err(Error::InvalidEndpoint {
                endpoint: String::new(),
                reason: "no endpoint given".to_owned(),
            });
        }
        Ok(Client {
            inner: Arc::new(Inner {
                endpoints: channels,
                preferred: AtomicUsize::new(0),
                options,
            }),
        })
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.inner.endpoints.iter().map(|e| e.0.as_str()).collect();
        names.join(",")
    }

    pub(super) fn options(&self) -> &Options {
        &self.inner.options
    }

    /// The endpoint to use now, as its position.
    pub(super) fn preferred(&self) -> usize {
        self.inner.preferred.load(Ordering::Relaxed) % self.inner.endpoints.len()
    }

    pub(super) fn channel(&self, at: usize) -> Channel {
        self.inner.endpoints[at % self.inner.endpoints.len()]
            .1
            .clone()
    }

    /// Turns to the next endpoint if nobody else has done so.
    pub(super) fn turn_from(&self, at: usize) {
        let next = (at + 1) % self.inner.endpoints.len();
        let _ =
            self.inner
                .preferred
                .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn call<T, F, Fut>(
        &self,
        operation: &'static str,
        repeat: Repeat,
        send: F,
    ) -> Result<T, Error>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Grpc>>,
    {
        let started = Instant::now();
        let options = self.options();
        let mut attempts = 0;
        loop {
            let at = self.preferred();
            attempts += 1;
            let left = options.call_timeout.saturating_sub(started.elapsed());
            let limit = options.attempt_timeout.min(left);
            let status = match tokio::time::timeout(limit, send(self.channel(at))).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Grpc::deadline_exceeded("no answer in time"),
            };
            if !worth_repeating(&status) {
                return Err(refusal(operation, &status));
            }
            let last = format!("{}: {}", self.inner.endpoints[at].0, describe(&status));
            if repeat == Repeat::OnlyIfNotTaken && !certainly_not_taken(&status) {
                self.turn_from(at);
                return Err(Error::UnknownOutcome { operation, last });
            }
            self.turn_from(at);
            let pause = backoff(attempts, self.inner.endpoints.len() as u32);
            if started.elapsed() + pause >= options.call_timeout {
                return Err(Error::Unavailable {
                    operation,
                    endpoints: self.names(),
                    seconds: started.elapsed().as_secs(),
                    attempts,
                    last,
                });
            }
            tokio::time::sleep(pause).await;
        }
    }

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

    /// Ends a lease; its keys are deleted at one revision.
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
        let single = Client::with_options([endpoint], self.inner.options)?;
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

/// Pause before the next attempt: none while there are endpoints not tried yet, then doubling to a second, with jitter.
pub(super) fn backoff(attempts: u32, endpoints: u32) -> Duration {
    let round = attempts / endpoints.max(1);
    let ceiling = 50u64.saturating_mul(1 << round.min(5)).min(1000);
    let floor = if round == 0 { 1 } else { ceiling / 2 };
    Duration::from_millis(rand::rng().random_range(floor..=ceiling))
}

/// Failures that another attempt or another member may not have.
fn worth_repeating(status: &Grpc) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
        // What the transport says when a connection breaks in the middle of an answer.
        Code::Unknown | Code::Internal => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

/// Whether the request certainly never reached a leader's log.
fn certainly_not_taken(status: &Grpc) -> bool {
    status.message() == crate::api::NO_LEADER || never_connected(status)
}

pub(crate) fn never_connected(status: &Grpc) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The status with the causes that its own text leaves out.
pub(crate) fn describe(status: &Grpc) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn refusal(operation: &'static str, status: &Grpc) -> Error {
    match (status.code(), status.message()) {
        (Code::OutOfRange, crate::api::COMPACTED) => Error::Compacted { revision: 0 },
        (Code::NotFound, crate::api::LEASE_NOT_FOUND) => Error::LeaseNotFound { operation },
        (code, message) => Error::Refused {
            operation,
            code,
            message: message.to_owned(),
        },
    }
}
