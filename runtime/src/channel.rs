//! The line between a shim and the processes that it makes, while they are made: packets of JSON over a
//! socket pair that exec closes, so that the end of the line says that the command runs.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, setsockopt, socketpair,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Step};

/// How long a step of making a container may take, on a machine that does a lot besides.
const PATIENCE: i64 = 30;

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Message {
    /// To the builder: it is in the container's cgroups.
    Placed,
    /// From it: the process it made.
    Made(i32),
    /// To the container: its users are mapped.
    Mapped,
    /// From it: all but the command is there.
    Ready,
    /// To it: execute the command.
    Start,
    /// From either: a step failed.
    Failed(Failure),
}

/// One end of the line.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Channel {
    pub(crate) fn pair() -> Result<(Channel, Channel), Failure> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .step("make a socket pair")?;
        setsockopt(&ours, ReceiveTimeout, &TimeVal::seconds(PATIENCE))
            .step("limit the wait for a container")?;
        Ok((Channel(ours), Channel(theirs)))
    }

    pub(crate) fn send(&self, message: &Message) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(message).step("write a message")?;
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            &[],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .step("tell the other process")
        .map(drop)
    }

    /// `None`: nobody has the other end any more.
    pub(crate) fn receive(&self) -> Result<Option<Message>, Failure> {
        let mut bytes = vec![0; 16 << 10];
        let length = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, None, MsgFlags::empty()) {
                Ok(got) => break got.bytes,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    return Err(Failure::new(format!(
                        "no word from the container's process for {PATIENCE} s"
                    )));
                }
                Err(e) => return Err(e).step("hear the other process"),
            }
        };
        if length == 0 {
            return Ok(None);
        }
        match serde_json::from_slice(&bytes[..length]).step("read a message")? {
            Message::Failed(failure) => Err(failure),
            message => Ok(Some(message)),
        }
    }
}
