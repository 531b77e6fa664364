//! What a command fails with: subject and cause, the next step, and the exit code: 1 failed, 2 wrong
//! usage, 3 not found, 4 refused by state, 5 unreachable.

use serde_json::{Value, json};
use tonic::Code;
use weft_agent::client::ClientError;
use weft_agent::node::NodeError;
use weft_labs::{Diagnostic, LabError};

/// A command that did not do what it was asked.
#[derive(Debug, Default)]
pub struct Failure {
    /// Subject and cause.
    pub message: String,
    /// The next step.
    pub help: String,
    /// Exit code.
    pub code: u8,
    /// Mistakes of a file, with their places.
    pub diagnostics: Vec<Diagnostic>,
}

/// What commands return: the exit code.
pub type Done = Result<u8, Failure>;

impl Failure {
    /// Failed for a reason that is none of the others.
    pub fn new(message: impl ToString, help: impl ToString) -> Failure {
        Failure {
            message: message.to_string(),
            help: help.to_string(),
            code: 1,
            ..Failure::default()
        }
    }

    /// The arguments do not make sense.
    pub fn usage(message: impl ToString, help: impl ToString) -> Failure {
        Failure {
            code: 2,
            ..Failure::new(message, help)
        }
    }

    /// The state of things forbids it.
    pub fn refused(message: impl ToString, help: impl ToString) -> Failure {
        Failure {
            code: 4,
            ..Failure::new(message, help)
        }
    }

    /// Mistakes in a file.
    pub fn file(name: &str, diagnostics: Vec<Diagnostic>) -> Failure {
        let count = match diagnostics.len() {
            1 => "1 mistake".to_owned(),
            n => format!("{n} mistakes"),
        };
        Failure {
            diagnostics,
            ..Failure::usage(format!("{name}: {count}"), "correct the marked lines")
        }
    }

    /// Arguments that the command line does not have.
    pub fn arguments(error: &clap::Error) -> Failure {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // What is wrong, then a tip, the usage and where to read more.
        let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        Failure::usage(message.trim_end(), rest.trim())
    }

    /// `subject: cause`, a line `help: next step`, as all of weft writes its errors.
    fn from_text(text: &str, code: u8) -> Failure {
        let (message, help) = match text.split_once("\nhelp: ") {
            Some((message, help)) => (message, help),
            None => (text, ""),
        };
        Failure {
            code,
            ..Failure::new(message, help)
        }
    }

    /// Tells it on standard error: in words, or as one JSON object in one line.
    pub fn print(&self, json: bool) {
        if json {
            eprintln!("{}", self.json());
            return;
        }
        for diagnostic in &self.diagnostics {
            eprintln!("{:?}", miette::Report::new(diagnostic.clone()));
        }
        eprint!("{}", self.text());
    }

    fn json(&self) -> Value {
        let mut object = json!({ "error": self.message, "help": self.help, "code": self.code });
        if !self.diagnostics.is_empty() {
            let mistake = |d: &Diagnostic| {
                json!({
                    "file": d.source.name, "line": d.line, "column": d.column,
                    "error": d.message, "help": d.help,
                })
            };
            object["mistakes"] = self.diagnostics.iter().map(mistake).collect();
        }
        object
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.message.is_empty() {
            text.push_str(&format!("error: {}\n", self.message));
        }
        if !self.help.is_empty() {
            text.push_str(&format!("help: {}\n", self.help));
        }
        text
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let code = match error {
            ClientError::Target(_) => 2,
            ClientError::Unreachable { .. } => 5,
        };
        Failure::from_text(&error.to_string(), code)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Failure {
        let code = match status.code() {
            Code::InvalidArgument => 2,
            Code::NotFound => 3,
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => 4,
            Code::Unavailable | Code::DeadlineExceeded => 5,
            _ => 1,
        };
        // A command in a container that could not be executed has the exit code that a shell gives it.
        let exit = status.metadata().get("weft-exit");
        let exit = exit.and_then(|exit| exit.to_str().ok()?.parse().ok());
        let message = match (status.code(), status.message()) {
            // As generated servers answer, without a word.
            (Code::Unimplemented, "") => {
                "agent: its version of weft does not know this command yet\nhelp: use that version's command, or upgrade the node"
            }
            (code, "") => code.description(),
            (_, message) => message,
        };
        let mut failure = Failure::from_text(message, exit.unwrap_or(code));
        // Only chain files have details; anything else there is not for us.
        failure.diagnostics = serde_json::from_slice(status.details()).unwrap_or_default();
        failure
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Failure {
        Failure::from_text(&error.to_string(), 1)
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Failure {
        let mut failure = Failure::from_text(&error.to_string(), error.exit_code());
        failure.diagnostics = error.diagnostics().to_vec();
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_could_not_be_executed_keeps_its_exit_code() {
        for exit in [126_u8, 127] {
            let mut status = tonic::Status::failed_precondition("exec in red/a: x\nhelp: y");
            status
                .metadata_mut()
                .insert("weft-exit", u16::from(exit).into());
            assert_eq!(Failure::from(status).code, exit);
        }
    }

    #[test]
    fn an_agent_that_says_nothing_is_told_of_all_the_same() {
        let older = Failure::from(tonic::Status::unimplemented(""));
        assert!(older.message.contains("version") && !older.help.is_empty());
        assert!(!Failure::from(tonic::Status::aborted("")).text().is_empty());
    }

    #[test]
    fn statuses_become_exit_codes_with_message_and_help() {
        for (code, exit) in [
            (Code::InvalidArgument, 2),
            (Code::NotFound, 3),
            (Code::FailedPrecondition, 4),
            (Code::Unavailable, 5),
            (Code::Internal, 1),
        ] {
            let status = tonic::Status::new(code, "network red/x: does not exist\nhelp: make it");
            let failure = Failure::from(status);
            assert_eq!(failure.code, exit);
            assert_eq!(
                failure.text(),
                "error: network red/x: does not exist\nhelp: make it\n"
            );
        }
    }
}
