//! A chain file: TOML, format 1. Reads as much as it can, so that one go shows every mistake.
//!
//! Owns: the shape of the file, its keys and values, and the place of each. Never: asks what exists;
//! that is the verifier's ([`crate::check`]).
//!
//! - `reader`: tables, keys and values with their places, and the words for common mistakes.
//! - `tables`: the whole file, `[chain]`, `[[match]]`; `hop`: `[[hop]]`.
//! - `schema`: the same for editors.

mod hop;
mod reader;
mod schema;
mod tables;

use std::ops::{Deref, Range};

use toml::de::DeTable;

use crate::diagnostic::{Diagnostic, Source};
use crate::policy::Policy;
use reader::Reader;

pub use schema::schema;

/// The file format that is read.
pub const FORMAT: u32 = 1;

/// A place in a file, bytes.
pub type Span = Range<usize>;

/// A chain file: its policy, and where each part of it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFile {
    /// What it says; also reached directly (`file.chain.name`).
    pub policy: Policy,
    /// Where each part stands.
    pub spans: Spans,
    /// The file.
    pub source: Source,
}

impl Deref for ChainFile {
    type Target = Policy;
    fn deref(&self) -> &Policy {
        &self.policy
    }
}

/// Where the parts of a file stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// `chain.tenant`.
    pub tenant: Span,
    /// Of each match.
    pub matches: Vec<MatchSpans>,
    /// Of each hop.
    pub hops: Vec<HopSpans>,
}

/// Where the parts of a match stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchSpans {
    /// `from`.
    pub from: SelectorSpans,
    /// `to`.
    pub to: SelectorSpans,
    /// Each entry of `traffic`.
    pub traffic: Vec<Span>,
}

/// Where the parts of a selector stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectorSpans {
    /// All of it.
    pub whole: Span,
    /// The network's name, or all of it.
    pub network: Span,
    /// What selects in the network, or all of it.
    pub select: Span,
}

/// Where the parts of a hop stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HopSpans {
    /// `name`.
    pub name: Span,
    /// `select`.
    pub select: Span,
    /// `mode`, or the name where it is not given.
    pub mode: Span,
    /// Each interface.
    pub interfaces: Vec<Span>,
    /// `health`.
    pub health: Option<Span>,
}

/// Reads a chain file. `name` is for the diagnostics, which come in the order of the text.
pub fn parse(name: &str, text: &str) -> Result<ChainFile, Vec<Diagnostic>> {
    let source = Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(&source);
    for error in &errors {
        reader.syntax(error);
    }
    // After a syntax error the tables are guesses: saying more would mislead.
    let read = errors
        .is_empty()
        .then(|| tables::file(root.get_ref(), &mut reader))
        .flatten();
    let mut found = reader.finish();
    found.sort_by_key(|one| (one.span.start, one.span.end));
    found.dedup();
    match read {
        Some((policy, spans)) if found.is_empty() => Ok(ChainFile {
            policy,
            spans,
            source,
        }),
        _ => Err(found),
    }
}
