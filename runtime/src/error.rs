//! What can go wrong with containers: each names the container, the cause and, by `help`, the next step.

use std::io;
use std::path::PathBuf;

/// Why the runtime could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name that a container can have.
    #[error(
        "container name {id:?} is not valid: use 1 to 200 of A-Z, a-z, 0-9, '.', '_' and '-', not '.' first"
    )]
    Id {
        /// What was given.
        id: String,
    },
    /// An image that this runtime does not have.
    #[error(
        "container {id}: image {image:?} is not there; the image that works is `host`, this machine's own root read-only"
    )]
    Image {
        /// The container.
        id: String,
        /// What was asked for.
        image: String,
    },
    /// A configuration that contradicts itself.
    #[error("container {id}: {cause}")]
    Config {
        /// The container.
        id: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A capability that does not exist.
    #[error(
        "container {id}: there is no capability {name:?}; names are written without CAP_, e.g. NET_RAW"
    )]
    UnknownCapability {
        /// The container.
        id: String,
        /// What was asked for.
        name: String,
    },
    /// A capability that no container may have here.
    #[error("container {id}: capability {name} is refused: {cause}")]
    RefusedCapability {
        /// The container.
        id: String,
        /// What was asked for.
        name: String,
        /// Why it is not given.
        cause: &'static str,
    },
    /// A limit that no cgroup hierarchy of this machine can hold.
    #[error(
        "container {id}: its limit of {limit} cannot be held: no cgroup hierarchy here has the {controller} controller"
    )]
    Limit {
        /// The container.
        id: String,
        /// `cpus`, `memory` or `pids`.
        limit: &'static str,
        /// The controller that is missing.
        controller: &'static str,
    },
    /// A container of this name is already here.
    #[error("container {id} is already here")]
    Exists {
        /// The container.
        id: String,
    },
    /// No container of this name is here.
    #[error("container {id} is not here")]
    NotFound {
        /// The container.
        id: String,
    },
    /// It is in another state than the request needs.
    #[error("container {id} is {state}, so it cannot {verb}")]
    WrongState {
        /// The container.
        id: String,
        /// `created`, `running`, `exited`.
        state: String,
        /// What was asked for.
        verb: String,
    },
    /// A command that could not be executed.
    #[error("container {id}: {cause}")]
    Command {
        /// The container.
        id: String,
        /// The command and why not.
        cause: String,
        /// What a shell exits with for it: 127 when it is not there, 126 when it cannot be executed.
        exit: i32,
    },
    /// A step of making or controlling the container failed inside its shim.
    #[error("container {id}: {cause}")]
    Shim {
        /// The container.
        id: String,
        /// The step and why it failed.
        cause: String,
    },
    /// The shim of a container answers no more.
    #[error("container {id}: its shim does not answer: {source}")]
    Silent {
        /// The container.
        id: String,
        /// What the connection said.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("container {id} did not end within {seconds:.1} s")]
    Deadline {
        /// The container.
        id: String,
        /// How long was waited, seconds.
        seconds: f64,
    },
    /// A file or folder of the runtime.
    #[error("cannot {verb} {}: {source}", path.display())]
    Io {
        /// What was being done.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// What a person does next.
    pub fn help(&self) -> &'static str {
        match self {
            Error::Id { .. } | Error::Config { .. } => {
                "correct the container's table and apply it again"
            }
            Error::Image { .. } => "write image = \"host\"",
            Error::UnknownCapability { .. } | Error::RefusedCapability { .. } => {
                "take it out of `capabilities`, or use one that containers may have: NET_RAW, NET_ADMIN, NET_BIND_SERVICE, ..."
            }
            Error::Limit { .. } => {
                "enable the controller on the kernel's command line, or take the limit away"
            }
            Error::Exists { .. } => "remove it first, or choose another name",
            Error::NotFound { .. } => "`weft ps` lists what is here",
            Error::WrongState { .. } => "`weft ps` shows its state",
            Error::Command { .. } => {
                "check the command's path: a container sees this machine's root, but empty /run, /var, /root, /home and /tmp"
            }
            Error::Shim { .. } => "`weft doctor` checks what containers need of this machine",
            Error::Silent { .. } => "remove the container; its processes are ended with it",
            Error::Deadline { .. } => "look at what its processes wait for, then remove it",
            Error::Io { .. } => {
                "check the permissions and the space of that path; containers need root"
            }
        }
    }

    pub(crate) fn io(
        verb: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { verb, path, source }
    }
}
