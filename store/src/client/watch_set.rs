//! Many watches on one stream, which survive broken connections: all are opened again at another member, each from the
//! revision it had reached.
//!
//! The task is owned by the [`WatchSet`] and ends with it. Its channel holds few responses: a slow consumer slows the
//! task and through flow control the member's sending, never the member's writes.
//!
//! Revisions are in order within a watch, not between them: members tell each of them by itself.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::call::{Client, backoff};
use super::error::Error;
use super::types::{Event, EventKind, KeyRange, KeyValue, WatchEvents};
use crate::proto::{etcdserverpb as pb, mvccpb};
use pb::watch_request::RequestUnion;

/// Responses waiting for the consumer; more would only hide that it is slow.
const WAITING: usize = 16;

/// What a watch of a set tells.
#[derive(Debug)]
pub struct Told {
    /// The watch, as it was named when it was added.
    pub id: u32,
    /// Changes in order, without gap and without repetition; an error ends the watch.
    pub events: Result<WatchEvents, Error>,
}

/// Watches that share a stream.
#[derive(Debug)]
pub struct WatchSet {
    commands: mpsc::UnboundedSender<Command>,
    pub(super) told: mpsc::Receiver<Told>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Command {
    Add(u32, One),
    Remove(u32),
}

/// A watch, and the first revision that it has not told.
#[derive(Clone, Debug)]
struct One {
    range: KeyRange,
    next: i64,
}

impl WatchSet {
    pub(super) fn open(client: Client) -> WatchSet {
        // As many commands as there are watches; whoever adds them has them all in memory anyway.
        let (commands, orders) = mpsc::unbounded_channel();
        let (sender, told) = mpsc::channel(WAITING);
        let set = Set {
            client,
            orders,
            told: sender,
            watches: BTreeMap::new(),
        };
        let task = tokio::spawn(set.run());
        WatchSet {
            commands,
            told,
            task,
        }
    }

    /// Watches a range from a revision on, 0: from now. `id` is above 0 and was not used in this set before.
    pub fn add(&self, id: u32, range: KeyRange, from_revision: i64) {
        let next = from_revision;
        // The task lives as long as the set does.
        let _ = self.commands.send(Command::Add(id, One { range, next }));
    }

    /// Ends a watch; what it told before may still come.
    pub fn remove(&self, id: u32) {
        let _ = self.commands.send(Command::Remove(id));
    }

    /// What comes next of any of them. Cancel-safe.
    pub async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }
}

impl Drop for WatchSet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How one connection ended.
enum End {
    /// Broken: open it again elsewhere.
    Broken,
    /// Nobody listens any more.
    Left,
}

struct Set {
    client: Client,
    orders: mpsc::UnboundedReceiver<Command>,
    told: mpsc::Sender<Told>,
    watches: BTreeMap<u32, One>,
}

impl Set {
    async fn run(mut self) {
        let mut attempts = 0;
        loop {
            // Nothing is asked of a member before there is something to watch.
            while self.watches.is_empty() {
                match self.orders.recv().await {
                    Some(command) => drop(self.obey(command)),
                    None => return,
                }
            }
            let at = self.client.preferred();
            let before = self.reached();
            match self.connection(at).await {
                End::Left => return,
                End::Broken => {
                    self.client.turn_from(at);
                    let went_on = self.reached() > before;
                    attempts = if went_on { 1 } else { attempts + 1 };
                    // Watching never gives up: the store may be away for long, and the caller goes on by itself.
                    tokio::time::sleep(backoff(attempts, 2)).await;
                }
            }
        }
    }

    fn reached(&self) -> i64 {
        self.watches.values().map(|one| one.next).sum()
    }

    /// Takes a command in; what the member is to be told of it.
    fn obey(&mut self, command: Command) -> Option<pb::WatchRequest> {
        let union = match command {
            Command::Add(id, one) => {
                let request = create(id, &one);
                self.watches.insert(id, one);
                request
            }
            Command::Remove(id) => {
                self.watches.remove(&id)?;
                RequestUnion::CancelRequest(pb::WatchCancelRequest {
                    watch_id: id.into(),
                })
            }
        };
        Some(pb::WatchRequest {
            request_union: Some(union),
        })
    }

    async fn connection(&mut self, at: usize) -> End {
        // Not bounded: a member that waits until its responses are read must not keep this task, which reads them, from
        // asking. There is a request for each watch at most twice.
        let (requests, outgoing) = mpsc::unbounded_channel();
        for (id, one) in &self.watches {
            let request_union = Some(create(*id, one));
            let _ = requests.send(pb::WatchRequest { request_union });
        }
        let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(outgoing);
        let mut request = tonic::Request::new(stream);
        // A member that lost its leader ends the stream, so that another one is tried.
        request.metadata_mut().insert(
            "hasleader",
            tonic::metadata::MetadataValue::from_static("true"),
        );
        let mut wire = pb::watch_client::WatchClient::new(self.client.channel(at))
            .max_decoding_message_size(64 << 20);
        let limit = self.client.options().attempt_timeout;
        let Ok(Ok(answers)) = tokio::time::timeout(limit, wire.watch(request)).await else {
            return End::Broken;
        };
        let mut answers = answers.into_inner();
        loop {
            // Members tell progress at least every ten minutes; pings of the channel notice a dead peer far sooner.
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(response)) => {
                        if let Err(end) = self.take(response).await {
                            return end;
                        }
                    }
                    Ok(None) | Err(_) => return End::Broken,
                },
                command = self.orders.recv() => match command {
                    Some(command) => {
                        if let Some(request) = self.obey(command)
                            && requests.send(request).is_err()
                        {
                            return End::Broken;
                        }
                    }
                    None => return End::Left,
                },
            }
        }
    }

    async fn take(&mut self, response: pb::WatchResponse) -> Result<(), End> {
        let revision = response.header.as_ref().map_or(0, |h| h.revision);
        let Ok(id) = u32::try_from(response.watch_id) else {
            // A refused watch has no number; of these there are none, for ranges and numbers are made here.
            return Err(End::Broken);
        };
        // What was removed meanwhile tells nothing more.
        let Some(one) = self.watches.get_mut(&id) else {
            return Ok(());
        };
        if response.canceled {
            if response.cancel_reason == crate::api::NO_LEADER {
                return Err(End::Broken);
            }
            self.watches.remove(&id);
            let error = match response.compact_revision {
                0 => Error::WatchCancelled {
                    reason: response.cancel_reason,
                },
                revision => Error::Compacted { revision },
            };
            return self.tell(id, Err(error)).await;
        }
        if response.created {
            if one.next == 0 {
                one.next = revision + 1;
            }
            return Ok(());
        }
        if response.events.is_empty() {
            // Progress: everything up to this revision was told.
            one.next = one.next.max(revision + 1);
            return Ok(());
        }
        let events: Vec<Event> = response.events.into_iter().filter_map(event).collect();
        let Some(revision) = events.last().map(|e| e.kv.mod_revision) else {
            return Ok(());
        };
        one.next = revision + 1;
        self.tell(id, Ok(WatchEvents { revision, events })).await
    }

    async fn tell(&self, id: u32, events: Result<WatchEvents, Error>) -> Result<(), End> {
        let told = self.told.send(Told { id, events }).await;
        told.map_err(|_| End::Left)
    }
}

fn create(id: u32, one: &One) -> RequestUnion {
    RequestUnion::CreateRequest(pb::WatchCreateRequest {
        watch_id: id.into(),
        key: one.range.key.clone().into(),
        range_end: one.range.end.clone().into(),
        start_revision: one.next,
        progress_notify: true,
        ..Default::default()
    })
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
