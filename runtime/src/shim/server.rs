//! A shim's one loop: output to the log, ends of processes, callers. Nothing in it waits but `poll`
//! and the moments in which a process is made.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, read};

use super::connection::{Connection, Waits};
use super::{Shim, write_state};
use crate::cgroup;
use crate::config::State;
use crate::failure::{Failure, Kind, Step};
use crate::launch::{self, Streams};
use crate::protocol::{Reply, Request, VERSION, Verb};

/// How long process 1 may take to be gone after SIGKILL, before the caller is told.
const END: Duration = Duration::from_secs(10);

impl Shim {
    /// Serves until `shutdown`.
    pub(super) fn serve(&mut self) -> Result<(), Failure> {
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&ends, flags).step("listen to SIGCHLD")?;
        let mut callers: Vec<Connection> = Vec::new();
        loop {
            self.wait(&signals, &callers)?;
            while let Ok(Some(_)) = signals.read_signal() {}
            self.drain();
            self.reap(&mut callers);
            while let Ok((stream, _)) = self.listener.accept() {
                callers.extend(Connection::new(stream));
            }
            for caller in &mut callers {
                caller.read();
                while let Some(line) = caller.line() {
                    if self.handle(caller, &line) {
                        return Ok(());
                    }
                }
            }
            callers.retain(|caller| {
                if let (true, Waits::Command(pid)) = (caller.closed, caller.waits) {
                    end_command(pid);
                }
                !caller.closed
            });
        }
    }

    fn wait(&self, signals: &SignalFd, callers: &[Connection]) -> Result<(), Failure> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![readable(signals.as_fd()), readable(self.listener.as_fd())];
        fds.extend(self.output.iter().map(|o| readable(o.as_fd())));
        fds.extend(callers.iter().map(|c| readable(c.stream.as_fd())));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(e).step("wait for work"),
        }
    }

    /// Moves output to the log, a bounded amount at a time.
    fn drain(&mut self) {
        let mut buffer = [0; 64 << 10];
        for _ in 0..16 {
            let Some(output) = &self.output else { return };
            let mut ready = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::ZERO) != Ok(1) {
                return;
            }
            match read(output, &mut buffer) {
                Ok(0) => self.output = None,
                Ok(length) => {
                    // A full disk loses output; it must not stop the container.
                    if let Err(e) = self.log.write(&buffer[..length]) {
                        eprintln!("cannot write the log: {e}");
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => self.output = None,
            }
        }
    }

    fn reap(&mut self, callers: &mut [Connection]) {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if pid == self.made.pid {
                self.ended(code);
                for caller in callers.iter_mut().filter(|c| c.waits == Waits::Container) {
                    caller.waits = Waits::Nothing;
                    caller.answer(&Reply::status(self.status.clone()));
                }
            }
            for caller in callers
                .iter_mut()
                .filter(|c| c.waits == Waits::Command(pid))
            {
                caller.waits = Waits::Nothing;
                caller.answer(&Reply::exit(code));
            }
        }
    }

    fn ended(&mut self, code: i32) {
        self.status.state = State::Exited { code };
        self.drain();
        if let Err(e) = write_state(&self.status) {
            eprintln!("cannot write state.json: {e}");
        }
    }

    /// True: the shim is done.
    fn handle(&mut self, caller: &mut Connection, line: &[u8]) -> bool {
        let verb = match serde_json::from_slice::<Request>(line) {
            Ok(request) if request.version <= VERSION => request.verb,
            Ok(request) => {
                let cause = format!(
                    "this shim speaks version {VERSION}, not {}; restart the container",
                    request.version
                );
                caller.answer(&Reply::failure(Failure::new(cause)));
                return false;
            }
            Err(e) => {
                caller.answer(&Reply::failure(Failure::new(format!(
                    "request not understood: {e}"
                ))));
                return false;
            }
        };
        let done = match verb {
            Verb::State => Ok(()),
            Verb::Start => self.start(),
            Verb::Signal { signal } => self.signal(signal),
            Verb::Wait => {
                if !matches!(self.status.state, State::Exited { .. }) {
                    caller.waits = Waits::Container;
                    return false;
                }
                Ok(())
            }
            Verb::Exec { command, env } => {
                let fds = std::mem::take(&mut caller.fds);
                self.exec(command, &env, fds)
                    .map(|pid| caller.waits = Waits::Command(pid))
            }
            Verb::Shutdown => match self.shut_down() {
                Ok(()) => {
                    caller.answer(&Reply::status(self.status.clone()));
                    return true;
                }
                Err(failure) => Err(failure),
            },
        };
        caller.answer(&done.map_or_else(Reply::failure, |()| Reply::status(self.status.clone())));
        false
    }

    fn start(&mut self) -> Result<(), Failure> {
        if self.status.state != State::Created {
            return Err(self.wrong_state());
        }
        self.made.start()?;
        self.status.state = State::Running;
        write_state(&self.status).step("write state.json")
    }

    fn wrong_state(&self) -> Failure {
        let cause = match self.status.state {
            State::Created => "created".to_owned(),
            State::Running => "running".to_owned(),
            State::Exited { code } => format!("exited with {code}"),
        };
        Failure {
            kind: Kind::State,
            cause,
            exit: None,
        }
    }

    /// One that has ended, even if we have yet to notice, gets nothing.
    fn signal(&self, signal: i32) -> Result<(), Failure> {
        let signal = Signal::try_from(signal).step("signal")?;
        match self.status.state {
            State::Exited { .. } => Ok(()),
            _ => kill(self.made.pid, signal).step("send the signal"),
        }
    }

    fn exec(
        &self,
        command: Vec<String>,
        env: &std::collections::BTreeMap<String, String>,
        fds: Vec<std::os::fd::OwnedFd>,
    ) -> Result<Pid, Failure> {
        if self.status.state != State::Running {
            return Err(self.wrong_state());
        }
        let [stdin, stdout, stderr] = <[_; 3]>::try_from(fds).map_err(|fds| {
            Failure::new(format!(
                "{} descriptors came with the command, not 3",
                fds.len()
            ))
        })?;
        let program = self.program(command, env);
        let streams = Streams {
            stdin,
            stdout,
            stderr,
        };
        launch::exec(
            self.made.pid,
            &self.bundle,
            &self.status.cgroups,
            &program,
            streams,
        )
    }

    /// Ends all processes and removes the cgroups.
    fn shut_down(&mut self) -> Result<(), Failure> {
        if !matches!(self.status.state, State::Exited { .. }) {
            kill(self.made.pid, Signal::SIGKILL).step("kill process 1")?;
            let end = crate::sys::pidfd(self.made.pid).step("find process 1")?;
            let mut fds = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
            let patience = PollTimeout::try_from(END).unwrap_or(PollTimeout::MAX);
            if poll(&mut fds, patience).step("wait for process 1")? == 0 {
                let cause = format!(
                    "process 1 (pid {}) is not gone {} s after SIGKILL",
                    self.made.pid,
                    END.as_secs()
                );
                return Err(Failure::new(cause));
            }
            self.reap(&mut []);
        }
        cgroup::remove(&self.status.cgroups)
    }
}

/// Ends a command whose caller is gone, with its process group.
fn end_command(pid: Pid) {
    let _ = kill(Pid::from_raw(-pid.as_raw()), Signal::SIGKILL);
    let _ = kill(pid, Signal::SIGKILL);
}
