//! A step that failed inside the shim or the container's processes: it crosses processes as text.

use serde::{Deserialize, Serialize};

/// What failed and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Which error it becomes for the caller.
    pub kind: Kind,
    /// The step and its cause.
    pub cause: String,
    /// Of a command that could not be executed: the exit code that a shell gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
}

/// What a shell exits with for a command that is not there (POSIX, Shell Command Language, 2.8.2).
pub(crate) const NOT_FOUND: i32 = 127;
/// And for one that is there and cannot be executed.
pub(crate) const NOT_EXECUTABLE: i32 = 126;

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
            exit: None,
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
