//! A watch that survives broken connections: it reopens at another member from the revision it had reached.
//!
//! The task is owned by the [`WatchStream`] and ends with it. Its channel holds few responses: a slow
//! consumer slows the task and through flow control the member's sending, never the member's writes.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::call::{Client, backoff};
use super::error::Error;
use super::types::{Event, EventKind, KeyRange, KeyValue, WatchEvents};
use crate::proto::{etcdserverpb as pb, mvccpb};

/// Responses waiting for the consumer; more would only hide that it is slow.
const WAITING: usize = 16;

/// Changes of a range of keys, in order, without gap and without repetition.
#[derive(Debug)]
pub struct WatchStream {
    events: mpsc::Receiver<Result<WatchEvents, Error>>,
    task: JoinHandle<()>,
}

impl WatchStream {
    pub(super) fn open(client: Client, range: KeyRange, from_revision: i64) -> WatchStream {
        let (sender, events) = mpsc::channel(WAITING);
        let task = tokio::spawn(run(client, range, from_revision, sender));
        WatchStream { events, task }
    }

    /// The next changes; `None` only after an error ended the watch. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<WatchEvents, Error>> {
        self.events.recv().await
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchEvents, Error>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How one connection ended.
enum End {
    /// Broken: open it again elsewhere.
    Broken,
    /// The store ended the watch, or nobody listens any more.
    Final(Option<Error>),
}

async fn run(
    client: Client,
    range: KeyRange,
    from_revision: i64,
    sender: mpsc::Sender<Result<WatchEvents, Error>>,
) {
    let mut next = from_revision;
    let mut attempts = 0;
    loop {
        let at = client.preferred();
        let before = next;
        match connection(&client, at, &range, &mut next, &sender).await {
            End::Final(error) => {
                if let Some(error) = error {
                    let _ = sender.send(Err(error)).await;
                }
                return;
            }
            End::Broken => {
                client.turn_from(at);
                attempts = if next > before { 1 } else { attempts + 1 };
                // Watching never gives up: the store may be away for long, and the caller goes on by itself.
                tokio::time::sleep(backoff(attempts, 2)).await;
            }
        }
    }
}

async fn connection(
    client: &Client,
    at: usize,
    range: &KeyRange,
    next: &mut i64,
    sender: &mpsc::Sender<Result<WatchEvents, Error>>,
) -> End {
    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
            pb::WatchCreateRequest {
                key: range.key.clone().into(),
                range_end: range.end.clone().into(),
                start_revision: *next,
                progress_notify: true,
                ..Default::default()
            },
        )),
    };
    // The request side stays open as long as the watch: `keep` ends it on return.
    let (keep, requests) = mpsc::channel(1);
    if keep.send(create).await.is_err() {
        return End::Broken;
    }
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
    // A member that lost its leader ends the stream, so that another one is tried.
    request.metadata_mut().insert(
        "hasleader",
        tonic::metadata::MetadataValue::from_static("true"),
    );
    let mut wire =
        pb::watch_client::WatchClient::new(client.channel(at)).max_decoding_message_size(64 << 20);
    let opened = tokio::time::timeout(client.options().attempt_timeout, wire.watch(request)).await;
    let Ok(Ok(answers)) = opened else {
        return End::Broken;
    };
    let mut answers = answers.into_inner();
    loop {
        // Members tell progress at least every ten minutes; pings of the channel notice a dead peer far sooner.
        let answer = tokio::select! {
            answer = answers.message() => answer,
            () = sender.closed() => return End::Final(None),
        };
        match answer {
            Ok(Some(response)) => {
                if let Err(end) = take(response, next, sender).await {
                    return end;
                }
            }
            Ok(None) | Err(_) => return End::Broken,
        }
    }
}

async fn take(
    response: pb::WatchResponse,
    next: &mut i64,
    sender: &mpsc::Sender<Result<WatchEvents, Error>>,
) -> Result<(), End> {
    if response.canceled {
        if response.compact_revision > 0 {
            let revision = response.compact_revision;
            return Err(End::Final(Some(Error::Compacted { revision })));
        }
        if response.cancel_reason == crate::api::NO_LEADER {
            return Err(End::Broken);
        }
        let reason = response.cancel_reason;
        return Err(End::Final(Some(Error::WatchCancelled { reason })));
    }
    let revision = response.header.as_ref().map_or(0, |h| h.revision);
    if response.created {
        if *next == 0 {
            *next = revision + 1;
        }
        return Ok(());
    }
    if response.events.is_empty() {
        // Progress: everything up to this revision was told.
        *next = (*next).max(revision + 1);
        return Ok(());
    }
    let events: Vec<Event> = response.events.into_iter().filter_map(event).collect();
    let Some(revision) = events.last().map(|e| e.kv.mod_revision) else {
        return Ok(());
    };
    *next = revision + 1;
    let told = sender.send(Ok(WatchEvents { revision, events })).await;
    told.map_err(|_| End::Final(None))
}

fn event(event: mvccpb::Event) -> Option<Event> {
    let kind = match event.r#type() {
        mvccpb::event::EventType::Put => EventKind::Put,
        mvccpb::event::EventType::Delete => EventKind::Delete,
    };
    Some(Event {
        kind,
        kv: KeyValue::from(event.kv?),
    })
}
