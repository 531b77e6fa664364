//! Waits for an interface: a container's interface is moved in from outside, perhaps after its
//! program started.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::stop::Stop;
use super::{FunctionError, system};

/// How often an interface is looked for, milliseconds.
const LOOK: u8 = 10;

/// The index of `interface` as soon as it is there and up, within `limit` and unless told to stop.
pub(super) fn interface(
    interface: &str,
    limit: Duration,
    stop: &Stop,
) -> Result<u32, FunctionError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(index) = if_nametoindex(interface)
            && is_up(interface)?
        {
            return Ok(index);
        }
        if Instant::now() >= deadline {
            let interface = interface.to_owned();
            return Err(FunctionError::NoInterface {
                interface,
                waited: limit,
            });
        }
        let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(LOOK)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Err(FunctionError::Stopped),
            Err(error) => return Err(system("wait for an interface")(error.into())),
        }
    }
}

fn is_up(interface: &str) -> Result<bool, FunctionError> {
    let mut all =
        nix::ifaddrs::getifaddrs().map_err(|e| system("list the interfaces")(e.into()))?;
    Ok(
        all.any(|one| {
            one.interface_name == interface && one.flags.contains(InterfaceFlags::IFF_UP)
        }),
    )
}
