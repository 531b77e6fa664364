//! The process that keeps a node's namespaces: hidden `weft lab-holder`.
//!
//! It comes in two lives. The launcher unshares pid, mount, network and host name, starts the second
//! life in them, says its number and ends. The second life is process 1 of the node: it mounts the
//! node's own /proc, /run, /sys and bpffs, says `ready`, and then only reaps. When it ends, the kernel
//! ends every process of the node, and with them go namespaces, mounts, links and pins.
//!
//! Never: networking; the engine sets that up from outside. Never: threads; namespaces are a matter
//! of single-threaded processes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, exit};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// The hidden word of the command line.
pub const WORD: &str = "lab-holder";
/// Where a node finds `weft` in its path.
pub(crate) const NODE_BIN: &str = "/run/bin";

/// `lab-holder ID NODE`, then itself again as `lab-holder ID NODE init`.
pub fn main(args: &[String]) -> ! {
    let done = match args {
        [id, node] => launch(id, node),
        [_, node, life] if life == "init" => hold(node),
        _ => Err(anyhow::anyhow!(
            "`weft {WORD}` is started by `weft lab`; it is not for people"
        )),
    };
    match done {
        Ok(()) => exit(0),
        Err(error) => {
            // The engine reads this line; there is nobody else to tell.
            let _ = writeln!(std::io::stdout(), "error: {error:#}");
            exit(1);
        }
    }
}

/// The first life. The second one inherits standard output and says `ready` there.
fn launch(id: &str, node: &str) -> anyhow::Result<()> {
    unshare(
        CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS,
    )
    .context("make namespaces (root is needed)")?;
    let exe = std::env::current_exe().context("find the weft binary")?;
    let child = Command::new(exe)
        .args([WORD, id, node, "init"])
        .current_dir("/")
        .spawn()
        .context("start the holder in its namespaces")?;
    println!("{}", child.id());
    Ok(())
}

/// The second life: process 1 of the node.
fn hold(node: &str) -> anyhow::Result<()> {
    if std::process::id() != 1 {
        bail!("the holder is not process 1 of its namespace");
    }
    // A session of its own, so that Ctrl-C at the engine's terminal ends the engine alone.
    nix::unistd::setsid().context("leave the terminal")?;
    nix::unistd::sethostname(node).context("set the host name")?;
    let exe = std::env::current_exe().context("find the weft binary")?;
    mounts().context("mount the node's own file systems")?;
    std::fs::create_dir_all(NODE_BIN)?;
    std::os::unix::fs::symlink(&exe, Path::new(NODE_BIN).join("weft"))
        .context("put weft into the node's path")?;
    println!("ready");
    std::io::stdout().flush()?;
    // The engine waits for the end of this pipe no longer than for `ready`, but keeps it open.
    detach_output()?;
    reap()
}

fn detach_output() -> anyhow::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

fn mounts() -> anyhow::Result<()> {
    const NONE: Option<&str> = None;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("make mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), quiet, NONE).context("/proc")?;
    let run = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), run, Some("mode=755")).context("/run")?;
    // sysfs shows the network namespace of whoever mounts it; the cgroup trees below move over.
    let aside = Path::new("/run/cgroup");
    let cgroups = Path::new("/sys/fs/cgroup");
    let has_cgroups = cgroups.is_dir();
    if has_cgroups {
        std::fs::create_dir(aside)?;
        let recursive = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(cgroups), aside, NONE, recursive, NONE).context("set the cgroup trees aside")?;
    }
    mount(Some("sysfs"), "/sys", Some("sysfs"), quiet, NONE).context("/sys")?;
    if has_cgroups {
        mount(Some(aside), cgroups, NONE, MsFlags::MS_MOVE, NONE)
            .context("move the cgroup trees back")?;
        std::fs::remove_dir(aside)?;
    }
    mount(
        Some("bpf"),
        "/sys/fs/bpf",
        Some("bpf"),
        quiet,
        Some("mode=700"),
    )
    .context("bpffs at /sys/fs/bpf (the kernel needs CONFIG_BPF_SYSCALL)")
}

/// Reaps until it is killed. Only SIGTERM ends it by itself.
fn reap() -> anyhow::Result<()> {
    let all = SigSet::all();
    all.thread_block()?;
    loop {
        if all.wait()? == Signal::SIGTERM {
            return Ok(());
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
