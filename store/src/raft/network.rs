//! Calls to other members: one lazily connected HTTP/2 channel per peer URL, shared by all that call.

use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::codec;
use super::snapshot::SnapshotFile;
use super::types::{Node, Snapshot, TypeConfig, Vote};
use crate::proto::weftpeer as peer;
use peer::peer_client::PeerClient;

/// Messages between members may be as large as a read of the log allows, with one largest request on top.
pub(crate) const MAX_MESSAGE: usize = 32 << 20;
/// Bytes of a snapshot in one message.
const CHUNK: usize = 1 << 20;
/// An append may wait for a slow disk: far longer than a heartbeat, which is the time that openraft allows for it.
const APPEND_AT_LEAST: Duration = Duration::from_secs(2);

/// Channels to members by peer URL.
#[derive(Clone, Default)]
pub(crate) struct Peers {
    channels: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Peers {
    pub(crate) fn client(&self, url: &str) -> Result<PeerClient<Channel>, Status> {
        let mut channels = self
            .channels
            .lock()
            .expect("nothing panics under this lock");
        let channel = match channels.get(url) {
            Some(channel) => channel.clone(),
            None => {
                let channel = Endpoint::from_shared(url.to_owned())
                    .map_err(|e| Status::internal(format!("peer URL {url}: {e}")))?
                    .connect_timeout(Duration::from_millis(500))
                    .tcp_nodelay(true)
                    .http2_keep_alive_interval(Duration::from_secs(1))
                    .keep_alive_timeout(Duration::from_secs(2))
                    .connect_lazy();
                channels.insert(url.to_owned(), channel.clone());
                channel
            }
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Connection;

    async fn new_client(&mut self, _target: u64, node: &Node) -> Connection {
        Connection {
            peers: self.clone(),
            url: node.peer_url.clone(),
        }
    }
}

/// Raft's calls to one member.
pub(crate) struct Connection {
    peers: Peers,
    url: String,
}

type Failure = RPCError<TypeConfig>;
type Client = PeerClient<Channel>;
type Encoded = Result<tonic::Response<peer::Encoded>, Status>;

impl Connection {
    /// A rare call, whose request and answer travel as the library's own types.
    async fn encoded<Q: Serialize, A: DeserializeOwned, F: Future<Output = Encoded> + Send>(
        &self,
        request: &Q,
        option: &RPCOption,
        call: impl FnOnce(Client, peer::Encoded) -> F,
    ) -> Result<A, Failure> {
        let client = self.peers.client(&self.url).map_err(|s| failure(&s))?;
        let request = encode(request).map_err(|s| failure(&s))?;
        let call = call(client, request);
        within(option.hard_ttl(), async { decode(call.await?.get_ref()) }).await
    }
}

/// `Unreachable` makes openraft wait before it tries again; other failures it repeats at once.
fn failure(status: &Status) -> Failure {
    let error = AnyError::error(crate::client::describe(status));
    match status.code() {
        Code::Unavailable => RPCError::Unreachable(Unreachable::new(&error)),
        _ => RPCError::Network(NetworkError::new(&error)),
    }
}

fn streaming(status: &Status) -> StreamingError<TypeConfig> {
    let error = AnyError::error(crate::client::describe(status));
    StreamingError::Unreachable(Unreachable::new(&error))
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<peer::Encoded, Status> {
    let json = serde_json::to_vec(value).map_err(|e| Status::internal(e.to_string()))?;
    Ok(peer::Encoded { json: json.into() })
}

pub(crate) fn decode<T: DeserializeOwned>(encoded: &peer::Encoded) -> Result<T, Status> {
    serde_json::from_slice(&encoded.json).map_err(|e| Status::invalid_argument(e.to_string()))
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(|status| failure(&status)),
        Err(_) => Err(failure(&Status::deadline_exceeded("no answer in time"))),
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        let mut client = self.peers.client(&self.url).map_err(|s| failure(&s))?;
        let request = codec::append_to(&rpc);
        let limit = option.hard_ttl().max(APPEND_AT_LEAST);
        within(limit, async {
            let reply = client.append(request).await?.into_inner();
            Ok(codec::append_reply_from(reply)?)
        })
        .await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let call = |mut peer: Client, request| async move { peer.vote(request).await };
        self.encoded(&rpc, &option, call).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let call = |mut peer: Client, request| async move { peer.pre_vote(request).await };
        self.encoded(&rpc, &option, call).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        let call = |mut peer: Client, request| async move { peer.transfer_leader(request).await };
        self.encoded(&rpc, &option, call).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.peers.client(&self.url).map_err(|s| streaming(&s))?;
        let head = head(&vote, &snapshot).map_err(|s| streaming(&s))?;
        let chunks = futures::stream::iter([head]).chain(chunks(snapshot.snapshot));
        use futures::StreamExt;
        let call = tokio::time::timeout(option.hard_ttl(), client.install_snapshot(chunks));
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            answered = call => match answered {
                Ok(Ok(reply)) => {
                    let vote = reply.into_inner().vote.unwrap_or_default();
                    Ok(SnapshotResponse::new(codec::vote_from(vote)))
                }
                Ok(Err(status)) => Err(streaming(&status)),
                Err(_) => Err(streaming(&Status::deadline_exceeded("snapshot took too long"))),
            },
        }
    }
}

fn head(vote: &Vote, snapshot: &Snapshot) -> Result<peer::SnapshotChunk, Status> {
    let length = snapshot.snapshot.file.metadata()?.len();
    let meta = peer::SnapshotMeta {
        vote: Some(codec::vote_to(vote)),
        meta_json: encode(&snapshot.meta)?.json,
        length,
    };
    Ok(peer::SnapshotChunk {
        part: Some(peer::snapshot_chunk::Part::Meta(meta)),
    })
}

/// The file's bytes in order. A read error ends the stream early; the receiver notices by the length.
fn chunks(file: SnapshotFile) -> impl futures::Stream<Item = peer::SnapshotChunk> {
    futures::stream::unfold((file, 0u64), |(file, offset)| async move {
        let reading = file.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; CHUNK];
            let count = reading.read_at(&mut bytes, offset)?;
            bytes.truncate(count);
            std::io::Result::Ok(bytes)
        });
        match read.await {
            Ok(Ok(bytes)) if !bytes.is_empty() => {
                let next = offset + bytes.len() as u64;
                let part = peer::snapshot_chunk::Part::Data(Bytes::from(bytes));
                Some((peer::SnapshotChunk { part: Some(part) }, (file, next)))
            }
            _ => None,
        }
    })
}
