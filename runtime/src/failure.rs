//! A step that failed inside the shim or the container's processes: it crosses processes as text.

use serde::{Deserialize, Serialize};

/// What failed and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Which error it becomes for the caller.
    pub kind: Kind,
    /// The step and its cause.
    pub cause: String,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A step of the runtime.
    Step,
    /// The user's command could not be executed.
    Command,
    /// The container is in another state.
    State,
}

impl Failure {
    pub(crate) fn new(cause: impl Into<String>) -> Failure {
        Failure {
            kind: Kind::Step,
            cause: cause.into(),
        }
    }
}

/// Names the step that a result belongs to.
pub(crate) trait Step<T> {
    fn step(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, what: &str) -> Result<T, Failure> {
        self.map_err(|cause| Failure::new(format!("{what}: {cause}")))
    }
}
