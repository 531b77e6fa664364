//! The one API of a node: gRPC on a unix socket for its people, on TCP for other agents.
//!
//! - `fault`: errors as statuses. - `shared`: what requests can reach. - `apply`, `list`, `stats`,
//!   `exec`: the calls. - `trace`, `tracer`, `resolve`, `observe`: packets. - `why`, `look`: what hinders a flow. - `underlay`: what lies between nodes. - `peers`: other agents.
//!
//! Never: changes the node itself; it writes documents, and the reconciler follows them.

mod apply;
mod exec;
mod fault;
mod list;
mod look;
mod observe;
mod peers;
mod resolve;
mod shared;
mod stats;
mod trace;
mod tracer;
mod underlay;
mod why;

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use futures::stream::BoxStream;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

pub use shared::{Parts, Repair, Report, Shared, SharedDatapath};
pub use tracer::Tracer;

use crate::node::NodeError;
use crate::proto;
use crate::proto::agent_server::{Agent, AgentServer};

/// Largest message, bytes; as the client's.
const MESSAGE_MAX: usize = 64 << 20;

/// The service.
#[derive(Clone, Debug)]
struct Service {
    shared: Arc<Shared>,
}

/// Listens on both sockets; the tasks belong to the caller.
pub async fn serve(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<(), NodeError> {
    let path = shared.config.socket();
    let unix = unix_listener(&path).map_err(|e| NodeError {
        subject: format!("API socket {}", path.display()),
        cause: e.to_string(),
        help: "run as root, or name another --run-dir".into(),
    })?;
    let address = shared.config.api_address();
    let tcp = TcpListener::bind(address).await.map_err(|e| NodeError {
        subject: format!("API address {address}"),
        cause: e.to_string(),
        help: "check that --advertise is an address of this machine and --api-port is free".into(),
    })?;
    let service = AgentServer::new(Service {
        shared: shared.clone(),
    })
    .max_decoding_message_size(MESSAGE_MAX)
    .max_encoding_message_size(MESSAGE_MAX);
    let (on_unix, on_tcp) = (service.clone(), service);
    tasks.spawn(async move {
        let served = Server::builder()
            .add_service(on_unix)
            .serve_with_incoming(UnixListenerStream::new(unix));
        log_end("unix", served.await);
    });
    tasks.spawn(async move {
        let server = Server::builder().tcp_nodelay(true).add_service(on_tcp);
        log_end(
            "TCP",
            server
                .serve_with_incoming(TcpListenerStream::new(tcp))
                .await,
        );
    });
    Ok(())
}

fn log_end(listener: &str, result: Result<(), tonic::transport::Error>) {
    if let Err(error) = result {
        tracing::error!(%error, listener, "the API's listener ended");
    }
}

/// A socket that only root can open, in place of one that a killed agent left.
fn unix_listener(path: &Path) -> std::io::Result<UnixListener> {
    // Made in a folder of its own that nobody else can enter: between bind and chmod the umask decides
    // who may connect.
    let nest = path.with_extension("new");
    match std::fs::remove_dir_all(&nest) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&nest)?;
    let made = nest.join("sock");
    let listener = UnixListener::bind(&made)?;
    std::fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    std::fs::rename(&made, path)?;
    std::fs::remove_dir(&nest)?;
    Ok(listener)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Agent for Service {
    type ExecStream = BoxStream<'static, Result<proto::ExecOutput, Status>>;
    type LogsStream = BoxStream<'static, Result<proto::LogsChunk, Status>>;
    type TraceStream = trace::TraceStream;

    async fn status(&self, _: Request<proto::StatusRequest>) -> Answer<proto::StatusReply> {
        Ok(Response::new(list::status(&self.shared).await))
    }
    async fn apply(&self, request: Request<proto::ApplyRequest>) -> Answer<proto::ApplyReply> {
        Ok(Response::new(
            apply::apply(&self.shared, request.into_inner()).await?,
        ))
    }
    async fn list(&self, request: Request<proto::ListRequest>) -> Answer<proto::ListReply> {
        Ok(Response::new(
            list::list(&self.shared, request.get_ref()).await?,
        ))
    }
    async fn remove(&self, request: Request<proto::RemoveRequest>) -> Answer<proto::RemoveReply> {
        Ok(Response::new(
            apply::remove(&self.shared, request.into_inner()).await?,
        ))
    }
    async fn exec(
        &self,
        request: Request<Streaming<proto::ExecInput>>,
    ) -> Answer<Self::ExecStream> {
        Ok(Response::new(
            exec::exec(&self.shared, request.into_inner()).await?,
        ))
    }
    async fn logs(&self, request: Request<proto::LogsRequest>) -> Answer<Self::LogsStream> {
        Ok(Response::new(
            exec::logs(&self.shared, request.into_inner()).await?,
        ))
    }
    async fn trace(&self, request: Request<proto::TraceRequest>) -> Answer<Self::TraceStream> {
        Ok(Response::new(
            trace::trace(self.shared.clone(), request.into_inner()).await?,
        ))
    }
    async fn why(&self, request: Request<proto::WhyRequest>) -> Answer<proto::WhyReply> {
        Ok(Response::new(
            why::why(&self.shared, request.get_ref()).await?,
        ))
    }
    async fn look(&self, request: Request<proto::LookRequest>) -> Answer<proto::LookReply> {
        Ok(Response::new(
            look::look(&self.shared, request.get_ref()).await?,
        ))
    }
    async fn underlay(
        &self,
        request: Request<proto::UnderlayRequest>,
    ) -> Answer<proto::UnderlayReply> {
        Ok(Response::new(
            underlay::underlay(&self.shared, request.get_ref()).await?,
        ))
    }
    async fn arrivals(
        &self,
        request: Request<proto::ArrivalsRequest>,
    ) -> Answer<proto::ArrivalsReply> {
        Ok(Response::new(underlay::arrivals(
            &self.shared,
            request.get_ref(),
        )?))
    }
    async fn drops(&self, request: Request<proto::DropsRequest>) -> Answer<proto::DropsReply> {
        Ok(Response::new(
            stats::drops(&self.shared, request.get_ref()).await?,
        ))
    }
    async fn chain_stats(
        &self,
        request: Request<proto::ChainStatsRequest>,
    ) -> Answer<proto::ChainStatsReply> {
        Ok(Response::new(
            stats::chain_stats(&self.shared, request.get_ref()).await?,
        ))
    }
}
