//! The service functions that come with weft, run inside containers as `weft function ...`.
//!
//! - `firewall`, `counter`: hops; `bridge` moves frames between their two interfaces, `packet` is the
//!   AF_PACKET socket under it, `wait` waits for an interface.
//! - `serve`: answers with its own name; `probe`: asks, and says what came back as one JSON line.
//! - `status`: what a hop counts, in a file that `weft function status` prints.
//! - `buffers`: room for bursts.
//! - `stop`: SIGTERM and SIGINT as a descriptor.
//!
//! Never: threads shared with tokio, state beyond the process.

mod bridge;
mod buffers;
mod counter;
pub mod firewall;
mod packet;
mod probe;
mod serve;
mod status;
mod stop;
mod wait;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use counter::CounterArgs;
pub use firewall::FirewallArgs;
pub use probe::{ProbeArgs, ProbeReport, probe};
pub use serve::ServeArgs;
pub use status::{DEFAULT_STATUS, Status};

use crate::traffic::Traffic;

/// A function and its arguments.
#[derive(Clone, Debug)]
pub enum FunctionArgs {
    /// Lets some traffic through.
    Firewall(FirewallArgs),
    /// Lets everything through and counts.
    Counter(CounterArgs),
    /// Answers.
    Serve(ServeArgs),
    /// Asks.
    Probe(ProbeArgs),
    /// Prints what a hop in this container counts.
    Status {
        /// The file it writes.
        file: PathBuf,
    },
}

/// Why a function ended.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// The interface did not appear, or is not up.
    #[error("interface {interface} is not there or not up after {waited:?}")]
    NoInterface {
        /// The interface.
        interface: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Told to stop while it waited: no failure.
    #[error("told to stop")]
    Stopped,
    /// A packet socket could not be made.
    #[error("interface {interface}: {verb}: {source}")]
    Packet {
        /// The interface.
        interface: String,
        /// What was tried.
        verb: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A port could not be served.
    #[error("serve {traffic}: {source}")]
    Serve {
        /// What was to be served.
        traffic: Traffic,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Traffic that this function cannot handle.
    #[error("{function} {traffic}: {cause}")]
    Unsuitable {
        /// The function.
        function: &'static str,
        /// The traffic.
        traffic: Traffic,
        /// Why not.
        cause: &'static str,
    },
    /// The status file.
    #[error("status file {}: {source}", file.display())]
    Status {
        /// The file.
        file: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Anything else of the system.
    #[error("{verb}: {source}")]
    System {
        /// What was tried.
        verb: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl FunctionError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::NoInterface { interface, .. } => format!(
                "give the container an entry {{ network = \"TENANT/NETWORK\", interface = \"{interface}\", hop = true }} in `networks`"
            ),
            Self::Packet { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "give the container capabilities = [\"NET_RAW\"]; by hand, run it as root".into()
            }
            Self::Packet { .. } => "`weft doctor` shows what this kernel has".into(),
            Self::Serve { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need capabilities = [\"NET_BIND_SERVICE\"]".into()
                }
                io::ErrorKind::AddrInUse => "another program of the container serves it".into(),
                _ => "look at the container's interfaces: ip address".into(),
            },
            Self::System { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "pings need the sysctl net.ipv4.ping_group_range to include this group".into()
            }
            Self::Unsuitable { .. } => crate::traffic::FORM.into(),
            Self::Status { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "no function that counts runs in this container".into()
            }
            Self::Status { .. } | Self::System { .. } | Self::Stopped => {
                "look at the container's log".into()
            }
        }
    }
}

fn system(verb: &'static str) -> impl Fn(io::Error) -> FunctionError {
    move |source| FunctionError::System { verb, source }
}

/// Runs a function until it is done or told to stop, and gives the exit code.
pub fn run(args: FunctionArgs) -> Result<i32, FunctionError> {
    match dispatch(args) {
        Err(FunctionError::Stopped) => Ok(0),
        other => other,
    }
}

fn dispatch(args: FunctionArgs) -> Result<i32, FunctionError> {
    match args {
        FunctionArgs::Firewall(args) => firewall::run(&args).map(|()| 0),
        FunctionArgs::Counter(args) => counter::run(&args).map(|()| 0),
        FunctionArgs::Serve(args) => serve::run(&args).map(|()| 0),
        FunctionArgs::Probe(args) => {
            let report = probe(&args)?;
            println!("{}", serde_json::json!(report));
            Ok(i32::from(!report.ok))
        }
        FunctionArgs::Status { file } => {
            let text = std::fs::read_to_string(&file);
            let text = text.map_err(|source| FunctionError::Status { file, source })?;
            println!("{}", text.trim());
            Ok(0)
        }
    }
}

/// This host's name, as answers give it.
fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The address that listens on everything of the other's family.
fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}
