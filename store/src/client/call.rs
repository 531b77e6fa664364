//! The client itself: its channels, and how a call chooses, retries and gives up.
//!
//! One HTTP/2 channel per endpoint, connected lazily and kept alive by pings. All clones share them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status as Grpc};

use super::error::Error;

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

    pub(super) async fn call<T, F, Fut>(
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
            let unclear = repeat == Repeat::OnlyIfNotTaken && !refused_whole(&status);
            if !worth_repeating(&status) && !unclear {
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

/// Whether a store refused the request before it changed anything. Not so where an answer was lost on its way, such as one
/// that is too large to take or does not decode: its write was done.
fn refused_whole(status: &Grpc) -> bool {
    let by_the_store = status.message().starts_with("etcdserver:");
    let before_the_store = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
    );
    by_the_store || before_the_store
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(repeat: Repeat, status: Grpc) -> (Error, usize) {
        let client = Client::connect(["http://127.0.0.1:1"]).expect("client");
        let sent = AtomicUsize::new(0);
        let send = |_| {
            sent.fetch_add(1, Ordering::Relaxed);
            let status = status.clone();
            async move { Err::<Response<()>, _>(status) }
        };
        let error = client.call("put", repeat, send).await;
        (error.expect_err("fails"), sent.into_inner())
    }

    #[tokio::test]
    async fn a_write_whose_answer_was_lost_is_neither_repeated_nor_called_refused() {
        let lost = [
            Grpc::internal("the leader answered something else"),
            Grpc::unknown("h2"),
            Grpc::data_loss("the state cannot be read"),
            Grpc::out_of_range("decoded message length too large"),
            Grpc::deadline_exceeded("no answer in time"),
            Grpc::unavailable(crate::api::TIMED_OUT),
        ];
        for status in lost {
            let code = status.code();
            let (error, sent) = answered(Repeat::OnlyIfNotTaken, status).await;
            assert!(error.outcome_unknown() && sent == 1, "{code:?}: {error}");
        }
        let refused = [
            Grpc::invalid_argument("etcdserver: key is not provided"),
            Grpc::out_of_range("etcdserver: mvcc: required revision is a future revision"),
        ];
        for status in refused {
            let (error, sent) = answered(Repeat::OnlyIfNotTaken, status).await;
            assert!(matches!(error, Error::Refused { .. }) && sent == 1);
        }
    }
}
