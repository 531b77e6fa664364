//! The other end of the API: used by the command line and by agents that ask each other.
//!
//! Owns: how an agent is addressed and reached. Never: retries; a caller that wants to wait says so.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::proto;
use crate::proto::agent_client::AgentClient as Generated;

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest message, bytes: a list of 100,000 objects fits.
const MESSAGE_MAX: usize = 64 << 20;

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Its unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Target::Tcp(address.to_string())
    }
}

impl FromStr for Target {
    type Err = ClientError;
    fn from_str(text: &str) -> Result<Self, ClientError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Target::Unix(path.into()));
        }
        if text.starts_with('/') {
            return Ok(Target::Unix(text.into()));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Target::Tcp(text.to_owned()))
            }
            _ => Err(ClientError::Target(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Tcp(address) => f.write_str(address),
        }
    }
}

/// Why an agent could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The target is not written as one.
    #[error(
        "agent {0:?}: not an address of an agent\nhelp: write unix:/path/to/weft.sock or host:port"
    )]
    Target(String),
    /// Nobody answered.
    #[error("agent {target}: cannot be reached: {cause}\nhelp: {help}")]
    Unreachable {
        /// Who was asked.
        target: Target,
        /// What happened.
        cause: String,
        /// What to do.
        help: &'static str,
    },
}

/// A connection to one agent.
#[derive(Clone, Debug)]
pub struct AgentClient {
    inner: Generated<Channel>,
}

/// What every call returns.
pub type Reply<T> = Result<T, tonic::Status>;

impl AgentClient {
    /// Connects to the agent at `target`.
    pub async fn connect(target: Target) -> Result<AgentClient, ClientError> {
        let unreachable = |error: &dyn std::error::Error| {
            let cause = crate::node::chain_of(error);
            ClientError::Unreachable {
                target: target.clone(),
                help: match &target {
                    Target::Unix(_) => {
                        "start it with `weft node run`, run as root, or name another agent with --host"
                    }
                    Target::Tcp(_) => {
                        "check that the node is up and that its API port is reachable"
                    }
                },
                cause,
            }
        };
        let channel = match &target {
            Target::Unix(path) => {
                let path = path.clone();
                // The address is never looked up; the connector below goes to the socket.
                let endpoint =
                    Endpoint::from_static("http://agent.invalid").connect_timeout(CONNECT_TIMEOUT);
                endpoint
                    .connect_with_connector(service_fn(move |_: Uri| {
                        let path = path.clone();
                        async move {
                            tokio::net::UnixStream::connect(path)
                                .await
                                .map(TokioIo::new)
                        }
                    }))
                    .await
                    .map_err(|e| unreachable(&e))?
            }
            Target::Tcp(address) => Endpoint::from_shared(format!("http://{address}"))
                .map_err(|_| ClientError::Target(address.clone()))?
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(10))
                .connect()
                .await
                .map_err(|e| unreachable(&e))?,
        };
        let inner = Generated::new(channel)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        Ok(AgentClient { inner })
    }

    /// How the node and its cluster are.
    pub async fn status(&mut self) -> Reply<proto::StatusReply> {
        Ok(self
            .inner
            .status(proto::StatusRequest {})
            .await?
            .into_inner())
    }

    /// Writes desired state.
    pub async fn apply(
        &mut self,
        objects: Vec<proto::Object>,
        dry_run: bool,
    ) -> Reply<Vec<proto::Change>> {
        let request = proto::ApplyRequest { objects, dry_run };
        Ok(self.inner.apply(request).await?.into_inner().changes)
    }

    /// Objects of a kind; empty `tenant` and `name` are any.
    pub async fn list(
        &mut self,
        kind: &str,
        tenant: &str,
        name: &str,
    ) -> Reply<Vec<proto::Object>> {
        let request = proto::ListRequest {
            kind: kind.to_owned(),
            tenant: tenant.to_owned(),
            name: name.to_owned(),
        };
        Ok(self.inner.list(request).await?.into_inner().objects)
    }

    /// Removes an object; returns what was removed.
    pub async fn remove(&mut self, request: proto::RemoveRequest) -> Reply<Vec<String>> {
        Ok(self.inner.remove(request).await?.into_inner().removed)
    }

    /// Runs a command in a container.
    pub async fn exec(
        &mut self,
        input: impl futures::Stream<Item = proto::ExecInput> + Send + 'static,
    ) -> Reply<tonic::Streaming<proto::ExecOutput>> {
        Ok(self.inner.exec(input).await?.into_inner())
    }

    /// A container's output.
    pub async fn logs(
        &mut self,
        request: proto::LogsRequest,
    ) -> Reply<tonic::Streaming<proto::LogsChunk>> {
        Ok(self.inner.logs(request).await?.into_inner())
    }

    /// Observations of packets as they come.
    pub async fn trace(
        &mut self,
        request: proto::TraceRequest,
    ) -> Reply<tonic::Streaming<proto::TraceReply>> {
        Ok(self.inner.trace(request).await?.into_inner())
    }

    /// Why a flow does not arrive.
    pub async fn why(&mut self, request: proto::WhyRequest) -> Reply<proto::WhyReply> {
        Ok(self.inner.why(request).await?.into_inner())
    }

    /// What that node has for a flow.
    pub async fn look(&mut self, request: proto::LookRequest) -> Reply<proto::LookReply> {
        Ok(self.inner.look(request).await?.into_inner())
    }

    /// Whether tunnels pass between nodes; `local`: what that node finds of its own ways.
    pub async fn underlay(&mut self, local: bool) -> Reply<proto::UnderlayReply> {
        Ok(self
            .inner
            .underlay(proto::UnderlayRequest { local })
            .await?
            .into_inner())
    }

    /// Which of these probes arrived at that node, and its clock.
    pub async fn arrivals(&mut self, numbers: Vec<u64>) -> Reply<proto::ArrivalsReply> {
        Ok(self
            .inner
            .arrivals(proto::ArrivalsRequest { numbers })
            .await?
            .into_inner())
    }

    /// Dropped packets by node, network and reason; `local`: of that node only.
    pub async fn drops(&mut self, local: bool) -> Reply<proto::DropsReply> {
        Ok(self
            .inner
            .drops(proto::DropsRequest { local })
            .await?
            .into_inner())
    }

    /// Counters of a chain's hops (`tenant/chain`, or "" for all).
    pub async fn chain_stats(&mut self, chain: &str, local: bool) -> Reply<proto::ChainStatsReply> {
        let request = proto::ChainStatsRequest {
            chain: chain.to_owned(),
            local,
        };
        Ok(self.inner.chain_stats(request).await?.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed_and_refused_by_form() {
        assert_eq!(
            "unix:/run/x".parse::<Target>().unwrap(),
            Target::Unix("/run/x".into())
        );
        assert_eq!(
            "/run/x".parse::<Target>().unwrap(),
            Target::Unix("/run/x".into())
        );
        assert_eq!(
            "n1:7946".parse::<Target>().unwrap(),
            Target::Tcp("n1:7946".into())
        );
        for bad in ["n1", ":1", "n1:x"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_absent_agent_is_named_with_the_next_step() {
        let error = AgentClient::connect(Target::Unix("/nonexistent/weft.sock".into()))
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/nonexistent/weft.sock") && text.contains("help: "),
            "{text}"
        );
    }
}
