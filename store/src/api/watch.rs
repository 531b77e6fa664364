//! Watches: one task per stream, which pulls the history for each of its watches up to the current revision.
//!
//! Pulling makes it one case whether a watch is behind or keeps up, and a slow client never holds up a write. A response
//! holds whole revisions only, unless the client asked for fragments. The task ends with its stream or with the member.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::mvcc::{Change, Keys};
use crate::proto::mvccpb;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use pb::watch_server::Watch;

/// Responses waiting for the client; more would only keep old news in memory.
const WAITING: usize = 16;
/// How often an idle watch that asked for it is told how far it is.
const PROGRESS: Duration = Duration::from_secs(60);
/// How often a stream that needs a leader looks for one.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of events in one response if the client asked for fragments.
const FRAGMENT: usize = 1 << 20;

type Answers = mpsc::Sender<Result<pb::WatchResponse, Status>>;

pub(super) struct WatchService {
    pub(super) node: Arc<Node>,
    pub(super) stopping: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        admit(&self.node, &request)?;
        takes_part(&self.node)?;
        let (answers, receiver) = mpsc::channel(WAITING);
        let session = Session {
            node: self.node.clone(),
            needs_leader: requires_leader(&request),
            answers,
            watches: BTreeMap::new(),
            next_id: 0,
            progress_asked: false,
        };
        tokio::spawn(session.run(request.into_inner(), self.stopping.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct One {
    keys: Keys,
    /// First revision not told yet.
    next: i64,
    puts: bool,
    deletes: bool,
    prev_kv: bool,
    fragment: bool,
    progress: bool,
    told: Instant,
}

/// The stream is over.
struct Over;

struct Session {
    node: Arc<Node>,
    needs_leader: bool,
    answers: Answers,
    watches: BTreeMap<i64, One>,
    next_id: i64,
    progress_asked: bool,
}

impl Session {
    async fn run(
        mut self,
        mut requests: Streaming<pb::WatchRequest>,
        mut stopping: watch::Receiver<bool>,
    ) {
        let mut revisions = self.node.mvcc.revisions();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let answers = self.answers.clone();
        loop {
            let step = tokio::select! {
                () = stopped(&mut stopping) => return,
                () = answers.closed() => return,
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request).await,
                    // The client closed its side: etcd ends the watches too.
                    Ok(None) | Err(_) => return,
                },
                changed = revisions.changed() => match changed {
                    Ok(()) => self.tell_all().await,
                    Err(_) => return,
                },
                _ = look.tick() => self.look().await,
            };
            if step.is_err() {
                return;
            }
        }
    }

    async fn send(&self, mut response: pb::WatchResponse) -> Result<(), Over> {
        complete(&self.node, &mut response.header);
        self.answers.send(Ok(response)).await.map_err(|_| Over)
    }

    async fn look(&mut self) -> Result<(), Over> {
        if self.needs_leader && !self.node.has_leader() {
            let _ = self.answers.send(Err(Status::unavailable(NO_LEADER))).await;
            return Err(Over);
        }
        let now = Instant::now();
        let current = self.node.mvcc.revision();
        let idle = |w: &One| w.progress && w.next > current && now - w.told >= PROGRESS;
        let due: Vec<(i64, i64)> = self
            .watches
            .iter()
            .filter(|(_, w)| idle(w))
            .map(|(id, w)| (*id, w.next - 1))
            .collect();
        for (watch_id, upto) in due {
            self.send(progress(watch_id, upto.min(current))).await?;
            if let Some(watch) = self.watches.get_mut(&watch_id) {
                watch.told = now;
            }
        }
        Ok(())
    }

    async fn request(&mut self, request: pb::WatchRequest) -> Result<(), Over> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => {
                if self.watches.remove(&cancel.watch_id).is_none() {
                    return Ok(());
                }
                self.send(pb::WatchResponse {
                    watch_id: cancel.watch_id,
                    canceled: true,
                    ..Default::default()
                })
                .await
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                self.progress_asked = true;
                self.tell_all().await
            }
            None => Ok(()),
        }
    }

    async fn refuse(&self, watch_id: i64, reason: &str) -> Result<(), Over> {
        self.send(pb::WatchResponse {
            watch_id,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        })
        .await
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> Result<(), Over> {
        if create.start_revision < 0 {
            return self.refuse(-1, "mvcc: start revision is negative").await;
        }
        // etcd: an empty key is the first possible one; an empty range is refused.
        let key = if create.key.is_empty() {
            bytes::Bytes::from_static(&[0])
        } else {
            create.key.clone()
        };
        let end = &create.range_end;
        if !end.is_empty() && end[..] != [0] && *end <= key {
            return self.refuse(-1, "mvcc: watcher range is empty").await;
        }
        let id = match create.watch_id {
            0 => {
                while self.watches.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            id if self.watches.contains_key(&id) => {
                return self
                    .refuse(-1, "mvcc: duplicate watch ID provided on the WatchStream")
                    .await;
            }
            id => id,
        };
        let current = self.node.mvcc.revision();
        let filters: Vec<FilterType> = create.filters().collect();
        let watch = One {
            keys: Keys::new(key, create.range_end),
            next: if create.start_revision == 0 {
                current + 1
            } else {
                create.start_revision
            },
            puts: !filters.contains(&FilterType::Noput),
            deletes: !filters.contains(&FilterType::Nodelete),
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress: create.progress_notify,
            told: Instant::now(),
        };
        self.watches.insert(id, watch);
        self.send(pb::WatchResponse {
            header: Some(self.node.header(current)),
            watch_id: id,
            created: true,
            ..Default::default()
        })
        .await?;
        self.tell(id).await
    }

    /// Brings every watch up to the current revision; then, if asked, says that they are.
    async fn tell_all(&mut self) -> Result<(), Over> {
        // Everything up to here is told when the loop is through, whatever comes meanwhile.
        let upto = self.node.mvcc.revision();
        let ids: Vec<i64> = self.watches.keys().copied().collect();
        for id in ids {
            self.tell(id).await?;
        }
        if std::mem::take(&mut self.progress_asked) {
            self.send(progress(-1, upto)).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, id: i64) -> Result<(), Over> {
        while let Some(watch) = self.watches.get_mut(&id)
            && watch.next <= self.node.mvcc.revision()
        {
            let page = match self.node.mvcc.changes(watch.next) {
                Ok(Ok(page)) => page,
                Ok(Err(compacted)) => return self.cancel_compacted(id, compacted).await,
                Err(error) => {
                    let _ = self.answers.send(Err(broken(error))).await;
                    return Err(Over);
                }
            };
            watch.next = page.upto + 1;
            let mut events = Vec::new();
            for change in page.changes.into_iter().filter(|c| wanted(watch, c)) {
                match event(&self.node, watch, change) {
                    Ok(event) => events.push(event),
                    Err(status) => {
                        let _ = self.answers.send(Err(status)).await;
                        return Err(Over);
                    }
                }
            }
            if events.is_empty() {
                continue;
            }
            watch.told = Instant::now();
            let fragment = watch.fragment;
            self.send_events(id, page.upto, events, fragment).await?;
        }
        Ok(())
    }

    async fn cancel_compacted(&mut self, watch_id: i64, compact_revision: i64) -> Result<(), Over> {
        self.watches.remove(&watch_id);
        self.send(pb::WatchResponse {
            watch_id,
            canceled: true,
            compact_revision,
            cancel_reason: COMPACTED.to_owned(),
            ..Default::default()
        })
        .await
    }

    async fn send_events(
        &self,
        watch_id: i64,
        upto: i64,
        events: Vec<mvccpb::Event>,
        fragment: bool,
    ) -> Result<(), Over> {
        let response = |events, fragment| pb::WatchResponse {
            header: Some(self.node.header(upto)),
            watch_id,
            events,
            fragment,
            ..Default::default()
        };
        if !fragment {
            return self.send(response(events, false)).await;
        }
        let mut part = Vec::new();
        let mut bytes = 0;
        for event in events {
            let size = event.encoded_len();
            if bytes > 0 && bytes + size > FRAGMENT {
                self.send(response(std::mem::take(&mut part), true)).await?;
                bytes = 0;
            }
            bytes += size;
            part.push(event);
        }
        self.send(response(part, false)).await
    }
}

fn progress(watch_id: i64, revision: i64) -> pb::WatchResponse {
    pb::WatchResponse {
        header: Some(pb::ResponseHeader {
            revision,
            ..Default::default()
        }),
        watch_id,
        ..Default::default()
    }
}

fn wanted(watch: &One, change: &Change) -> bool {
    let kind = if change.deleted() {
        watch.deletes
    } else {
        watch.puts
    };
    kind && watch.keys.contains(&change.kv.key)
}

fn event(node: &Node, watch: &One, change: Change) -> Result<mvccpb::Event, Status> {
    let kind = if change.deleted() {
        mvccpb::event::EventType::Delete
    } else {
        mvccpb::event::EventType::Put
    };
    let prev_kv = if watch.prev_kv {
        let before = node.mvcc.before(&change.kv.key, change.kv.mod_revision);
        before.map_err(broken)?
    } else {
        None
    };
    Ok(mvccpb::Event {
        r#type: kind as i32,
        kv: Some(change.kv),
        prev_kv,
    })
}
