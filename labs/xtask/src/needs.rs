//! What tests want of the distribution. weft itself needs none of it: stock clients to compare with, and
//! tools that judge from outside.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// A package and the program by which it is found.
const NEEDS: [(&str, &str, &str); 10] = [
    (
        "bpftool",
        "bpftool",
        "takes a map entry away behind the agent's back",
    ),
    (
        "e2fsprogs",
        "mkfs.ext4",
        "the file system on a virtual machine's disk",
    ),
    (
        "etcd-client",
        "etcdctl",
        "the stock client against weft's store",
    ),
    (
        "etcd-server",
        "etcd",
        "a lab whose agents live on a real etcd",
    ),
    (
        "iproute2",
        "ip",
        "lists links and namespaces before and after",
    ),
    ("nftables", "nft", "an operator's packet filter on a node"),
    (
        "python3",
        "python3",
        "opens sockets and calls inside containers under test",
    ),
    (
        "qemu-system-x86",
        "qemu-system-x86_64",
        "boots machines with another kernel than this one",
    ),
    ("tcpdump", "tcpdump", "captures the underlay"),
    (
        "util-linux",
        "unshare",
        "tries to lift a container's covers from inside",
    ),
];

/// Lists what is needed and installs what is missing; asks first unless `yes`.
pub fn install(yes: bool) -> anyhow::Result<()> {
    if !is_root() {
        bail!("the tests make namespaces, links and BPF programs: run `cargo xtask test` as root");
    }
    println!("Tests need of the distribution:");
    let mut missing = Vec::new();
    for (package, program, why) in NEEDS {
        let here = find(program);
        println!(
            "  {:<15} {:<8} {why}",
            package,
            if here { "is here" } else { "MISSING" }
        );
        if !here {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !find("apt-get") {
        bail!(
            "no apt-get here: install these packages by hand, then run this again: {}",
            missing.join(" ")
        );
    }
    if !yes && !agreed(&missing)? {
        bail!("not installed; `cargo xtask test --yes` installs them without asking");
    }
    run("apt-get", &["update", "--quiet"])?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(missing);
    run("apt-get", &arguments)
}

fn agreed(missing: &[&str]) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "missing: {}; there is nobody to ask: use --yes",
            missing.join(" ")
        );
    }
    print!("Install {} by apt-get? [y/N] ", missing.join(" "));
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .with_context(|| format!("{program} cannot be started"))?;
    if !status.success() {
        bail!("{program} {}: {status}", arguments.join(" "));
    }
    Ok(())
}

/// Whether a program is on the path.
pub fn find(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").into()])
        .any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| {
        line.strip_prefix("Uid:")
            .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
    })
}
