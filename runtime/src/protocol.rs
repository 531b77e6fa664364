//! What the runtime and a shim say to each other: one JSON line each way, with a version. A runtime must go on
//! understanding the shims of earlier versions, so fields are only ever added. Also the shim's files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{ContainerConfig, State};
use crate::failure::Failure;
use crate::features;

/// The version that this program speaks.
pub(crate) const VERSION: u32 = 1;
/// Names in a shim's folder.
pub(crate) const SOCKET: &str = "shim.sock";
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const STATE: &str = "state.json";
pub(crate) const PID: &str = "shim.pid";
pub(crate) const DIAGNOSTICS: &str = "shim.log";
pub(crate) const STAGE: &str = "root";
/// Longest line: commands and environments are limited by the kernel to about this.
pub(crate) const LINE: usize = 4 << 20;

/// `config.json`: all that a shim needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub version: u32,
    pub container: ContainerConfig,
    pub cgroup_parent: String,
    pub log: PathBuf,
    pub exe: PathBuf,
    pub hide: Vec<PathBuf>,
    pub capabilities: u64,
    /// First host number of the container's 65536 users; none: no user namespace.
    pub users: Option<u32>,
}

impl Bundle {
    /// The host's number for the user that the container's processes are: never root, with or without a namespace.
    pub(crate) fn owner(&self) -> u32 {
        self.users
            .unwrap_or_else(|| features::first_user(&self.container.id))
    }

    /// The same user as its own namespace numbers it.
    pub(crate) fn user(&self) -> u32 {
        self.users.map_or_else(|| self.owner(), |_| 0)
    }
}

/// `state.json`, and the answer to every request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub version: u32,
    pub id: String,
    pub pid: u32,
    pub state: State,
    pub user_namespace: bool,
    pub cgroups: Vec<PathBuf>,
}

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub version: u32,
    #[serde(flatten)]
    pub verb: Verb,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub(crate) enum Verb {
    /// How it is.
    State,
    /// Let the command run.
    Start,
    /// A signal for process 1.
    Signal { signal: i32 },
    /// Answered when process 1 has ended.
    Wait,
    /// A command, with its three streams as descriptors. Answered twice: when it runs, when it has ended.
    Exec {
        command: Vec<String>,
        env: BTreeMap<String, String>,
    },
    /// End everything, remove the cgroups, answer, and go.
    Shutdown,
}

/// An answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The end of an exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Reply {
    pub(crate) fn status(status: Status) -> Reply {
        Reply {
            version: VERSION,
            status: Some(status),
            ..Reply::default()
        }
    }
    pub(crate) fn exit(code: i32) -> Reply {
        Reply {
            version: VERSION,
            exit: Some(code),
            ..Reply::default()
        }
    }
    pub(crate) fn failure(failure: Failure) -> Reply {
        Reply {
            version: VERSION,
            failure: Some(failure),
            ..Reply::default()
        }
    }
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_flat_object() {
        let request = Request {
            version: VERSION,
            verb: Verb::Signal { signal: 15 },
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"version":1,"op":"signal","signal":15}"#);
        assert!(matches!(
            serde_json::from_str::<Request>(&text).unwrap().verb,
            Verb::Signal { signal: 15 }
        ));
    }

    #[test]
    fn answers_of_later_versions_are_understood() {
        let reply: Reply = serde_json::from_str(r#"{"version":2,"exit":3,"news":true}"#).unwrap();
        assert_eq!(reply.exit, Some(3));
    }
}
