//! One member of the store.

pub mod config;

pub use config::{Config, InitialClusterState, parse_initial_cluster};

/// Why a member could not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error("store configuration: {0}")]
    Config(String),
}

/// A running member.
pub struct Server {}

impl Server {
    /// Starts the member; returns once it serves (a cluster without a quorum serves, and says that it has no leader).
    pub async fn start(config: Config) -> Result<Server, Error> {
        let _ = config;
        unimplemented!()
    }
    /// Waits until a leader is known and this member has recovered its state.
    pub async fn wait_ready(&self, timeout: std::time::Duration) -> Result<(), Error> {
        let _ = timeout;
        unimplemented!()
    }
    /// Stops serving and closes the files.
    pub async fn shutdown(self) -> Result<(), Error> {
        unimplemented!()
    }
}
