//! What can go wrong between asking for a link and having it.

use std::io;

use crate::netns::NetnsError;

use super::LinkKind;

/// A verb that failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel refused.
    #[error("{verb} {link}: {source}")]
    Refused {
        /// What was tried.
        verb: &'static str,
        /// On which link (and, of it, what).
        link: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// There is no such link.
    #[error("{verb} {link}: there is no such link")]
    Missing {
        /// What was tried.
        verb: &'static str,
        /// Which link.
        link: String,
    },
    /// Something else has the name.
    #[error(
        "{verb} {link}: a link of that name exists, but it is a {found:?} and not a {wanted:?}"
    )]
    Kind {
        /// What was tried.
        verb: &'static str,
        /// Which link.
        link: String,
        /// What it is.
        found: LinkKind,
        /// What it should be.
        wanted: LinkKind,
    },
    /// The caller did not say where the other end goes.
    #[error("create veth {link}: the namespace of its other end is gone")]
    NoPeer {
        /// Which link.
        link: String,
    },
    /// A sysctl could not be written.
    #[error("write {value} to {path}: {source}")]
    Sysctl {
        /// Its file.
        path: String,
        /// What was to be written.
        value: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No netlink socket.
    #[error("open a netlink socket: {source}")]
    Socket {
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Called outside a tokio runtime.
    #[error("open a netlink socket: no tokio runtime is running on this thread")]
    NoRuntime,
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl LinkError {
    /// What to do about it.
    pub fn help(&self) -> String {
        let denied = |e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::Refused { source, .. } | Self::Socket { source } if denied(source) => {
                "run as root (CAP_NET_ADMIN is needed)".into()
            }
            Self::Refused { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                "this kernel lacks that kind of device: `weft doctor` shows what is missing".into()
            }
            Self::Refused { source, .. } if source.raw_os_error() == Some(libc::EADDRINUSE) => {
                "another VXLAN device or program has that UDP port: choose another with --vxlan-port".into()
            }
            Self::Kind { link, .. } => format!("rename or delete the link {link}, which weft did not make"),
            Self::Missing { .. } | Self::NoPeer { .. } => "it went away meanwhile; it is looked at again in the next pass".into(),
            Self::Sysctl { .. } => "is /proc/sys mounted and writable?".into(),
            Self::Netns(error) => error.help(),
            _ => "`weft doctor` shows what this kernel has".into(),
        }
    }

    /// Makes the crate's error ours: its netlink messages are nobody else's business.
    pub(super) fn refused(
        verb: &'static str,
        link: impl ToString,
        error: rtnetlink::Error,
    ) -> LinkError {
        LinkError::Refused {
            verb,
            link: link.to_string(),
            source: io_error(error),
        }
    }
}

/// The kernel's error number, where there is one.
pub(super) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// Whether the kernel said that there is no such thing (already gone is as good as deleted).
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL)
    )
}
