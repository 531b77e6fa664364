//! A machine that stands still: what an engine asks its keeper to save it, and to let a saved one go.
//!
//! One JSON object a line, one answer a line. A machine stands no longer than the engine that asked for it is there:
//! its connection is its word. Owns: both ends of that connection. Never: which machines stand together; that is the
//! engine's.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{Guest, listen, locked};
use crate::machine::protocol::{Frame, Kind, MACHINE};
use crate::machine::qmp::Monitor;

/// Where the engine asks, in the machine's folder.
pub(super) const DESK: &str = "keeper.sock";
/// What a keeper says when the saved state is in the machine, and it waits for the word to go.
pub(in crate::machine) const LOADED: &str = "loaded";
/// How long a guest may take to fall silent: it answers between two frames.
const SILENT_WITHIN: Duration = Duration::from_secs(10);
/// How long the memory of a machine may take to the disk.
const PATIENCE: Duration = Duration::from_secs(120);

/// What can be asked for, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Ask {
    /// Nothing is on the way between keeper and guest.
    Hold,
    /// The processors stand.
    Stop,
    /// Memory and devices are written to a file.
    Save { file: PathBuf },
    /// All goes on.
    Go,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done,
    Error(String),
}

/// The keeper's side.
pub(super) struct Keeper {
    monitor: Monitor,
    guest: Guest,
    /// The guest's answers to [`Kind::Hold`].
    held: Receiver<Vec<u8>>,
    /// Of the last hold, so that a late answer to an earlier one is not taken for its own.
    number: u32,
}

impl Keeper {
    /// And where the guest's reader puts answers to [`Kind::Hold`].
    pub(super) fn new(monitor: Monitor, guest: Guest) -> (Keeper, SyncSender<Vec<u8>>) {
        let (send, held) = sync_channel(16);
        let keeper = Keeper {
            monitor,
            guest,
            held,
            number: 0,
        };
        (keeper, send)
    }

    /// One engine after the other.
    pub(super) fn serve(mut self, desk: &UnixListener) {
        for stream in desk.incoming().filter_map(Result::ok) {
            // An engine that left gets no answer.
            let _ = self.converse(&stream);
        }
    }

    fn converse(&mut self, stream: &UnixStream) -> io::Result<()> {
        let Keeper {
            monitor,
            guest,
            held,
            number,
        } = self;
        let mut standing = Standing {
            monitor,
            guest,
            way: None,
            stopped: false,
        };
        for line in BufReader::new(stream).lines() {
            let asked = serde_json::from_str(&line?).map_err(anyhow::Error::from);
            let done = asked.and_then(|ask| match ask {
                Ask::Hold => {
                    *number += 1;
                    standing.hold(*number, held)
                }
                Ask::Stop => standing.stop(),
                Ask::Save { file } => standing.save(&file),
                Ask::Go => standing.go(),
            });
            answer(stream, done)?;
        }
        Ok(())
    }
}

/// What an engine has asked for so far; given back when it goes.
struct Standing<'a> {
    monitor: &'a mut Monitor,
    guest: &'a Guest,
    /// Held: nobody else says anything to the guest.
    way: Option<MutexGuard<'a, UnixStream>>,
    stopped: bool,
}

impl Standing<'_> {
    fn hold(&mut self, number: u32, held: &Receiver<Vec<u8>>) -> anyhow::Result<()> {
        if self.way.is_some() {
            bail!("the machine is held already");
        }
        let mut way = locked(self.guest);
        let number = number.to_be_bytes();
        Frame::new(MACHINE, Kind::Hold, number).write(&mut *way)?;
        let deadline = Instant::now() + SILENT_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match held.recv_timeout(left) {
                Ok(answer) if answer == number => break,
                Ok(_) => {}
                Err(_) => {
                    // For when it hears of all this after all.
                    Frame::new(MACHINE, Kind::Go, []).write(&mut *way)?;
                    bail!("it does not answer within {} s", SILENT_WITHIN.as_secs());
                }
            }
        }
        self.way = Some(way);
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.stopped = true;
        self.monitor.stop()
    }

    fn save(&mut self, file: &Path) -> anyhow::Result<()> {
        if self.way.is_none() || !self.stopped {
            bail!("a machine that goes on cannot be saved");
        }
        let to = File::create(file).with_context(|| file.display().to_string())?;
        self.monitor.save(&to)
    }

    fn go(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.stopped) {
            self.monitor.go()?;
        }
        if let Some(mut way) = self.way.take() {
            Frame::new(MACHINE, Kind::Go, []).write(&mut *way)?;
        }
        Ok(())
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        // Fails only when QEMU has ended, which ends us.
        let _ = self.go();
    }
}

fn answer(mut stream: &UnixStream, done: anyhow::Result<()>) -> io::Result<()> {
    let answer = match done {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Error(format!("{error:#}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Puts the saved state into a machine that waits for it, and lets it go when the engine says so.
pub(super) fn load(monitor: &mut Monitor, state: &File, port: &UnixStream) -> anyhow::Result<()> {
    let desk = listen(DESK)?;
    monitor.load(state)?;
    println!("{LOADED}");
    let (engine, _) = desk.accept().context("wait for the word to go")?;
    let mut line = String::new();
    BufReader::new(&engine).read_line(&mut line)?;
    if serde_json::from_str::<Ask>(&line)? != Ask::Go {
        bail!("the engine speaks another protocol");
    }
    monitor.go()?;
    Frame::new(MACHINE, Kind::Go, *b"new").write(&mut &*port)?;
    answer(&engine, Ok(())).context("tell the engine")
}

/// The engine's side: a machine that stands while this is there.
#[derive(Debug)]
pub(in crate::machine) struct Frozen(BufReader<UnixStream>);

impl Frozen {
    /// To the keeper in this folder.
    pub(in crate::machine) fn connect(folder: &Path) -> io::Result<Frozen> {
        // By way of the folder's descriptor: a socket's path may be no longer than 107 bytes (unix(7)).
        let folder = File::open(folder)?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/{DESK}", folder.as_raw_fd()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Frozen(BufReader::new(stream)))
    }

    pub(in crate::machine) fn hold(&mut self) -> Result<(), String> {
        self.ask(&Ask::Hold)
    }

    pub(in crate::machine) fn stop(&mut self) -> Result<(), String> {
        self.ask(&Ask::Stop)
    }

    pub(in crate::machine) fn save(&mut self, file: &Path) -> Result<(), String> {
        self.ask(&Ask::Save {
            file: file.to_owned(),
        })
    }

    pub(in crate::machine) fn go(&mut self) -> Result<(), String> {
        self.ask(&Ask::Go)
    }

    fn ask(&mut self, ask: &Ask) -> Result<(), String> {
        let said = self.exchange(ask).map_err(|e| e.to_string())?;
        match serde_json::from_str(&said) {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Error(cause)) => Err(cause),
            Err(_) if said.is_empty() => Err("it has ended".to_owned()),
            Err(error) => Err(format!("its keeper's answer is not understood: {error}")),
        }
    }

    fn exchange(&mut self, ask: &Ask) -> io::Result<String> {
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line)?;
        let mut said = String::new();
        self.0.read_line(&mut said)?;
        Ok(said)
    }
}
