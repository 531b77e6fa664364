//! What the tests of real containers share: a runtime in folders of its own, checks of privileges, a deadline.
//! Not a test by itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_overlay::documents::Resources;
use weft_runtime::{ContainerConfig, Runtime, RuntimeConfig, State};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A runtime of one test; what it leaves is ended when it goes.
pub(crate) struct Place {
    pub(crate) runtime: Runtime,
    pub(crate) config: RuntimeConfig,
    pub(crate) root: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Place {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make real containers: run them as root"
        );
        let name = format!(
            "weft-runtime-{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        // Not below /tmp or /run, which containers never see: what hides it is under test.
        let root = PathBuf::from("/srv").join(&name);
        fs::create_dir_all(root.join("secret")).unwrap();
        fs::write(root.join("secret/key"), "secret").unwrap();
        fs::write(root.join("secret-file"), "secret").unwrap();
        let config = RuntimeConfig {
            state_dir: root.join("state"),
            run_dir: root.join("run"),
            cgroup_parent: name,
            weft_exe: shim(),
            hide: vec![root.join("secret"), root.join("secret-file")],
        };
        Place {
            runtime: Runtime::open(config.clone()).unwrap(),
            config,
            root,
        }
    }

    pub(crate) fn started(&self, id: &str, command: &[&str]) -> u32 {
        self.runtime.create(&container(id, command)).unwrap();
        self.runtime.start(id).unwrap();
        self.runtime
            .list()
            .unwrap()
            .into_iter()
            .find(|o| o.id == id)
            .unwrap()
            .pid
    }

    pub(crate) fn state(&self, id: &str) -> Option<State> {
        self.runtime
            .list()
            .unwrap()
            .into_iter()
            .find(|o| o.id == id)
            .map(|o| o.state)
    }

    /// Runs to the end and gives exit code and log.
    pub(crate) fn output(&self, config: &ContainerConfig) -> (i32, String) {
        self.runtime.create(config).unwrap();
        self.runtime.start(&config.id).unwrap();
        let code = self
            .runtime
            .wait_exit(&config.id, Duration::from_secs(20))
            .unwrap();
        let log = fs::read_to_string(self.runtime.logs_path(&config.id)).unwrap();
        self.runtime.delete(&config.id).unwrap();
        (code, log)
    }

    pub(crate) fn shim_pid(&self, id: &str) -> i32 {
        let path = self
            .config
            .run_dir
            .join("containers")
            .join(id)
            .join("shim.pid");
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// Every cgroup folder of this place.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            if line.contains(" - cgroup") {
                let dir =
                    Path::new(line.split(' ').nth(4).unwrap()).join(&self.config.cgroup_parent);
                found.extend(dir.exists().then_some(dir));
            }
        }
        found
    }

    pub(crate) async fn exec(
        &self,
        id: &str,
        command: &[&str],
        input: &str,
    ) -> (i32, String, String) {
        let command: Vec<String> = command.iter().map(|w| (*w).to_owned()).collect();
        let mut handle = self
            .runtime
            .exec(id, &command, &BTreeMap::new())
            .await
            .unwrap();
        handle.stdin.write_all(input.as_bytes()).await.unwrap();
        drop(handle.stdin);
        let (mut out, mut err) = (String::new(), String::new());
        handle.stdout.read_to_string(&mut out).await.unwrap();
        handle.stderr.read_to_string(&mut err).await.unwrap();
        (handle.exit.await.unwrap(), out, err)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for one in self.runtime.list().unwrap_or_default() {
            let _ = self.runtime.delete(&one.id);
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The example of this crate, which cargo builds for `cargo test -p weft-runtime`.
fn shim() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples/shim");
    assert!(
        path.exists(),
        "{} is missing: build it by `cargo build -p weft-runtime --examples`",
        path.display()
    );
    path
}

pub(crate) fn container(id: &str, command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        id: id.to_owned(),
        hostname: "box".to_owned(),
        image: "host".to_owned(),
        command: command.iter().map(|w| (*w).to_owned()).collect(),
        env: BTreeMap::new(),
        capabilities: vec![],
        resources: Resources::default(),
    }
}

pub(crate) fn sh(id: &str, script: &str) -> ContainerConfig {
    container(id, &["/bin/sh", "-c", script])
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn alive(pid: u32) -> bool {
    // A zombie has no root.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}
