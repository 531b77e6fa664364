//! Errors as gRPC statuses: "subject: cause", and on a second line "help: next step".

use tonic::{Code, Status};
use weft_overlay::ContainerRef;
use weft_runtime::Error as RuntimeError;
use weft_store::client::Error as StoreError;

use crate::plan::desired::{Refusal, RefusalKind};

/// A status with the form that the API promises.
pub fn fault(
    code: Code,
    subject: impl std::fmt::Display,
    cause: impl std::fmt::Display,
    help: &str,
) -> Status {
    Status::new(code, format!("{subject}: {cause}\nhelp: {help}"))
}

/// Name in a status's metadata of the exit code that a command in a container is to be given.
pub const EXIT: &str = "weft-exit";

/// Why a command did not run in a container: with the exit code of a shell where it could not be executed.
pub fn exec(container: &ContainerRef, error: &RuntimeError) -> Status {
    let code = match error {
        RuntimeError::Config { .. } => Code::InvalidArgument,
        RuntimeError::NotFound { .. } => Code::NotFound,
        RuntimeError::WrongState { .. } | RuntimeError::Command { .. } => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    // These name the container by the runtime's own word for it.
    let cause = match error {
        RuntimeError::Config { cause, .. }
        | RuntimeError::Command { cause, .. }
        | RuntimeError::Shim { cause, .. } => cause.clone(),
        other => other.to_string(),
    };
    let mut status = fault(code, format!("exec in {container}"), cause, error.help());
    if let RuntimeError::Command { exit, .. } = error {
        status.metadata_mut().insert(EXIT, (*exit).into());
    }
    status
}

/// A refusal as status.
pub fn refused(refusal: Refusal) -> Status {
    let code = match refusal.kind {
        RefusalKind::Invalid => Code::InvalidArgument,
        RefusalKind::NotFound => Code::NotFound,
        RefusalKind::State => Code::FailedPrecondition,
    };
    let text = refusal.to_string();
    match refusal.details.is_empty() {
        true => Status::new(code, text),
        false => Status::with_details(code, text, refusal.details.into()),
    }
}

/// An error of the store as status.
pub fn store(error: &StoreError) -> Status {
    match error {
        StoreError::UnknownOutcome { .. } => fault(
            Code::Unavailable,
            "store",
            error,
            "it may have been done: look, and do it again if not",
        ),
        StoreError::Refused { .. } | StoreError::Protocol { .. } => {
            fault(Code::Internal, "store", error, "`weft status` says more")
        }
        _ => unreachable_store(&error.to_string()),
    }
}

/// The store does not answer.
pub fn unreachable_store(cause: &str) -> Status {
    fault(
        Code::Unavailable,
        "store",
        cause,
        "nothing was changed and everything runs on; check that a majority of the members is up (`weft status`)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_run_has_a_shells_exit_code_and_other_causes_have_none() {
        let container: ContainerRef = "red/a".parse().unwrap();
        let id = || "red.a".to_owned();
        for exit in [126, 127] {
            let error = RuntimeError::Command {
                id: id(),
                cause: "command \"x\" is not found".to_owned(),
                exit,
            };
            let status = exec(&container, &error);
            let said = status.metadata().get(EXIT).unwrap().to_str().unwrap();
            assert_eq!(said, exit.to_string());
            let first = "exec in red/a: command \"x\" is not found\nhelp: ";
            assert!(status.message().starts_with(first), "{status}");
        }
        let cause = || "x".to_owned();
        for (error, code) in [
            (RuntimeError::NotFound { id: id() }, Code::NotFound),
            (
                RuntimeError::Config {
                    id: id(),
                    cause: cause(),
                },
                Code::InvalidArgument,
            ),
            (
                RuntimeError::Shim {
                    id: id(),
                    cause: cause(),
                },
                Code::Internal,
            ),
        ] {
            let status = exec(&container, &error);
            assert_eq!(status.code(), code);
            assert!(status.metadata().get(EXIT).is_none());
        }
    }
}
