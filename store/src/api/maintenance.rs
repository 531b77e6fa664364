//! State of one member, comparison of members, handing over leadership.

use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver;
use tonic::{Request, Response, Status};

use super::*;
use pb::maintenance_server::Maintenance;

/// The etcd version whose API is served, in the form its clients parse.
const VERSION: &str = concat!("3.4.0+weft.", env!("CARGO_PKG_VERSION"));

pub(super) struct MaintenanceService(pub(super) Arc<Node>);

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let node = &self.0;
        let metrics = node.raft.metrics().borrow_watched().clone();
        let size = i64::try_from(node.mvcc.size_on_disk()).unwrap_or(i64::MAX);
        let mut errors = Vec::new();
        if let Err(fatal) = &metrics.running_state {
            errors.push(fatal.to_string());
        }
        if !node.has_leader() {
            errors.push(NO_LEADER.to_owned());
        }
        let voter = metrics
            .membership_config
            .voter_ids()
            .any(|id| id == node.id);
        Ok(Response::new(pb::StatusResponse {
            header: Some(node.header(0)),
            version: VERSION.to_owned(),
            db_size: size,
            leader: metrics.current_leader.unwrap_or(0),
            raft_index: metrics.last_log_index.unwrap_or(0),
            raft_term: metrics.current_term,
            raft_applied_index: metrics.last_applied.map_or(0, |id| id.index),
            errors,
            db_size_in_use: size,
            is_learner: !voter,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let node = self.0.clone();
        let revision = request.get_ref().revision;
        let hashed = tokio::task::spawn_blocking(move || node.mvcc.hash(revision));
        let hashed = hashed.await.map_err(|e| Status::internal(e.to_string()))?;
        let hash = hashed.map_err(broken)?.map_err(|r| refused(&r))?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.0.header(0)),
            hash: hash.hash,
            compact_revision: hash.compacted,
        }))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let node = &self.0;
        let target = request.get_ref().target_id;
        if !node.raft.is_leader() {
            return Err(Status::failed_precondition(NOT_LEADER));
        }
        if !node.raft.voter_ids().any(|id| id == target) {
            return Err(Status::not_found(MEMBER_NOT_FOUND));
        }
        let moved = node.raft.trigger().transfer_leader(target).await;
        moved.map_err(|e| Status::unavailable(e.to_string()))?;
        let wait = node.raft.wait(Some(node.config.request_timeout));
        let done = wait
            .metrics(|m| m.current_leader == Some(target), "leader moved")
            .await;
        done.map_err(|_| Status::unavailable(TIMED_OUT))?;
        Ok(Response::new(pb::MoveLeaderResponse {
            header: Some(node.header(0)),
        }))
    }
}
