//! The last steps of a process before the user's command: nothing of the host left in its hands, powers dropped, signals
//! as a program expects them, then exec. The same for process 1 and for exec.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_keepcaps, set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid};

use crate::capability::NUMBERS;
use crate::failure::{Failure, Kind, NOT_EXECUTABLE, NOT_FOUND, Step};
use crate::sys;

/// Where a command without a path is looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Soft limit of open files: what `select` can hold; programs raise it up to the hard one.
const FILES: u64 = 1024;

/// A command as it will be executed.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// The capabilities that it keeps.
    pub capabilities: u64,
}

/// The environment of a container's processes; later parts override.
pub(crate) fn environment(
    hostname: &str,
    parts: &[&BTreeMap<String, String>],
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH", PATH), ("HOME", "/root"), ("HOSTNAME", hostname)])
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect::<BTreeMap<_, _>>();
    for part in parts {
        env.extend(part.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    env
}

/// Lets go of all that this copy of the shim has of the host but its three streams and `channel`, and closes itself to
/// others: until exec replaces its memory, no process of the container can trace it or look into its `/proc` folder,
/// whatever its capabilities, as the memory belongs to the host's user namespace. exec closes the channel first and
/// then makes it observable again, so nothing here ever does. Before any namespace of a container is entered.
pub(crate) fn seclude(channel: BorrowedFd<'_>) -> Result<(), Failure> {
    set_dumpable(false).step("become unobservable")?;
    sys::close_all_but(channel).step("close descriptors")
}

/// Becomes root of the user namespace, who may finish the container; without one, stays the host's until `drop_to`.
pub(crate) fn become_root() -> Result<(), Failure> {
    become_user(0)
}

fn become_user(number: u32) -> Result<(), Failure> {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    setresgid(group, group, group).step("become the container's group")?;
    setgroups(&[]).step("leave other groups")?;
    setresuid(user, user, user).step("become the container's user")?;
    // The kernel just set it to what `fs.suid_dumpable` says.
    set_dumpable(false).step("stay unobservable")
}

/// Becomes `user` and gives up everything but `keep`, for good. Without a user namespace it is an ordinary user of the
/// host: a root without capabilities would still own, and so read, every private file of the machine.
pub(crate) fn drop_to(user: u32, keep: u64) -> Result<(), Failure> {
    for capability in 0..NUMBERS {
        if keep & (1 << capability) == 0
            && !sys::drop_bounding(capability).step("drop a capability")?
        {
            break;
        }
    }
    if user != 0 {
        set_keepcaps(true).step("keep capabilities")?;
        become_user(user)?;
        set_keepcaps(false).step("keep capabilities no longer")?;
    }
    sys::set_capabilities(keep).step("set the capabilities")?;
    sys::set_ambient(keep).step("set the ambient capabilities")?;
    set_no_new_privs().step("set no_new_privs")?;
    let _ = sys::new_session_keyring(); // a kernel without keyrings has none to leave
    // After the change of credentials, which resets it.
    set_pdeathsig(Signal::SIGKILL).step("ask to end with the shim")
}

/// Limits and signals.
pub(crate) fn settle() -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).step("read the limit of files")?;
    setrlimit(Resource::RLIMIT_NOFILE, FILES.min(hard), hard).step("set the limit of files")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).step("set the limit of core files")?;
    umask(Mode::from_bits_truncate(0o022));
    chdir("/").step("enter /")?;
    for signal in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        sys::default_action(signal).step("reset signals")?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).step("unblock signals")
}

/// Executes the command; returns only why it could not.
pub(crate) fn execute(program: &Program) -> Failure {
    let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default(); // zero bytes were refused before
    let arguments: Vec<CString> = program.command.iter().map(|a| text(a.as_bytes())).collect();
    let environment: Vec<CString> = program
        .env
        .iter()
        .map(|(k, v)| text(format!("{k}={v}").as_bytes()))
        .collect();
    let name = program
        .command
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let mut worst = Errno::ENOENT;
    for path in candidates(name, program.env.get("PATH").map_or(PATH, String::as_str)) {
        match sys::execute(&text(path.as_os_str().as_bytes()), &arguments, &environment) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            other => worst = other,
        }
    }
    let (exit, cause) = match worst {
        Errno::ENOENT => (NOT_FOUND, format!("command {name:?} is not found")),
        other => (
            NOT_EXECUTABLE,
            format!("command {name:?} cannot be executed: {}", other.desc()),
        ),
    };
    Failure {
        kind: Kind::Command,
        cause,
        exit: Some(exit),
    }
}

fn candidates(name: &str, path: &str) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![PathBuf::from(name)];
    }
    path.split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| PathBuf::from(dir).join(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_looked_up_like_a_shell_does() {
        assert_eq!(candidates("./x", "/bin"), [PathBuf::from("./x")]);
        assert_eq!(
            candidates("x", "/a::/b"),
            [PathBuf::from("/a/x"), PathBuf::from("/b/x")]
        );
    }

    #[test]
    fn a_containers_own_environment_wins() {
        let own = BTreeMap::from([("PATH".to_owned(), "/x".to_owned())]);
        let env = environment("web", &[&own]);
        assert_eq!(
            (
                env["PATH"].as_str(),
                env["HOSTNAME"].as_str(),
                env["HOME"].as_str()
            ),
            ("/x", "web", "/root")
        );
    }
}
