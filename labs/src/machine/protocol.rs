//! What a machine and its keeper say to each other over the serial port, and clients to the keeper over its
//! socket: the same frames on both.
//!
//! A session is one request with its streams. Either side may have [`WINDOW`] bytes of frames on their way in
//! a session; the receiver returns credit as it takes them in. So nobody's queue grows, and a session that
//! nobody reads holds up no other.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Name of the virtio serial port that carries the frames.
pub(crate) const PORT: &str = "weft.control";
/// Name of the virtio serial port that takes the log of what runs in the background.
pub(crate) const LOG_PORT: &str = "weft.log";
/// Most bytes in one frame.
pub(crate) const FRAME_MAX: usize = 32 * 1024;
/// What a side may have on its way, in bytes of frames with their [`OVERHEAD`].
pub(crate) const WINDOW: usize = 256 * 1024;
/// What a frame counts beside its bytes, so that the window bounds their number too.
pub(crate) const OVERHEAD: usize = 64;
/// Most data frames of one session that can wait anywhere.
pub(crate) const FRAMES_WAITING: usize = WINDOW / OVERHEAD + 16;
/// The session of the machine itself: its [`Hello`].
pub(crate) const MACHINE: u32 = 0;
/// Session, kind, length.
const HEADER: usize = 4 + 1 + 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Begins a session: a [`Request`].
    Open = 1,
    /// Standard input, or the bytes of a file.
    In = 2,
    /// No more of [`Kind::In`].
    InEnd = 3,
    /// Standard output, or the bytes of a file.
    Out = 4,
    /// Standard error.
    Err = 5,
    /// Bytes of frames that were taken in: 4 bytes, big endian.
    Credit = 6,
    /// Ends a session: a [`Reply`]; from a machine in session 0, a [`Hello`].
    Done = 7,
    /// The client is gone: what it began is ended.
    Close = 8,
    /// Of session 0, and answered with the same: the machine is about to be stopped and saved, so no half frame may be
    /// on its port. It says nothing after its answer, until [`Kind::Go`].
    Hold = 9,
    /// Of session 0: go on. With bytes in it, for another keeper: the sessions of the one before are over, and a
    /// [`Hello`] is the answer.
    Go = 10,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        use Kind::{Close, Credit, Done, Err, Go, Hold, In, InEnd, Open, Out};
        [Open, In, InEnd, Out, Err, Credit, Done, Close, Hold, Go]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) session: u32,
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(session: u32, kind: Kind, bytes: impl Into<Vec<u8>>) -> Frame {
        Frame {
            session,
            kind,
            bytes: bytes.into(),
        }
    }

    /// A frame whose bytes are JSON.
    pub(crate) fn json(session: u32, kind: Kind, value: &impl Serialize) -> io::Result<Frame> {
        Ok(Frame::new(session, kind, serde_json::to_vec(value)?))
    }

    pub(crate) fn credit(session: u32, taken: usize) -> Frame {
        Frame::new(session, Kind::Credit, (taken as u32).to_be_bytes())
    }

    /// The credit that it carries, if it is of that kind.
    pub(crate) fn credited(&self) -> usize {
        let bytes: Result<[u8; 4], _> = self.bytes.as_slice().try_into();
        bytes.map_or(0, |bytes| u32::from_be_bytes(bytes) as usize)
    }

    /// What it counts against the window.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }

    /// In one write: several threads share a port.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut all = Vec::with_capacity(HEADER + self.bytes.len());
        all.extend(self.session.to_be_bytes());
        all.push(self.kind as u8);
        all.extend((self.bytes.len() as u32).to_be_bytes());
        all.extend(&self.bytes);
        to.write_all(&all)
    }

    /// The next frame; `UnexpectedEof` when there is none.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Frame> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let [a, b, c, d, kind, length @ ..] = header;
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let kind = Kind::of(kind).ok_or_else(|| bad(format!("no frame has the kind {kind}")))?;
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_MAX {
            return Err(bad(format!("a frame of {length} bytes")));
        }
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        Ok(Frame {
            session: u32::from_be_bytes([a, b, c, d]),
            kind,
            bytes,
        })
    }
}

/// What a client wants of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Run a program to its end, with its streams.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Added to its environment.
        env: BTreeMap<String, String>,
    },
    /// Run a program in the background; its output goes to the machine's log.
    Spawn {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Connect to a socket of the machine; bytes go both ways.
    Dial {
        /// Where it is.
        path: String,
    },
    /// Write a file from what comes in; its folder is made.
    Put {
        /// Where.
        path: String,
        /// Permissions.
        mode: u32,
    },
    /// Read a file.
    Get {
        /// Which.
        path: String,
    },
    /// Signal a process; the answer is 0 if it has ended, else 1.
    Signal {
        /// Its number in the machine.
        pid: i32,
        /// When it started, in clock ticks since the machine's boot; 0: whoever has the number.
        start: u64,
        /// By number; 0 only asks whether it is there.
        signal: i32,
    },
    /// Apply changes to the machine's network, in order.
    Net {
        /// What to do.
        ops: Vec<crate::underlay::NetOp>,
    },
    /// Set the clock to this time since the epoch, in nanoseconds.
    Clock {
        /// The time.
        now: u64,
    },
    /// Flush disks and switch the machine off.
    PowerOff,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Done, with a number where there is one to tell: a process, the clock that was.
    Done(u64),
    /// The program ended with this code; 128 and its number for a signal.
    Exit(i32),
    /// It was not done, and why.
    Failed(String),
}

/// What a machine says when it is ready to serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Modules that were to be loaded and could not be, with the reason.
    pub(crate) not_loaded: Vec<String>,
    /// Seconds since the kernel started.
    pub(crate) uptime: f64,
    /// The greatest number of a session so far: the next keeper's are greater, so that nothing late is taken for theirs.
    pub(crate) sessions: u32,
}

/// What one side may still send in a session.
#[derive(Debug)]
pub(crate) struct Window {
    left: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window {
            left: Mutex::new(Some(WINDOW)),
            changed: Condvar::new(),
        }
    }

    fn left(&self) -> MutexGuard<'_, Option<usize>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this much may be sent, and counts it; `false` once the session is over.
    pub(crate) fn take(&self, weight: usize) -> bool {
        let mut left = self.left();
        loop {
            match *left {
                None => return false,
                Some(enough) if enough >= weight => {
                    *left = Some(enough - weight);
                    return true;
                }
                Some(_) => {
                    left = self
                        .changed
                        .wait(left)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The other side took this much in.
    pub(crate) fn give(&self, weight: usize) {
        let mut left = self.left();
        if let Some(now) = *left {
            *left = Some((now + weight).min(WINDOW));
        }
        self.changed.notify_all();
    }

    /// Nobody takes in any more.
    pub(crate) fn close(&self) {
        *self.left() = None;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let frames = [
            Frame::new(7, Kind::In, *b"abc"),
            Frame::new(7, Kind::InEnd, []),
            Frame::credit(7, 70_000),
            Frame::json(8, Kind::Open, &Request::PowerOff).unwrap(),
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write(&mut wire).unwrap();
        }
        let mut from = wire.as_slice();
        for frame in &frames {
            assert_eq!(&Frame::read(&mut from).unwrap(), frame);
        }
        assert_eq!(frames[2].credited(), 70_000);
        let end = Frame::read(&mut from).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_frame_that_is_too_long_or_unknown_is_refused_before_it_is_read() {
        let long = [0, 0, 0, 1, Kind::Out as u8, 0xff, 0, 0, 0];
        assert!(Frame::read(&mut long.as_slice()).is_err());
        let unknown = [0, 0, 0, 1, 99, 0, 0, 0, 0];
        assert!(Frame::read(&mut unknown.as_slice()).is_err());
    }

    #[test]
    fn a_window_holds_back_and_a_closed_one_lets_nobody_wait() {
        let window = Window::new();
        assert!(window.take(WINDOW));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| window.take(1));
            window.give(1);
            assert!(waiter.join().unwrap());
            let waiter = scope.spawn(|| window.take(1));
            window.close();
            assert!(!waiter.join().unwrap());
        });
    }
}
