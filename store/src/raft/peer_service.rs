//! The calls that other members make to this one.

use std::io::Write;
use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::codec;
use super::network::{decode, encode};
use super::snapshot::{SnapshotDir, SnapshotFile};
use super::types::{Snapshot, SnapshotMeta};
use crate::proto::etcdserverpb as pb;
use crate::proto::weftpeer as peer;
use crate::server::node::Node;
use peer::peer_server::Peer;

/// Serves one member's peers.
pub(crate) struct PeerService {
    pub(crate) node: Arc<Node>,
    pub(crate) snapshots: SnapshotDir,
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this member has stopped: {error}"))
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn append(
        &self,
        request: Request<peer::AppendRequest>,
    ) -> Result<Response<peer::AppendReply>, Status> {
        let request = codec::append_from(request.into_inner())?;
        self.node
            .standing
            .guard_append(request.vote.leader_id.term)?;
        let reply = self
            .node
            .raft
            .append_entries(request)
            .await
            .map_err(stopped)?;
        if !matches!(reply, openraft::raft::AppendEntriesResponse::HigherVote(_)) {
            self.node.heard_leader();
        }
        Ok(Response::new(codec::append_reply_to(&reply)))
    }

    async fn vote(
        &self,
        request: Request<peer::Encoded>,
    ) -> Result<Response<peer::Encoded>, Status> {
        self.node.standing.guard_vote()?;
        let request = decode(request.get_ref())?;
        let reply = self.node.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(encode(&reply)?))
    }

    async fn pre_vote(
        &self,
        request: Request<peer::Encoded>,
    ) -> Result<Response<peer::Encoded>, Status> {
        self.node.standing.guard_vote()?;
        let request = decode(request.get_ref())?;
        let reply = self.node.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(encode(&reply)?))
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::Encoded>,
    ) -> Result<Response<peer::Encoded>, Status> {
        self.node.standing.guard_vote()?;
        let request = decode(request.get_ref())?;
        let reply = self
            .node
            .raft
            .handle_transfer_leader(request)
            .await
            .map_err(stopped)?;
        Ok(Response::new(encode(&reply)?))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<peer::SnapshotChunk>>,
    ) -> Result<Response<peer::SnapshotReply>, Status> {
        let mut chunks = request.into_inner();
        let Some(peer::SnapshotChunk {
            part: Some(peer::snapshot_chunk::Part::Meta(head)),
        }) = chunks.message().await?
        else {
            return Err(codec::Malformed("snapshot.meta").into());
        };
        let meta: SnapshotMeta = decode(&peer::Encoded {
            json: head.meta_json,
        })?;
        let vote = codec::vote_from(head.vote.ok_or(codec::Malformed("snapshot.vote"))?);
        self.node.standing.guard_append(vote.leader_id.term)?;
        let snapshot = self.receive(&mut chunks, head.length).await?;
        let path = snapshot.path.clone();
        let installed = self
            .node
            .raft
            .install_full_snapshot(vote, Snapshot { meta, snapshot });
        let reply = installed.await.map_err(stopped)?;
        // Gone already if it was installed; left over if a higher vote refused it.
        let _ = tokio::fs::remove_file(path).await;
        self.node.heard_leader();
        Ok(Response::new(peer::SnapshotReply {
            vote: Some(codec::vote_to(&reply.vote)),
        }))
    }

    async fn propose(
        &self,
        request: Request<peer::Command>,
    ) -> Result<Response<peer::ProposeReply>, Status> {
        let reply = self.node.propose_here(request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn read_index(
        &self,
        _request: Request<peer::ReadIndexRequest>,
    ) -> Result<Response<peer::ReadIndexReply>, Status> {
        let index = self.node.read_index_here().await?;
        Ok(Response::new(peer::ReadIndexReply { index }))
    }

    async fn tell(
        &self,
        request: Request<peer::Standing>,
    ) -> Result<Response<peer::Standing>, Status> {
        Ok(Response::new(self.node.tell(request.into_inner()).await?))
    }

    async fn keep_alive(
        &self,
        request: Request<pb::LeaseKeepAliveRequest>,
    ) -> Result<Response<pb::LeaseKeepAliveResponse>, Status> {
        let reply = self.node.keep_alive_here(request.into_inner().id).await?;
        Ok(Response::new(reply))
    }

    async fn time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let reply = self.node.time_to_live_here(request.get_ref()).await?;
        Ok(Response::new(reply))
    }
}

impl PeerService {
    async fn receive(
        &self,
        chunks: &mut Streaming<peer::SnapshotChunk>,
        length: u64,
    ) -> Result<SnapshotFile, Status> {
        let (path, mut file) = self.snapshots.part()?;
        let mut received = 0;
        while let Some(chunk) = chunks.message().await? {
            let Some(peer::snapshot_chunk::Part::Data(data)) = chunk.part else {
                return Err(codec::Malformed("snapshot.data").into());
            };
            received += data.len() as u64;
            // Into the page cache, a megabyte at a time: not worth a thread.
            file.write_all(&data)?;
        }
        if received != length {
            return Err(Status::data_loss(format!(
                "snapshot of {length} bytes ended at {received}"
            )));
        }
        Ok(SnapshotFile {
            path,
            file: Arc::new(file),
        })
    }
}
