//! Leases: grant, revoke, keep alive, look.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use rand::Rng;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::proto::weftpeer as peer;
use pb::lease_server::Lease;
use peer::command::Op;
use peer::outcome::Result as Done;

/// etcd's largest TTL in seconds.
const MAX_TTL: i64 = 9_000_000_000;
/// Answers waiting for a client that renews faster than it reads.
const WAITING: usize = 16;

pub(super) struct LeaseService {
    pub(super) node: Arc<Node>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl LeaseService {
    async fn propose(&self, op: Op) -> Result<Done, Status> {
        let outcome = self.node.propose(peer::Command { op: Some(op) }).await?;
        outcome.0.map_err(|refusal| refused(&refusal))
    }

    /// Shorter ones would end during an election: half as much again as the longest silence of a leader, in whole seconds.
    fn least_ttl(&self) -> i64 {
        let least = self.node.config.election_max * 3 / 2;
        (least.as_millis() as i64 + 999) / 1000
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        admit(&self.node, &request)?;
        let mut request = request.into_inner();
        if request.ttl > MAX_TTL {
            return Err(Status::out_of_range(LEASE_TTL_TOO_LARGE));
        }
        request.ttl = request.ttl.max(self.least_ttl());
        if request.id == 0 {
            // Drawn here, not while applying: every member must apply the same.
            request.id = rand::rng().random_range(1..=i64::MAX);
        }
        match self.propose(Op::Grant(request)).await? {
            Done::Grant(mut response) => {
                complete(&self.node, &mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(Status::internal("unexpected outcome of a lease grant")),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        admit(&self.node, &request)?;
        match self.propose(Op::Revoke(request.into_inner())).await? {
            Done::Revoke(mut response) => {
                complete(&self.node, &mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(Status::internal("unexpected outcome of a lease revocation")),
        }
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        admit(&self.node, &request)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        // Ends with the client's stream, with its reader, or with the member.
        tokio::spawn(keep_alive(
            self.node.clone(),
            request.into_inner(),
            sender,
            self.stopping.clone(),
        ));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        admit(&self.node, &request)?;
        let mut response = self.node.time_to_live(request.get_ref()).await?;
        complete(&self.node, &mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        admit(&self.node, &request)?;
        self.node.read_barrier().await?;
        let leases = self.node.mvcc.leases().into_iter();
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: Some(self.node.header(0)),
            leases: leases.map(|(id, _)| pb::LeaseStatus { id }).collect(),
        }))
    }
}

async fn keep_alive(
    node: Arc<Node>,
    mut requests: Streaming<pb::LeaseKeepAliveRequest>,
    sender: mpsc::Sender<Result<pb::LeaseKeepAliveResponse, Status>>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            () = sender.closed() => return,
            () = stopped(&mut stopping) => return,
        };
        let Ok(Some(request)) = request else {
            return;
        };
        let answer = match node.keep_alive(request.id).await {
            Ok(mut response) => {
                complete(&node, &mut response.header);
                Ok(response)
            }
            Err(status) => Err(status),
        };
        let failed = answer.is_err();
        if sender.send(answer).await.is_err() || failed {
            return;
        }
    }
}
