//! The store's client: fails over between endpoints, retries within bounds, resumes watches.
//!
//! Reads are repeated freely; a write is sent again only when it certainly was not taken (no connection, no leader).
//! Otherwise the caller gets [`Error::UnknownOutcome`] and must look before it repeats. Never caches anything.

mod call;
mod error;
mod requests;
mod types;
mod watch;
mod watch_set;

pub use call::{Client, Options};
pub(crate) use call::{describe, never_connected};
pub use error::Error;
pub use types::{
    Compare, Event, EventKind, KeyRange, KeyValue, Member, Op, OpReply, RangeOptions, RangeReply,
    Status, Txn, TxnReply, WatchEvents,
};
pub use watch::WatchStream;
pub use watch_set::{Told, WatchSet};
