//! One watch: a set of one.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::call::Client;
use super::error::Error;
use super::types::{KeyRange, WatchEvents};
use super::watch_set::WatchSet;

/// Its number in the set.
const ONLY: u32 = 1;

/// Changes of a range of keys, in order, without gap and without repetition.
#[derive(Debug)]
pub struct WatchStream {
    set: WatchSet,
    ended: bool,
}

impl WatchStream {
    pub(super) fn open(client: Client, range: KeyRange, from_revision: i64) -> WatchStream {
        let set = WatchSet::open(client);
        set.add(ONLY, range, from_revision);
        WatchStream { set, ended: false }
    }

    /// The next changes; `None` only after an error ended the watch. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<WatchEvents, Error>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WatchEvents, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let told = self.set.told.poll_recv(cx);
        told.map(|told| {
            let events = told?.events;
            self.ended = events.is_err();
            Some(events)
        })
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchEvents, Error>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}
