//! What callers hand to the runtime and what they get back. Plain data and its checks; nothing here acts.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_overlay::documents::Resources;

use crate::error::Error;

/// Where a runtime keeps its things.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Logs: `<state_dir>/containers/<id>/log`.
    pub state_dir: PathBuf,
    /// Shims and their sockets: `<run_dir>/containers/<id>/`.
    pub run_dir: PathBuf,
    /// Parent of the containers' cgroups, relative to the root of each hierarchy, e.g. `weft/n1`.
    pub cgroup_parent: String,
    /// The program that answers to `shim --dir DIR`; containers find it at `/.weft`.
    pub weft_exe: PathBuf,
    /// Paths of the host that no container may see. `state_dir` and `run_dir` are always hidden.
    pub hide: Vec<PathBuf>,
}

/// A container to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerConfig {
    /// Its name here, unique: 1 to 200 of `A-Za-z0-9._-`, not beginning with a dot.
    pub id: String,
    /// What it calls itself.
    pub hostname: String,
    /// `host`: the machine's own root file system, read-only.
    pub image: String,
    /// What it runs, as its process 1. A name without `/` is looked up in its `PATH`.
    pub command: Vec<String>,
    /// Environment beside `PATH`, `HOME`, `HOSTNAME`, which it may override.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Capabilities it keeps beyond none, without `CAP_`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Limits.
    #[serde(default)]
    pub resources: Resources,
}

/// A container that was made and waits for its start.
#[derive(Debug)]
pub struct Created {
    /// Its process 1, as seen from here.
    pub pid: u32,
    /// Its network namespace.
    pub netns: OwnedFd,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made; its command waits for the start.
    Created,
    /// Its command runs.
    Running,
    /// Its command ended.
    Exited {
        /// Exit code, or 128 + signal. 137 also where the shim itself was killed.
        code: i32,
    },
}

/// A container that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its name.
    pub id: String,
    /// Its process 1, as seen from here; of no use once it has exited.
    pub pid: u32,
    /// Where it is in its life.
    pub state: State,
    /// Its network namespace, while it lives.
    pub netns: PathBuf,
    /// Its root is an unprivileged user of the host.
    pub user_namespace: bool,
}

impl ContainerConfig {
    /// Refuses what could never be made, before anything is touched.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_id(&self.id)?;
        let bad = |cause: &str| {
            Err(Error::Config {
                id: self.id.clone(),
                cause: cause.to_owned(),
            })
        };
        if self.image != "host" {
            return Err(Error::Image {
                id: self.id.clone(),
                image: self.image.clone(),
            });
        }
        if self.command.first().is_none_or(String::is_empty) {
            return bad("it has no command");
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return bad("its command has a zero byte in it");
        }
        if self
            .env
            .iter()
            .any(|(k, v)| k.is_empty() || k.contains(['=', '\0']) || v.contains('\0'))
        {
            return bad("its environment has an empty name, a '=' in a name, or a zero byte");
        }
        if !matches!(self.hostname.len(), 1..=64) || self.hostname.contains(['\0', '\n', ' ']) {
            return bad("its host name must have 1 to 64 characters and no spaces");
        }
        if self
            .resources
            .cpus
            .is_some_and(|cpus| !(0.01..=100_000.0).contains(&cpus))
        {
            return bad("`cpus` must be at least 0.01");
        }
        if self.resources.memory.is_some_and(|bytes| bytes < 4 << 20) {
            return bad("`memory` must be at least 4 MiB: less does not even hold its program");
        }
        if self.resources.pids == Some(0) {
            return bad("`pids` must be at least 1");
        }
        Ok(())
    }
}

/// Names become folders and cgroups, so they are held to what both take.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let good = matches!(id.len(), 1..=200)
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good {
        Ok(())
    } else {
        Err(Error::Id { id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ContainerConfig {
        ContainerConfig {
            id: "red.web1".to_owned(),
            hostname: "web1".to_owned(),
            image: "host".to_owned(),
            command: vec!["true".to_owned()],
            env: BTreeMap::new(),
            capabilities: vec![],
            resources: Resources::default(),
        }
    }

    #[test]
    fn a_plain_container_passes() {
        config().check().unwrap();
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let cases: [fn(&mut ContainerConfig); 8] = [
            |c| c.command.clear(),
            |c| c.command = vec!["a\0b".to_owned()],
            |c| c.hostname.clear(),
            |c| c.resources.cpus = Some(0.0),
            |c| c.resources.cpus = Some(f64::NAN),
            |c| c.resources.memory = Some(4096),
            |c| c.resources.pids = Some(0),
            |c| c.env = BTreeMap::from([("A=B".to_owned(), String::new())]),
        ];
        for change in cases {
            let mut config = config();
            change(&mut config);
            assert!(
                matches!(config.check(), Err(Error::Config { .. })),
                "{config:?}"
            );
        }
        for id in ["", "..", ".x", "a/b", "a b"] {
            assert!(matches!(check_id(id), Err(Error::Id { .. })), "{id:?}");
        }
    }

    #[test]
    fn other_images_are_named_in_the_refusal() {
        let config = ContainerConfig {
            image: "oci:/srv/web".to_owned(),
            ..config()
        };
        let error = config.check().unwrap_err();
        assert!(matches!(&error, Error::Image { image, .. } if image == "oci:/srv/web"));
        assert!(error.to_string().contains("`host`"), "{error}");
    }
}
