//! What a person wants, checked against what is, as one transaction each: all of it or nothing.
//!
//! - `tenant`, `network`, `container`, `chain`: what `apply` writes.
//! - `remove`: what `remove` deletes, and what it refuses.
//!
//! Every write is fenced by the revisions it was planned from, so two agents never both win.

use serde::Serialize;
use weft_overlay::keys::Key;

use crate::mirror::State;

mod chain;
mod container;
mod network;
mod remove;
mod tenant;

pub use chain::{WantedChain, chain};
pub use container::container;
pub use network::network;
pub use remove::{How, Removal, remove};
pub use tenant::tenant;

/// What kind of refusal it is; the API turns it into a gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was asked for makes no sense, whatever the state.
    Invalid,
    /// Something named does not exist.
    NotFound,
    /// The state forbids it.
    State,
}

/// Why something wanted is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {cause}\nhelp: {help}")]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// What it is about, e.g. `network red/front`.
    pub subject: String,
    /// Why.
    pub cause: String,
    /// The next step.
    pub help: String,
    /// Diagnostics of a file, as JSON; empty without.
    pub details: Vec<u8>,
}

impl Refusal {
    fn new(
        kind: RefusalKind,
        subject: impl ToString,
        cause: impl ToString,
        help: impl ToString,
    ) -> Refusal {
        Refusal {
            kind,
            subject: subject.to_string(),
            cause: cause.to_string(),
            help: help.to_string(),
            details: Vec::new(),
        }
    }
    /// A document in the store that cannot be read is never overwritten.
    fn unreadable(subject: impl ToString) -> Refusal {
        let cause = "its document in the store cannot be read";
        Self::state(subject, cause, "`weft status` says what is wrong with it")
    }
    /// What a removal would take along is unknown.
    fn unreadable_below(subject: impl ToString, tenant: &weft_overlay::TenantName) -> Refusal {
        let cause = format!("a document of tenant {tenant} in the store cannot be read");
        let help = "`weft status` names it; restore or delete it first";
        Self::state(subject, cause, help)
    }
    pub(crate) fn invalid(
        subject: impl ToString,
        cause: impl ToString,
        help: impl ToString,
    ) -> Refusal {
        Self::new(RefusalKind::Invalid, subject, cause, help)
    }
    pub(crate) fn not_found(
        subject: impl ToString,
        cause: impl ToString,
        help: impl ToString,
    ) -> Refusal {
        Self::new(RefusalKind::NotFound, subject, cause, help)
    }
    pub(crate) fn state(
        subject: impl ToString,
        cause: impl ToString,
        help: impl ToString,
    ) -> Refusal {
        Self::new(RefusalKind::State, subject, cause, help)
    }
}

/// A condition that must still hold when the write is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no such key.
    Absent(String),
    /// The key was last changed at this revision.
    Revision(String, i64),
    /// No key with this prefix was written after this revision.
    NoneSince(String, i64),
}

/// One part of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Put a value.
    Put(String, Vec<u8>),
    /// Put a value that goes when this lease ends.
    PutLeased(String, Vec<u8>, i64),
    /// Delete a key.
    Delete(String),
    /// Delete every key with this prefix.
    DeletePrefix(String),
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// All of these must hold.
    pub expect: Vec<Expect>,
    /// Then all of these are done.
    pub ops: Vec<WriteOp>,
}

impl Write {
    /// Puts a document; `revision` is what it replaces, `None` for a new one.
    pub fn put<T: Serialize>(&mut self, key: &Key, value: &T, revision: Option<i64>) {
        let (path, json) = self.replaces(key, value, revision);
        self.ops.push(WriteOp::Put(path, json));
    }

    /// As [`put`](Write::put), for as long as `lease` lives.
    pub fn put_leased<T: Serialize>(
        &mut self,
        key: &Key,
        value: &T,
        revision: Option<i64>,
        lease: i64,
    ) {
        let (path, json) = self.replaces(key, value, revision);
        self.ops.push(WriteOp::PutLeased(path, json, lease));
    }

    fn replaces<T: Serialize>(
        &mut self,
        key: &Key,
        value: &T,
        revision: Option<i64>,
    ) -> (String, Vec<u8>) {
        let path = key.path();
        self.expect.push(match revision {
            Some(revision) => Expect::Revision(path.clone(), revision),
            None => Expect::Absent(path.clone()),
        });
        // A document is a struct of strings and numbers, which always serialises.
        (path, serde_json::to_vec(value).unwrap_or_default())
    }

    /// Requires that a document is still as it was read.
    pub fn require(&mut self, key: &Key, revision: i64) {
        self.expect.push(Expect::Revision(key.path(), revision));
    }

    /// Requires that nothing below `prefix` was written after `revision`.
    pub fn none_since(&mut self, prefix: String, revision: i64) {
        self.expect.push(Expect::NoneSince(prefix, revision));
    }

    /// Does the write to a copy of the state, for a dry run.
    pub fn preview(&self, state: &mut State) {
        for op in &self.ops {
            match op {
                WriteOp::Put(key, value) | WriteOp::PutLeased(key, value, _) => {
                    state.put(key, value, state.revision);
                }
                WriteOp::Delete(key) => state.delete(key),
                // Only removals delete prefixes, and they have no dry run.
                WriteOp::DeletePrefix(_) => {}
            }
        }
    }
}

/// What an apply does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It is so already.
    Unchanged,
}

impl Action {
    /// The word in the API.
    pub fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Update => "update",
            Action::Unchanged => "unchanged",
        }
    }
}

/// A planned change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What happens.
    pub action: Action,
    /// What a person wants to know of it, e.g. "VNI 1".
    pub detail: String,
    /// The transaction; empty when unchanged.
    pub write: Write,
}

impl Planned {
    fn unchanged(detail: String) -> Planned {
        Planned {
            action: Action::Unchanged,
            detail,
            write: Write::default(),
        }
    }
}

/// Lists what exists, for the help of a "not found".
fn known<T: ToString>(kind: &str, names: impl Iterator<Item = T>) -> String {
    let mut names: Vec<String> = names.map(|n| n.to_string()).collect();
    names.sort();
    if names.is_empty() {
        return format!("there is no {kind} yet");
    }
    let more = names.len().saturating_sub(8);
    names.truncate(8);
    let list = names.join(", ");
    match more {
        0 => format!("known: {list}"),
        n => format!("known: {list} and {n} more"),
    }
}

#[cfg(test)]
mod tests;
