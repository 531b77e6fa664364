//! The store's documents of a chain. JSON; unknown keys are errors.

use serde::{Deserialize, Serialize};

use crate::file::ChainFile;
use crate::policy::Policy;

/// `tenants/<t>/chains/<c>/spec`: as applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainDoc {
    /// The version that is in force.
    pub current: u64,
    /// The file's name, as applied.
    pub file: String,
    /// The file's text, as applied.
    pub text: String,
}

/// `tenants/<t>/chains/<c>/versions/<v>`: immutable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainVersionDoc {
    /// The file format that was read.
    pub format: u32,
    /// The policy.
    pub policy: Policy,
    /// The file's name it came from.
    pub file: String,
    /// The file's text it came from.
    pub text: String,
    /// When it was made, Unix milliseconds.
    pub created: u64,
}

impl ChainVersionDoc {
    /// The document of `file`, made at `now` (Unix milliseconds).
    pub fn new(file: &ChainFile, now: u64) -> ChainVersionDoc {
        ChainVersionDoc {
            format: crate::file::FORMAT,
            policy: file.policy.clone(),
            file: file.source.name.clone(),
            text: file.source.text.clone(),
            created: now,
        }
    }
}
