//! What the agent calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::config::{ContainerConfig, Created, Observed, RuntimeConfig};
use crate::error::Error;
use crate::exec::ExecHandle;

/// Containers of one node. Cheap; all truth is with the shims.
#[derive(Clone, Debug)]
pub struct Runtime {
    config: RuntimeConfig,
}

#[allow(unused_variables, clippy::unimplemented, reason = "signatures first")]
impl Runtime {
    /// Opens the folders; containers that run already are found by `list`.
    pub fn open(config: RuntimeConfig) -> Result<Runtime, Error> {
        Ok(Runtime { config })
    }
    /// Makes a container up to its start.
    pub fn create(&self, config: &ContainerConfig) -> Result<Created, Error> {
        unimplemented!()
    }
    /// Lets its command run.
    pub fn start(&self, id: &str) -> Result<(), Error> {
        unimplemented!()
    }
    /// Sends a signal to its process 1; nothing happens where that has ended.
    pub fn signal(&self, id: &str, signal: Signal) -> Result<(), Error> {
        unimplemented!()
    }
    /// TERM, and KILL after the grace; returns the exit code. Blocks.
    pub fn stop(&self, id: &str, grace: Duration) -> Result<i32, Error> {
        unimplemented!()
    }
    /// Waits until its command has ended; blocks up to `timeout`.
    pub fn wait_exit(&self, id: &str, timeout: Duration) -> Result<i32, Error> {
        unimplemented!()
    }
    /// Ends what still runs of it and takes all of it away, its log too.
    pub fn delete(&self, id: &str) -> Result<(), Error> {
        unimplemented!()
    }
    /// What is here, by name.
    pub fn list(&self) -> Result<Vec<Observed>, Error> {
        unimplemented!()
    }
    /// Runs a command beside the container's own.
    pub async fn exec(
        &self,
        id: &str,
        command: &[String],
        env: &BTreeMap<String, String>,
    ) -> Result<ExecHandle, Error> {
        unimplemented!()
    }
    /// Its output; `<this>.1` is what came before, when it grew over its limit.
    pub fn logs_path(&self, id: &str) -> PathBuf {
        self.config
            .state_dir
            .join("containers")
            .join(id)
            .join("log")
    }
}
