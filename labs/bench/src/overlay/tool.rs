//! Programs and settings inside a network namespace.

use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context, bail};
use weft_overlay::netns::run_in_netns;

/// `ip` with these words.
pub fn ip(netns: &OwnedFd, line: &str) -> anyhow::Result<()> {
    run(netns, "ip", line)
}

/// A program with these words.
pub fn run(netns: &OwnedFd, program: &str, line: &str) -> anyhow::Result<()> {
    let words = line.split_whitespace();
    let output = run_in_netns(netns, || Command::new(program).args(words).output())?
        .with_context(|| format!("{program} cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {line}: {}", said.trim());
    }
    Ok(())
}

/// Writes a setting of the network.
pub fn sysctl(netns: &OwnedFd, key: &str, value: &str) -> anyhow::Result<()> {
    let file = format!("/proc/sys/net/{key}");
    run_in_netns(netns, || std::fs::write(&file, value))?.context(file)
}

/// The MTU of a device, bytes.
pub fn mtu(netns: &OwnedFd, device: &str) -> anyhow::Result<u32> {
    let lines = run_in_netns(netns, || {
        Command::new("ip")
            .args(["-json", "link", "show", "dev", device])
            .output()
    })?
    .context("ip cannot be started")?;
    let said: serde_json::Value = serde_json::from_slice(&lines.stdout)?;
    let mtu = said[0]["mtu"]
        .as_u64()
        .and_then(|mtu| u32::try_from(mtu).ok());
    mtu.with_context(|| format!("{device} has no MTU"))
}
