//! Makes a container's process 1, and, in `beside`, commands beside it.
//!
//! The shim forks a builder, which takes a mount namespace and builds the root in it while the shim puts it into the
//! cgroups (a move that waits for the kernel's readers, so it is worth its own process). The builder then makes
//! process 1 in all its namespaces as the shim's own child, and ends. Process 1 finishes what only its namespaces
//! allow and waits for the start.
//! Whatever is made here asks the kernel to be killed when the shim ends, so no container is left without one.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, sethostname, setsid};

use crate::cgroup;
use crate::channel::{Channel, Message};
use crate::failure::{Failure, NOT_FOUND, Step};
use crate::privileges::{self, Program};
use crate::protocol::Bundle;
use crate::rootfs::{self, Root};
use crate::sys;

mod beside;

pub(crate) use beside::exec;

/// Users of a container; what user namespaces of distributions give.
pub(crate) const USERS: u32 = 65536;

/// Standard input, output and error of a command.
#[derive(Debug)]
pub(crate) struct Streams {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// A process 1 that waits for its start.
#[derive(Debug)]
pub(crate) struct Made {
    pub pid: Pid,
    channel: Channel,
}

fn namespaces(user: bool) -> CloneFlags {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    if user {
        flags | CloneFlags::CLONE_NEWUSER
    } else {
        flags
    }
}

/// Makes process 1 up to its start. `stage` is an empty folder.
pub(crate) fn make(
    bundle: &Bundle,
    stage: &Path,
    cgroups: &[PathBuf],
    program: &Program,
    streams: Streams,
) -> Result<Made, Failure> {
    let (ours, theirs) = Channel::pair()?;
    give_away(&streams, bundle.owner());
    let Some(builder) = sys::fork(CloneFlags::empty()).step("make the builder")? else {
        drop(ours);
        let failure = build(bundle, stage, &theirs, program, &streams);
        let _ = theirs.send(&Message::Failed(failure));
        sys::exit_now(1);
    };
    drop((theirs, streams));
    let made = guide(bundle, &ours, cgroups, builder);
    if made.is_err() {
        let _ = kill(builder, Signal::SIGKILL);
    }
    let _ = waitpid(builder, None);
    Ok(Made {
        pid: made?,
        channel: ours,
    })
}

/// The shim's side.
fn guide(
    bundle: &Bundle,
    channel: &Channel,
    cgroups: &[PathBuf],
    builder: Pid,
) -> Result<Pid, Failure> {
    cgroup::join(cgroups, builder.as_raw())?;
    channel.send(&Message::Placed)?;
    let pid = match channel.receive()? {
        Some(Message::Made(pid)) => Pid::from_raw(pid),
        other => return Err(unexpected(other.as_ref())),
    };
    let ready = map_users(pid, bundle.users)
        .and_then(|()| channel.send(&Message::Mapped))
        .and_then(|()| channel.receive());
    match ready {
        Ok(Some(Message::Ready)) => Ok(pid),
        other => {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            Err(other.map_or_else(|failure| failure, |message| unexpected(message.as_ref())))
        }
    }
}

fn unexpected(message: Option<&Message>) -> Failure {
    match message {
        None => Failure::new("the container's process ended before it was ready"),
        Some(message) => Failure::new(format!(
            "the container's process said {message:?} out of turn"
        )),
    }
}

fn map_users(pid: Pid, first: Option<u32>) -> Result<(), Failure> {
    let Some(first) = first else { return Ok(()) };
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, format!("0 {first} {USERS}\n")).step(&format!("write {path}"))?;
    }
    Ok(())
}

/// Pipes belong to the container's user, or `/dev/stdout` could not be opened there.
fn give_away(streams: &Streams, owner: u32) {
    for stream in [&streams.stdin, &streams.stdout, &streams.stderr] {
        let is_pipe =
            nix::sys::stat::fstat(stream).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFIFO);
        if is_pipe {
            let _ = nix::unistd::fchown(stream, Some(owner.into()), Some(owner.into()));
        }
    }
}

/// The builder; returns only what failed.
fn build(
    bundle: &Bundle,
    stage: &Path,
    channel: &Channel,
    program: &Program,
    streams: &Streams,
) -> Failure {
    let made = (|| {
        set_pdeathsig(Signal::SIGKILL).step("ask to end with the shim")?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).step("make a mount namespace")?;
        // What a container sees is for its user to read; its modes are not to depend on who started the shim.
        umask(Mode::from_bits_truncate(0o022));
        let container = &bundle.container;
        rootfs::build(&Root {
            stage,
            exe: &bundle.exe,
            hide: &bundle.hide,
            hostname: &container.hostname,
            owner: bundle.owner(),
        })?;
        match channel.receive()? {
            Some(Message::Placed) => {}
            other => return Err(unexpected(other.as_ref())),
        }
        sys::fork(namespaces(bundle.users.is_some()) | CloneFlags::CLONE_PARENT)
            .step("make the container's namespaces")
    })();
    match made {
        Ok(None) => first_process(bundle, channel, program, streams),
        Ok(Some(pid)) => match channel.send(&Message::Made(pid.as_raw())) {
            Ok(()) => sys::exit_now(0),
            Err(failure) => failure,
        },
        Err(failure) => failure,
    }
}

/// Process 1; returns only what failed.
fn first_process(
    bundle: &Bundle,
    channel: &Channel,
    program: &Program,
    streams: &Streams,
) -> Failure {
    let ready = (|| {
        // At once: until then it holds the pipe on which the shim's caller waits for the end of the shim's words.
        connect(streams)?;
        privileges::seclude(channel.as_fd())?;
        set_pdeathsig(Signal::SIGKILL).step("ask to end with the shim")?;
        match channel.receive()? {
            Some(Message::Mapped) => {}
            // The shim is gone, and nobody hears what failed.
            None => sys::exit_now(1),
            other => return Err(unexpected(other.as_ref())),
        }
        privileges::become_root()?;
        set_pdeathsig(Signal::SIGKILL).step("ask to end with the shim")?;
        setsid().step("make a session")?;
        sethostname(&bundle.container.hostname).step("set the host name")?;
        rootfs::inside(|| open_network(bundle.users))?;
        let any = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .step("make a socket")?;
        sys::loopback_up(any).step("set the loopback interface up")?;
        channel.send(&Message::Ready)?;
        match channel.receive()? {
            Some(Message::Start) => {}
            None => sys::exit_now(1),
            other => return Err(unexpected(other.as_ref())),
        }
        privileges::drop_to(bundle.user(), program.capabilities)?;
        privileges::settle()
    })();
    let failure = match ready {
        Ok(()) => privileges::execute(program),
        Err(failure) => failure,
    };
    let exit = failure.exit.unwrap_or(NOT_FOUND);
    let _ = channel.send(&Message::Failed(failure));
    sys::exit_now(exit)
}

/// Lets any user of the container send ICMP echoes without NET_RAW, and serve any port without
/// NET_BIND_SERVICE: the namespace's ports are the container's own.
fn open_network(users: Option<u32>) -> Result<(), Failure> {
    let last = users.map_or(i32::MAX.unsigned_abs(), |_| USERS - 1);
    fs::write("/proc/sys/net/ipv4/ping_group_range", format!("0 {last}"))
        .step("open ping to all groups")?;
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        .step("open all ports to all users")
}

fn connect(streams: &Streams) -> Result<(), Failure> {
    dup2_stdin(&streams.stdin)
        .and_then(|()| dup2_stdout(&streams.stdout))
        .and_then(|()| dup2_stderr(&streams.stderr))
        .step("connect the command's streams")
}

impl Made {
    /// Executes the command; an error when it cannot be executed, and then process 1 ends.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        self.channel.send(&Message::Start)?;
        match self.channel.receive()? {
            None => Ok(()),
            Some(message) => Err(unexpected(Some(&message))),
        }
    }
}
