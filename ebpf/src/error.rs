//! What can go wrong between this crate and the kernel.

use std::io;
use std::path::PathBuf;

/// An error of the datapath: what was being done to what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error("bpffs at {path}: {action} failed")]
    Bpffs {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("BPF object: loading failed")]
    Load(#[source] Box<aya::EbpfError>),
    #[error("BPF program {program}: {action} failed")]
    Program {
        program: &'static str,
        action: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("BPF program {program}: {action} failed")]
    Pin {
        program: String,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("interface {ifindex}: {action} failed")]
    Interface {
        ifindex: u32,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("interface {ifindex}: {action} failed")]
    Link {
        ifindex: u32,
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("BPF map {map}: {action} failed")]
    Map {
        map: &'static str,
        action: &'static str,
        #[source]
        source: Box<aya::maps::MapError>,
    },
    #[error("BPF events: reading failed")]
    Events(#[source] io::Error),
    #[error("BPF object: it holds no {kind} {name:?}; rebuild it by `cargo xtask bpf`")]
    Missing {
        kind: &'static str,
        name: &'static str,
    },
}

impl Error {
    /// What a person can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Error::Bpffs { .. } => "mount bpffs: mount -t bpf bpf /sys/fs/bpf (needs root)",
            Error::Load(_) | Error::Program { .. } => {
                "run as root on Linux 6.1 or newer; `weft doctor` says which BPF features are missing"
            }
            Error::Map { .. } => "if a map is full, raise its capacity; else see `weft doctor`",
            Error::Interface { .. } | Error::Link { .. } => {
                "the interface may be gone; the next pass looks again"
            }
            Error::Pin { .. } | Error::Events(_) | Error::Missing { .. } => {
                "see the node's log, and `weft doctor`"
            }
        }
    }
}
