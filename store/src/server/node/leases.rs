//! Leases as a member serves them: renewed and looked at only where the deadlines are, at a confirmed leader.

use std::time::{Duration, Instant};

use tonic::{Code, Status};

use super::{AGAIN, Leader, Node, timed_out};
use crate::api::NO_LEADER;
use crate::proto::etcdserverpb as pb;

impl Node {
    /// Renews a lease at the leader.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let deadline = self.deadline();
        loop {
            let answer = match self.leader() {
                Leader::Nobody => Err(Status::unavailable(NO_LEADER)),
                Leader::Myself => self.keep_alive_here(id).await,
                Leader::Other(url) => {
                    let mut client = self.peers.client(&url)?;
                    let request = client.keep_alive(pb::LeaseKeepAliveRequest { id });
                    at_leader(self.config.election_max, request).await
                }
            };
            match answer {
                Err(status) if self.again(&status, deadline) => tokio::time::sleep(AGAIN).await,
                answer => return answer,
            }
        }
    }

    /// Asks the leader what remains of a lease.
    pub(crate) async fn time_to_live(
        &self,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        let deadline = self.deadline();
        loop {
            let answer = match self.leader() {
                Leader::Nobody => Err(Status::unavailable(NO_LEADER)),
                Leader::Myself => self.time_to_live_here(request).await,
                Leader::Other(url) => {
                    let mut client = self.peers.client(&url)?;
                    at_leader(self.config.election_max, client.time_to_live(*request)).await
                }
            };
            match answer {
                Err(status) if self.again(&status, deadline) => tokio::time::sleep(AGAIN).await,
                answer => return answer,
            }
        }
    }

    /// Renewing and looking may be repeated freely.
    fn again(&self, status: &Status, deadline: tokio::time::Instant) -> bool {
        let worth = matches!(
            status.code(),
            Code::Unavailable | Code::FailedPrecondition | Code::DeadlineExceeded
        );
        worth && tokio::time::Instant::now() + AGAIN < deadline
    }

    /// Confirms that this member leads and has applied everything; the leases it then sees are all there are.
    pub(crate) async fn confirm_here(&self) -> Result<(), Status> {
        let index = self.read_index_here().await?;
        let wait = self.raft.wait(Some(self.config.election_max));
        let applied = wait.applied_index_at_least(Some(index), "lease").await;
        applied.map(|_| ()).map_err(|_| timed_out())
    }

    /// Renews a lease if this member leads. TTL 0: there is no such lease any more.
    pub(crate) async fn keep_alive_here(
        &self,
        id: i64,
    ) -> Result<pb::LeaseKeepAliveResponse, Status> {
        self.confirm_here().await?;
        let ttl = self.deadlines.renew(id, Instant::now());
        Ok(pb::LeaseKeepAliveResponse {
            header: Some(self.header(0)),
            id,
            ttl: ttl.map_or(0, |t| t.as_secs() as i64),
        })
    }

    /// What remains of a lease, if this member leads. TTL -1: there is no such lease.
    pub(crate) async fn time_to_live_here(
        &self,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        self.confirm_here().await?;
        let remaining = self.deadlines.remaining(request.id, Instant::now());
        let mut response = pb::LeaseTimeToLiveResponse {
            header: Some(self.header(0)),
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        if let (Some(remaining), Some(lease)) = (remaining, self.mvcc.lease(request.id)) {
            response.ttl = remaining.as_secs() as i64;
            response.granted_ttl = lease.ttl;
            if request.keys {
                response.keys = lease.keys.into_iter().collect();
            }
        }
        Ok(response)
    }
}

async fn at_leader<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit * 2, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(timed_out()),
    }
}
