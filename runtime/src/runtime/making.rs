//! The making of a container as its caller sees it: checks, a folder, a shim. What the shim then does is `launch`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::{Runtime, reply_status};
use crate::capability;
use crate::cgroup;
use crate::client::Client;
use crate::config::{ContainerConfig, Created};
use crate::error::Error;
use crate::features;
use crate::private;
use crate::protocol::{Bundle, CONFIG, DIAGNOSTICS, Reply, STATE, VERSION};

/// A folder without a state that is older belongs to a making that was cut short.
const UNFINISHED: Duration = Duration::from_secs(60);

impl Runtime {
    /// Makes a container up to its start: its process waits, its network namespace can be filled.
    pub fn create(&self, config: &ContainerConfig) -> Result<Created, Error> {
        config.check()?;
        cgroup::check(&config.id, &config.resources, &self.hierarchies)?;
        let id = &config.id;
        let bundle = Bundle {
            version: VERSION,
            container: config.clone(),
            cgroup_parent: self.config.cgroup_parent.trim_matches('/').to_owned(),
            log: self.logs_path(id),
            exe: self.config.weft_exe.clone(),
            hide: self.hidden(),
            capabilities: capability::mask(id, &config.capabilities, self.user_namespaces)?,
            users: self.user_namespaces.then(|| features::first_user(id)),
        };
        let dir = self.dir(id);
        self.reserve(id, &dir)?;
        match self.make(&dir, &bundle) {
            Ok(created) => Ok(created),
            Err(error) => {
                let _ = fs::remove_dir_all(&dir);
                Err(error)
            }
        }
    }

    fn make(&self, dir: &Path, bundle: &Bundle) -> Result<Created, Error> {
        let id = &bundle.container.id;
        let logs = self.logs_dir(id);
        private::folders(&logs).map_err(Error::io("make", &logs))?;
        let path = dir.join(CONFIG);
        let text = serde_json::to_vec(bundle).map_err(|e| Error::Config {
            id: id.clone(),
            cause: e.to_string(),
        })?;
        private::write(&path, &text).map_err(Error::io("write", &path))?;
        let reply = self.spawn(dir, id)?;
        let status = reply_status(id, "be made", reply)?;
        let path = PathBuf::from(format!("/proc/{}/ns/net", status.pid));
        let netns = File::open(&path).map_err(Error::io("open", &path))?;
        Ok(Created {
            pid: status.pid,
            netns: netns.into(),
        })
    }

    fn spawn(&self, dir: &Path, id: &str) -> Result<Reply, Error> {
        let path = dir.join(DIAGNOSTICS);
        let diagnostics = private::file(&path).map_err(Error::io("make", &path))?;
        let exe = &self.config.weft_exe;
        let mut child = Command::new(exe)
            .args(["shim".as_ref(), "--dir".as_ref(), dir.as_os_str()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(diagnostics)
            .spawn()
            .map_err(Error::io("run", exe))?;
        let mut text = String::new();
        let read = child
            .stdout
            .take()
            // One line, not to the end: what the shim makes may hold the pipe for longer.
            .map_or(Ok(0), |out| BufReader::new(out).read_line(&mut text));
        child.wait().and(read).map_err(Error::io("run", exe))?;
        serde_json::from_str(&text).map_err(|_| {
            let said = fs::read_to_string(dir.join(DIAGNOSTICS)).unwrap_or_default();
            Error::Shim {
                id: id.to_owned(),
                cause: format!("its shim ended without a word; it wrote: {:?}", said.trim()),
            }
        })
    }

    /// Makes the container's folder, which is its name's reservation.
    fn reserve(&self, id: &str, dir: &Path) -> Result<(), Error> {
        match private::new_folder(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_unfinished(dir) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists { id: id.to_owned() })
            }
            other => other.map_err(Error::io("make", dir)),
        }
    }

    fn hidden(&self) -> Vec<PathBuf> {
        let own = [&self.config.state_dir, &self.config.run_dir];
        let mut hide: Vec<PathBuf> = self.config.hide.iter().chain(own).cloned().collect();
        hide.sort();
        hide.dedup();
        // What lies below a hidden folder is hidden with it.
        let all = hide.clone();
        hide.retain(|path| {
            !all.iter()
                .any(|other| other != path && path.starts_with(other))
        });
        hide
    }
}

fn is_unfinished(dir: &Path) -> bool {
    let old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > UNFINISHED);
    !dir.join(STATE).exists()
        && Client::connect(dir).is_err()
        && fs::metadata(dir).and_then(|m| m.modified()).is_ok_and(old)
        && fs::remove_dir_all(dir)
            .and_then(|()| private::new_folder(dir))
            .is_ok()
}
