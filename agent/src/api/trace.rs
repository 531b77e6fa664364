//! Traces: this node's events, or those of all nodes in one stream.
//!
//! The first message goes out when every asked node listens (or has been given up), so that whoever
//! sends a packet after it misses nothing. All tasks of a trace end with its stream or its time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use weft_ebpf_abi::TraceFilter;
use weft_overlay::NodeName;

use super::fault::{fault, refused};
use super::observe::{Names, observation};
use super::peers::{PATIENCE, others};
use super::resolve::{resolve, traffic_of};
use super::shared::Shared;
use super::tracer::Subscription;
use crate::client::{AgentClient, Target};
use crate::proto::{TraceReply, TraceRequest};

/// The stream of a trace.
pub type TraceStream = ReceiverStream<Result<TraceReply, Status>>;

/// Messages on their way to a slow reader; behind it each node's own backlog counts what is lost.
const CHANNEL: usize = 1024;
/// Longest trace, seconds.
const SECONDS_MAX: u32 = 3600;
/// How long without `seconds`.
const SECONDS_DEFAULT: u32 = 600;

/// Begins a trace.
pub async fn trace(shared: Arc<Shared>, request: TraceRequest) -> Result<TraceStream, Status> {
    let seconds = match request.seconds {
        0 => SECONDS_DEFAULT,
        n => n.min(SECONDS_MAX),
    };
    let limit = Duration::from_secs(seconds.into());
    let state = shared.known().await?;
    let filter = if request.local {
        filter_of(&request)?
    } else {
        resolve(&state, &request.a, &request.b, &request.traffic).map_err(refused)?
    };
    let subscription = shared
        .parts()?
        .tracer
        .listen(filter)
        .map_err(|e| fault(Code::Internal, "trace", crate::node::chain_of(&e), e.help()))?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let mut first = TraceReply {
        listening: vec![shared.config.name.to_string()],
        ..TraceReply::default()
    };
    if !request.local {
        let asked = TraceRequest {
            local: true,
            vni: filter.vni,
            address_a: filter.a.to_vec(),
            address_b: filter.b.to_vec(),
            traffic: request.traffic.clone(),
            seconds,
            ..TraceRequest::default()
        };
        let asking = others(&state, &shared.config.name)
            .into_iter()
            .map(|(node, api)| begin(node, api, asked.clone()));
        for answer in futures::future::join_all(asking).await {
            match answer {
                Ok((node, stream)) => {
                    first.listening.push(node.to_string());
                    tokio::spawn(forward(stream, sender.clone(), limit));
                }
                Err(problem) => first.problems.push(problem),
            }
        }
    }
    // The receiver is held here, so there is room.
    let _ = sender.try_send(Ok(first));
    tokio::spawn(own(shared, subscription, sender, limit));
    Ok(ReceiverStream::new(receiver))
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn filter_of(request: &TraceRequest) -> Result<TraceFilter, Status> {
    let (proto, port) = traffic_of(&request.traffic).map_err(refused)?;
    let end = |bytes: &[u8]| match bytes.len() {
        0 => Ok([0; 16]),
        _ => <[u8; 16]>::try_from(bytes).map_err(|_| {
            fault(
                Code::InvalidArgument,
                "trace",
                "an address is not 16 bytes",
                "run the same version of weft on all nodes",
            )
        }),
    };
    Ok(TraceFilter {
        mode: 1,
        vni: request.vni,
        a: end(&request.address_a)?,
        b: end(&request.address_b)?,
        proto,
        port,
        ..TraceFilter::default()
    })
}

/// Asks another node to listen; done when it does.
async fn begin(
    node: NodeName,
    api: String,
    request: TraceRequest,
) -> Result<(NodeName, Streaming<TraceReply>), String> {
    let ask = async {
        let mut client = AgentClient::connect(Target::Tcp(api))
            .await
            .map_err(|e| e.to_string())?;
        let mut stream = client
            .trace(request)
            .await
            .map_err(|e| e.message().to_owned())?;
        match stream.message().await {
            Ok(Some(first)) if !first.listening.is_empty() => Ok(stream),
            Ok(_) => Err("ended its trace at once".to_owned()),
            Err(e) => Err(e.message().to_owned()),
        }
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(stream)) => Ok((node, stream)),
        Ok(Err(e)) => Err(format!("{node}: {}", e.lines().next().unwrap_or_default())),
        Err(_) => Err(format!("{node}: did not answer within {PATIENCE:?}")),
    }
}

async fn forward(
    mut stream: Streaming<TraceReply>,
    sender: mpsc::Sender<Result<TraceReply, Status>>,
    limit: Duration,
) {
    let copy = async {
        while let Some(Ok(reply)) = stream.next().await {
            if sender.send(Ok(reply)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(limit, copy) => {}
        () = sender.closed() => {}
    }
}

async fn own(
    shared: Arc<Shared>,
    mut subscription: Subscription,
    sender: mpsc::Sender<Result<TraceReply, Status>>,
    limit: Duration,
) {
    let offset = clock_offset();
    let copy = async {
        while let Some(event) = subscription.events.recv().await {
            let (Some(state), Some(parts)) = (shared.mirror.state(), shared.parts.get()) else {
                return;
            };
            let local = shared.report.borrow().local.clone();
            let names = Names {
                node: shared.config.name.as_str(),
                state: &state,
                local: &local,
                overlay: (parts.overlay.0, &parts.overlay.1),
                clock_offset: offset,
            };
            let lost =
                subscription.lost() + parts.datapath.lock().events_lost().unwrap_or_default();
            let reply = TraceReply {
                observation: Some(observation(&names, &event, lost)),
                ..TraceReply::default()
            };
            if sender.send(Ok(reply)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(limit, copy) => {}
        () = sender.closed() => {}
    }
}

/// What makes Unix time of the monotonic clock, ns.
fn clock_offset() -> u64 {
    let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64
    });
    let unix = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(0));
    unix.saturating_sub(monotonic)
}
