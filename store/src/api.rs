//! The gRPC services that clients see: check a request as etcd does, hand it to the member, answer with etcd's codes.

mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;

use tonic::service::Routes;
use tonic::transport::Server as Transport;
use tonic::transport::server::Router;
use tonic::{Request, Status};

use crate::mvcc::Refusal;
use crate::proto::etcdserverpb as pb;
use crate::server::node::Node;

// etcd's messages (its `api/v3rpc/rpctypes/error.go`): clients compare them word by word.
/// A member that knows no leader: the request was not taken.
pub(crate) const NO_LEADER: &str = "etcdserver: no leader";
/// Asked a member to do what only the leader may.
pub(crate) const NOT_LEADER: &str = "etcdserver: not leader";
/// No answer from the quorum in time: a write may have been taken.
pub(crate) const TIMED_OUT: &str = "etcdserver: request timed out";
/// A read below the compact revision.
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// A lease that is not there.
pub(crate) const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const FUTURE_REVISION: &str = "etcdserver: mvcc: required revision is a future revision";
const LEASE_EXISTS: &str = "etcdserver: lease already exists";
const LEASE_TTL_TOO_LARGE: &str = "etcdserver: too large lease TTL";
const EMPTY_KEY: &str = "etcdserver: key is not provided";
const KEY_NOT_FOUND: &str = "etcdserver: key not found";
const VALUE_PROVIDED: &str = "etcdserver: value is provided";
const LEASE_PROVIDED: &str = "etcdserver: lease is provided";
const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
const DUPLICATE_KEY: &str = "etcdserver: duplicate key given in txn request";
const INVALID_SORT: &str = "etcdserver: invalid sort option";
const TOO_LARGE: &str = "etcdserver: request is too large";
const MEMBER_NOT_FOUND: &str = "etcdserver: member not found";

/// etcd's limit of a request in bytes.
const MAX_REQUEST: usize = 3 * 512 * 1024;
/// What the transport takes: the limit with room for framing, so that the refusal is ours and says why.
const MAX_MESSAGE: usize = MAX_REQUEST + 512 * 1024;

/// All client services of a member.
pub(crate) fn router(node: &Arc<Node>, stopping: tokio::sync::watch::Receiver<bool>) -> Router {
    use pb::cluster_server::ClusterServer;
    use pb::kv_server::KvServer;
    use pb::lease_server::LeaseServer;
    use pb::maintenance_server::MaintenanceServer;
    use pb::watch_server::WatchServer;
    let routes = Routes::new(
        KvServer::new(kv::KvService(node.clone())).max_decoding_message_size(MAX_MESSAGE),
    )
    .add_service(WatchServer::new(watch::WatchService {
        node: node.clone(),
        stopping: stopping.clone(),
    }))
    .add_service(LeaseServer::new(lease::LeaseService {
        node: node.clone(),
        stopping,
    }))
    .add_service(ClusterServer::new(cluster::ClusterService(node.clone())))
    .add_service(MaintenanceServer::new(maintenance::MaintenanceService(
        node.clone(),
    )));
    Transport::builder().tcp_nodelay(true).add_routes(routes)
}

/// What clients ask by the metadata `hasleader`: refuse if this member knows no leader.
fn admit<T>(node: &Node, request: &Request<T>) -> Result<(), Status> {
    if requires_leader(request) && !node.has_leader() {
        return Err(Status::unavailable(NO_LEADER));
    }
    Ok(())
}

/// For answers from this member's own state: one that is not (or not yet again) a member has none worth telling.
fn takes_part(node: &Node) -> Result<(), Status> {
    if node.standing.open() {
        Ok(())
    } else {
        Err(Status::unavailable(NO_LEADER))
    }
}

fn requires_leader<T>(request: &Request<T>) -> bool {
    request
        .metadata()
        .get("hasleader")
        .is_some_and(|v| v == "true")
}

/// A refusal of the state as etcd's status.
fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Compacted => Status::out_of_range(COMPACTED),
        Refusal::FutureRevision => Status::out_of_range(FUTURE_REVISION),
        Refusal::LeaseNotFound => Status::not_found(LEASE_NOT_FOUND),
        Refusal::LeaseExists => Status::failed_precondition(LEASE_EXISTS),
        Refusal::KeyNotFound => Status::invalid_argument(KEY_NOT_FOUND),
    }
}

/// The state's database failed.
fn broken(error: std::io::Error) -> Status {
    tracing::error!(%error, "the state cannot be read");
    Status::data_loss(error.to_string())
}

/// Fills the header that the state left at its revision.
fn complete(node: &Node, header: &mut Option<pb::ResponseHeader>) {
    *header = Some(node.header(header.as_ref().map_or(0, |h| h.revision)));
}

/// Returns when the member stops.
async fn stopped(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}
