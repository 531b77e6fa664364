//! What can go wrong for a caller of the store, and whether something may have changed.

use tonic::Code;

/// An error of the store's client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An endpoint is not a URL.
    #[error("store endpoint `{endpoint}` is not usable: {reason}; write http://HOST:PORT")]
    InvalidEndpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No endpoint took the request in time; nothing was changed.
    #[error(
        "store {operation}: no endpoint of {endpoints} answered within {seconds} s ({attempts} attempts); last: {last}; is a majority of the members up?"
    )]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// The endpoints tried.
        endpoints: String,
        /// Seconds spent.
        seconds: u64,
        /// Attempts made.
        attempts: u32,
        /// The last error.
        last: String,
    },
    /// The request may or may not have been carried out: look before repeating it.
    #[error(
        "store {operation}: outcome unknown, the connection or the leader was lost meanwhile ({last}); read before repeating it"
    )]
    UnknownOutcome {
        /// What was asked.
        operation: &'static str,
        /// The last error.
        last: String,
    },
    /// The revision asked for has been compacted away.
    #[error(
        "revision is compacted; the oldest readable revision is {revision} (0: not told); read the current state and go on from its revision"
    )]
    Compacted {
        /// The compact revision; 0 where the store does not tell it.
        revision: i64,
    },
    /// The lease does not exist (any more).
    #[error("store {operation}: lease not found: it expired or was revoked; grant a new one")]
    LeaseNotFound {
        /// What was asked.
        operation: &'static str,
    },
    /// The store refused the request; nothing was changed.
    #[error("store {operation} refused: {message} ({code:?})")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// gRPC status code.
        code: Code,
        /// The store's message.
        message: String,
    },
    /// The answer does not fit the question.
    #[error(
        "store {operation}: unexpected answer: {detail}; do client and store speak the same protocol?"
    )]
    Protocol {
        /// What was asked.
        operation: &'static str,
        /// What was unexpected.
        detail: String,
    },
    /// The watch was ended by the store.
    #[error("watch was cancelled by the store: {reason}")]
    WatchCancelled {
        /// The store's reason.
        reason: String,
    },
}

impl Error {
    /// Whether the request may have been carried out although it failed.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Error::UnknownOutcome { .. })
    }
}
