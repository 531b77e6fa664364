//! What can go wrong with a lab, in words for the person who runs it. Owns the exit code of each
//! case. Never prints.

use std::path::PathBuf;

use crate::diagnose::Diagnostic;

/// Why a lab command did not do its work. The text names the subject, the cause and, after
/// `help:`, the next step.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The file has mistakes: all of those that could be found in one go.
    #[error("{file}: {} in the file", count(.diagnostics.len()))]
    File {
        /// The file as it was named.
        file: String,
        /// The mistakes, in the order of the file.
        diagnostics: Vec<Diagnostic>,
    },
    /// There is no such file, built-in topology, lab, node or container.
    #[error("{subject}: {cause}\nhelp: {help}")]
    NotFound {
        /// What was asked for.
        subject: String,
        /// Why it is not there.
        cause: String,
        /// What to do.
        help: String,
    },
    /// It exists, but its state does not allow this.
    #[error("{subject}: {cause}\nhelp: {help}")]
    Refused {
        /// The lab or node.
        subject: String,
        /// What stands in the way.
        cause: String,
        /// What to do.
        help: String,
    },
    /// Something the lab needs did not work.
    #[error("{subject}: {cause}\nhelp: {help}")]
    Failed {
        /// The lab, node or resource.
        subject: String,
        /// What happened.
        cause: String,
        /// What to do.
        help: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: {action}: {source}\nhelp: check the folder's permissions and the free space of its disk", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Its word.
        #[source]
        source: std::io::Error,
    },
    /// Ctrl-C or SIGTERM.
    #[error("lab {0}: interrupted")]
    Interrupted(String),
}

fn count(number: usize) -> String {
    match number {
        1 => "1 mistake".to_owned(),
        n => format!("{n} mistakes"),
    }
}

impl LabError {
    /// The exit code of the command line: 1 failed, 2 wrong usage, 3 not found, 4 refused by state.
    pub fn exit_code(&self) -> u8 {
        match self {
            LabError::File { .. } => 2,
            LabError::NotFound { .. } => 3,
            LabError::Refused { .. } => 4,
            LabError::Failed { .. } | LabError::Io { .. } | LabError::Interrupted(_) => 1,
        }
    }

    /// The mistakes of a file, for a report with its lines.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            LabError::File { diagnostics, .. } => diagnostics,
            _ => &[],
        }
    }

    pub(crate) fn failed(
        subject: impl ToString,
        cause: impl ToString,
        help: impl ToString,
    ) -> LabError {
        LabError::Failed {
            subject: subject.to_string(),
            cause: cause.to_string(),
            help: help.to_string(),
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> LabError {
        let path = path.into();
        move |source| LabError::Io {
            action,
            path,
            source,
        }
    }
}
