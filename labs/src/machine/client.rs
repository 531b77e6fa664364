//! A client of a machine: one session over the machine's socket.
//!
//! Owns: both ends of a session's window on this side. Knows the machine by its folder only, so that any process
//! can ask it, also after the one that started it has ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use super::keeper::SOCKET;
use super::protocol::{FRAME_MAX, Frame, Kind, Reply, Request, Window};

/// Exit code when a command could not be started.
pub(super) const NOT_STARTED: i32 = 127;
/// Questions about the clock: the fastest answer is the best one.
const CLOCK_ROUNDS: usize = 5;

/// One session.
struct Session {
    from: BufReader<UnixStream>,
    to: Arc<Mutex<UnixStream>>,
    window: Arc<Window>,
}

fn connect(folder: &Path) -> io::Result<UnixStream> {
    // By way of the folder's descriptor: a socket's path may be no longer than 107 bytes (unix(7)).
    let folder = File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

impl Session {
    fn open(folder: &Path, request: &Request, within: Option<Duration>) -> anyhow::Result<Session> {
        let stream = connect(folder).context("the machine does not run")?;
        stream.set_read_timeout(within)?;
        let to = Arc::new(Mutex::new(stream.try_clone()?));
        let session = Session {
            from: BufReader::new(stream),
            to,
            window: Arc::new(Window::new()),
        };
        session.send(&Frame::json(0, Kind::Open, request)?)?;
        Ok(session)
    }

    fn send(&self, frame: &Frame) -> io::Result<()> {
        send(&self.to, frame)
    }

    /// Reads to the end; what comes goes where `take` puts it.
    fn finish(
        &mut self,
        mut take: impl FnMut(Kind, &[u8]) -> io::Result<()>,
    ) -> anyhow::Result<Reply> {
        loop {
            let frame = match Frame::read(&mut self.from) {
                Ok(frame) => frame,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    bail!("the machine has ended")
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    bail!("the machine does not answer in time")
                }
                Err(error) => return Err(error).context("read the machine's answer"),
            };
            match frame.kind {
                Kind::Out | Kind::Err => {
                    take(frame.kind, &frame.bytes)?;
                    self.send(&Frame::credit(0, frame.weight()))?;
                }
                Kind::Credit => self.window.give(frame.credited()),
                Kind::Done => {
                    self.window.close();
                    return serde_json::from_slice(&frame.bytes).context("the machine's answer");
                }
                _ => {}
            }
        }
    }

    /// Sends all of `input` on a thread of its own, as fast as the machine takes it in.
    fn feed(&self, mut input: impl Read + Send + 'static) {
        let (to, window) = (self.to.clone(), self.window.clone());
        // Ends with the input or the session; nobody waits for it.
        std::thread::spawn(move || {
            let mut bytes = vec![0; FRAME_MAX];
            while let Ok(length @ 1..) = input.read(&mut bytes) {
                let frame = Frame::new(0, Kind::In, &bytes[..length]);
                if !window.take(frame.weight()) || send(&to, &frame).is_err() {
                    return;
                }
            }
            let _ = send(&to, &Frame::new(0, Kind::InEnd, []));
        });
    }
}

fn send(to: &Mutex<UnixStream>, frame: &Frame) -> io::Result<()> {
    frame.write(&mut *to.lock().unwrap_or_else(PoisonError::into_inner))
}

/// `lab-machine ID exec FOLDER -- COMMAND...`: our streams are the command's, its exit code is ours.
pub(super) fn exec(folder: &Path, argv: &[String]) -> anyhow::Result<()> {
    let request = Request::Run {
        argv: argv.to_vec(),
        env: BTreeMap::new(),
    };
    let mut session = Session::open(folder, &request, None)?;
    session.feed(io::stdin());
    let reply = session.finish(|kind, bytes| match kind {
        Kind::Err => io::stderr().write_all(bytes),
        _ => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
    })?;
    match reply {
        Reply::Exit(code) => std::process::exit(code),
        Reply::Failed(why) => bail!(why),
        Reply::Done(_) => Ok(()),
    }
}

/// Passes a connection on to a socket of the machine, until either side hangs up.
pub(super) fn dial(folder: &Path, mut stream: UnixStream, path: &str) -> anyhow::Result<()> {
    let request = Request::Dial {
        path: path.to_owned(),
    };
    let mut session = Session::open(folder, &request, None)?;
    session.feed(stream.try_clone()?);
    let reply = session.finish(|_, bytes| stream.write_all(bytes));
    // Wakes the feeder, which would wait for a client that has nothing more to say.
    let _ = stream.shutdown(std::net::Shutdown::Both);
    match reply? {
        Reply::Failed(why) => bail!(why),
        _ => Ok(()),
    }
}

/// Asks for something that has a number for an answer.
pub(crate) fn ask(folder: &Path, request: &Request, within: Duration) -> Result<u64, String> {
    number(Session::open(folder, request, Some(within)).and_then(|mut s| s.finish(|_, _| Ok(()))))
}

/// Copies a file of this machine in; how many bytes.
pub(crate) fn put(
    folder: &Path,
    from: &Path,
    to: &str,
    mode: u32,
    within: Duration,
) -> Result<u64, String> {
    let input = File::open(from).map_err(|e| format!("{}: {e}", from.display()))?;
    let request = Request::Put {
        path: to.to_owned(),
        mode,
    };
    number(
        Session::open(folder, &request, Some(within)).and_then(|mut session| {
            session.feed(input);
            session.finish(|_, _| Ok(()))
        }),
    )
}

/// Copies a file of the machine out; how many bytes.
pub(crate) fn get(folder: &Path, from: &str, to: &Path, within: Duration) -> Result<u64, String> {
    let mut file = File::create(to).map_err(|e| format!("{}: {e}", to.display()))?;
    read(folder, from, &mut file, within)
}

/// Reads a file of the machine; how many bytes.
pub(crate) fn read(
    folder: &Path,
    from: &str,
    to: &mut impl Write,
    within: Duration,
) -> Result<u64, String> {
    let request = Request::Get {
        path: from.to_owned(),
    };
    number(
        Session::open(folder, &request, Some(within))
            .and_then(|mut session| session.finish(|_, bytes| to.write_all(bytes))),
    )
}

fn number(reply: anyhow::Result<Reply>) -> Result<u64, String> {
    match reply {
        Ok(Reply::Done(number)) => Ok(number),
        Ok(Reply::Exit(code)) => Ok(code as u64),
        Ok(Reply::Failed(why)) => Err(why),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// Sets the machine's clock to ours, so that times of several machines compare. Returns by how much the two may still
/// differ: half the fastest round trip.
pub(crate) fn set_clock(folder: &Path, within: Duration) -> Result<Duration, String> {
    let mut fastest = Duration::MAX;
    for _ in 0..CLOCK_ROUNDS {
        // Too early by the way there; the best round so far says how long that is.
        let way = if fastest == Duration::MAX {
            Duration::ZERO
        } else {
            fastest / 2
        };
        let begun = Instant::now();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            + way;
        ask(
            folder,
            &Request::Clock {
                now: now.as_nanos() as u64,
            },
            within,
        )?;
        fastest = fastest.min(begun.elapsed());
    }
    Ok(fastest / 2)
}
