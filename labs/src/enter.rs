//! The way into a node: hidden `weft lab-enter`, a single-threaded process that joins the holder's
//! namespaces and starts one command in them.
//!
//! The command is a child, because a process namespace is entered by children only. With `detach` it
//! is left to the node's process 1 and its number is said; without, its exit code is ours.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio, exit};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};

use crate::holder::NODE_BIN;

/// The hidden word of the command line.
pub const WORD: &str = "lab-enter";
/// Exit code when the node could not be entered or the command not be started.
const NOT_STARTED: i32 = 127;

/// `lab-enter ID PID attach|LOGFILE -- COMMAND...`: `attach` waits and shares our output.
pub fn main(args: &[String]) -> ! {
    match enter(args) {
        Ok(code) => exit(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            exit(NOT_STARTED);
        }
    }
}

fn enter(args: &[String]) -> anyhow::Result<i32> {
    let [_id, pid, output, dashes, program, rest @ ..] = args else {
        bail!("`weft {WORD}` is started by `weft lab`; it is not for people");
    };
    if dashes != "--" {
        bail!("`weft {WORD}`: no command");
    }
    let pid: i32 = pid.parse().context("process number of the holder")?;
    let log = match output.as_str() {
        "attach" => None,
        path => Some(open_log(Path::new(path))?),
    };
    join(pid)?;
    let mut command = Command::new(program);
    // In the node, `weft` speaks to the node's own agent, whatever our user speaks to.
    command
        .args(rest)
        .current_dir("/")
        .env("PATH", path())
        .env_remove("WEFT_HOST");
    let Some(log) = log else {
        let mut child = command
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let status = child.wait()?;
        return Ok(status.code().unwrap_or(128 + status.signal().unwrap_or(0)));
    };
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let child = command
        .spawn()
        .with_context(|| format!("start {program}"))?;
    println!("{}", child.id());
    Ok(0)
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// All descriptors are opened before the first namespace changes /proc under us.
fn join(pid: i32) -> anyhow::Result<()> {
    let kinds = [
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let mut open = Vec::new();
    for (name, flag) in kinds {
        let path = format!("/proc/{pid}/ns/{name}");
        let file = File::open(&path).with_context(|| format!("open {path}: is the node up?"))?;
        open.push((name, flag, file));
    }
    for (name, flag, file) in open {
        setns(&file, flag).with_context(|| format!("enter the node's {name} namespace"))?;
    }
    Ok(())
}

/// The node's own folder first, so that `weft` is this binary.
fn path() -> OsString {
    let mut path = OsString::from(NODE_BIN);
    let rest = std::env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    path.push(":");
    path.push(rest);
    path
}
