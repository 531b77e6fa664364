//! Errors as gRPC statuses: "subject: cause", and on a second line "help: next step".

use tonic::{Code, Status};
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
