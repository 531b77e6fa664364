//! A lab that is brought up for a benchmark and removed at its end.
//!
//! Owns: its name and its files. What it measures goes into nodes by their network namespaces, not through their agents.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, bail};
use serde_json::Value;
use weft_labs::relay::Client;
use weft_overlay::netns;

/// A lab that is up.
pub struct Cluster {
    weft: PathBuf,
    name: String,
    folder: PathBuf,
    holders: Vec<(String, u32)>,
}

impl Cluster {
    /// Brings up the lab of a file's text.
    pub fn up(weft: &Path, source: &str) -> anyhow::Result<Cluster> {
        let name = format!("bench-{}", std::process::id());
        let file = std::env::temp_dir().join(format!("{name}.toml"));
        std::fs::write(&file, source).context("write the lab's file")?;
        let path = file.to_string_lossy();
        let output = run(weft, &["lab", "up", &path, "--name", &name]);
        // The lab has a copy.
        std::fs::remove_file(&file).context("remove the lab's file")?;
        output?;
        let mut cluster = Cluster {
            weft: weft.to_owned(),
            folder: Path::new(weft_labs::DEFAULT_ROOT).join(&name),
            name,
            holders: Vec::new(),
        };
        let said = run(weft, &["lab", "inspect", &cluster.name, "--json"])?;
        let found: Value = serde_json::from_slice(&said.stdout).context("what inspect says")?;
        let nodes = found["nodes"].as_array().into_iter().flatten();
        cluster.holders = nodes
            .filter_map(|node| {
                let holder = u32::try_from(node["holder"].as_u64()?).ok()?;
                Some((node["node"].as_str()?.to_owned(), holder))
            })
            .collect();
        Ok(cluster)
    }

    /// The network namespace of a node.
    pub fn netns(&self, node: &str) -> anyhow::Result<OwnedFd> {
        let holder = self.holders.iter().find(|(name, _)| name == node);
        let (_, holder) = holder.with_context(|| format!("the lab has no node {node}"))?;
        Ok(netns::of_pid(*holder)?)
    }

    /// The address of the node with this number, from 1.
    pub fn address(&self, number: u8) -> IpAddr {
        [192, 0, 2, 10 + number].into()
    }

    /// Runs a program on a node; what it printed, or why it failed.
    pub fn exec(&self, node: &str, line: &[&str]) -> anyhow::Result<Output> {
        let words = [&["lab", "exec", &self.name, node, "--"], line].concat();
        run(&self.weft, &words)
    }

    /// Runs a program on a node that says itself what it has to say; whether it ended well.
    pub fn show(&self, node: &str, line: &[&str]) -> anyhow::Result<bool> {
        let words = [&["lab", "exec", &self.name, node, "--"], line].concat();
        let mut command = Command::new(&self.weft);
        let status = command.args(words).status();
        Ok(status
            .with_context(|| format!("start {}", self.weft.display()))?
            .success())
    }

    /// Puts a file of this machine onto a node.
    pub fn copy(&self, file: &Path, node: &str, to: &str) -> anyhow::Result<()> {
        let to = format!("{node}:{to}");
        run(
            &self.weft,
            &["lab", "cp", &self.name, &file.to_string_lossy(), &to],
        )?;
        Ok(())
    }

    /// Runs weft's client on a node's agent.
    pub fn ask(&self, node: &str, line: &[&str]) -> anyhow::Result<Output> {
        let socket = format!(
            "unix:{}",
            self.folder.join(node).join("weft.sock").display()
        );
        run(&self.weft, &[&["--host", &socket], line].concat())
    }

    /// The network namespace of a container.
    pub fn container(&self, name: &str) -> anyhow::Result<OwnedFd> {
        let said = self.exec(name, &["readlink", "/proc/self/ns/net"])?;
        let wanted = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let file = entry.path().join("ns/net");
            // A process may end while it is looked at.
            if std::fs::read_link(&file).is_ok_and(|link| link.to_string_lossy() == wanted) {
                return Ok(netns::open(&file)?);
            }
        }
        bail!("no process is in the network namespace of {name}")
    }

    /// The lab's relay, to be asked.
    pub fn relay(&self) -> anyhow::Result<Client> {
        Client::connect(&self.folder.join("_underlay/control.sock"))
            .map_err(|e| anyhow::anyhow!("{e}"))
    }

    /// The process of the lab's relay.
    pub fn relay_process(&self) -> anyhow::Result<i32> {
        let journal = std::fs::read_to_string(self.folder.join("journal"))?;
        let lines = journal.lines();
        let entries = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut started = entries.filter(|entry| entry["kind"] == "started");
        let relay = started.find(|entry| entry["node"] == "(relay)");
        let pid = relay.and_then(|entry| i32::try_from(entry["pid"].as_i64()?).ok());
        pid.context("the lab has no relay")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = run(&self.weft, &["lab", "down", &self.name]) {
            eprintln!("{error:#}");
        }
    }
}

fn run(weft: &Path, words: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(weft)
        .args(words)
        .output()
        .with_context(|| format!("start {}", weft.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("weft {}: {}", words.join(" "), said.trim());
    }
    Ok(output)
}
