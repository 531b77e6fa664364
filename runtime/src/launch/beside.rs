//! Commands beside a container's process 1: a helper joins its cgroups and namespaces, and makes the command there as
//! the shim's own child.

use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, setsid};

use super::{Streams, connect, give_away, namespaces, unexpected};
use crate::cgroup;
use crate::channel::{Channel, Message};
use crate::failure::{Failure, Step};
use crate::privileges::{self, Program};
use crate::protocol::Bundle;
use crate::sys;

/// Runs a command beside process 1, in all its namespaces and cgroups.
pub(crate) fn exec(
    first: Pid,
    bundle: &Bundle,
    cgroups: &[PathBuf],
    program: &Program,
    streams: Streams,
) -> Result<Pid, Failure> {
    let (ours, theirs) = Channel::pair()?;
    give_away(&streams, bundle.owner());
    let Some(helper) = sys::fork(CloneFlags::empty()).step("make a process")? else {
        drop(ours);
        let failure = enter(first, bundle, cgroups, program, &streams, &theirs);
        let _ = theirs.send(&Message::Failed(failure));
        sys::exit_now(127);
    };
    drop((theirs, streams));
    let pid = match ours.receive() {
        Ok(Some(Message::Made(pid))) => Ok(Pid::from_raw(pid)),
        Ok(other) => Err(unexpected(other.as_ref())),
        Err(failure) => Err(failure),
    };
    if pid.is_err() {
        // It may hang where it cannot be asked, and everything of this container would wait with it.
        let _ = kill(helper, Signal::SIGKILL);
    }
    let _ = waitpid(helper, None);
    let pid = pid?;
    let end = |failure| {
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
        failure
    };
    match ours.receive() {
        Ok(None) => Ok(pid),
        Ok(other) => Err(end(unexpected(other.as_ref()))),
        Err(failure) => Err(end(failure)),
    }
}

/// In a process of its own; returns only what failed.
fn enter(
    first: Pid,
    bundle: &Bundle,
    cgroups: &[PathBuf],
    program: &Program,
    streams: &Streams,
    channel: &Channel,
) -> Failure {
    let entered = (|| {
        set_pdeathsig(Signal::SIGKILL).step("ask to end with the shim")?;
        cgroup::join(cgroups, 0)?;
        connect(streams)?;
        privileges::seclude(channel.as_fd())?;
        // Process 1 is the shim's child, which has not been waited for: its number is nobody else's.
        let target = sys::pidfd(first).step("find the container's process 1")?;
        setns(&target, namespaces(bundle.users.is_some()))
            .step("enter the container's namespaces")?;
        drop(target);
        // Process namespaces take in children only, which the shim is to wait for.
        match sys::fork(CloneFlags::CLONE_PARENT).step("make a process")? {
            Some(pid) => {
                channel.send(&Message::Made(pid.as_raw()))?;
                sys::exit_now(0)
            }
            None => {
                set_pdeathsig(Signal::SIGKILL).step("ask to end with the shim")?;
                privileges::become_root()?;
                setsid().step("make a session")?;
                privileges::drop_to(bundle.user(), program.capabilities)?;
                privileges::settle()
            }
        }
    })();
    match entered {
        Ok(()) => privileges::execute(program),
        Err(failure) => failure,
    }
}
