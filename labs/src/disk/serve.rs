//! The process of one disk: one machine at a time over NBD, and who asks it over its control socket.
//!
//! Threads: one for the machine, one for the control socket; the disk is locked for each request. Both end with the
//! process.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;

use super::control::{Answer, Ask, Cut};
use super::volatile::{Disk, Image};
use super::{CONTROL, IMAGE, NBD, copy, nbd};
use crate::machine::keeper::detach_output;
use crate::random::Random;

impl Image for File {
    fn load(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }
    fn store(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }
}

struct State {
    disk: Disk<File>,
    /// Whether a machine is connected.
    used: bool,
}

/// How long a machine that was ended may still be seen.
const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// The state, and the word that a machine has left.
type Shared = Arc<(Mutex<State>, Condvar)>;

fn locked(state: &Shared) -> MutexGuard<'_, State> {
    state.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves the image in the folder until the process is ended.
pub(super) fn run(folder: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(folder).with_context(|| folder.display().to_string())?;
    nix::unistd::setsid().context("leave the terminal")?;
    let image = File::options().read(true).write(true).open(IMAGE);
    let image = image.with_context(|| folder.join(IMAGE).display().to_string())?;
    let size = image.metadata().context(IMAGE)?.len();
    let machines = listen(NBD)?;
    let control = listen(CONTROL)?;
    let state = Arc::new((
        Mutex::new(State {
            disk: Disk::new(image),
            used: false,
        }),
        Condvar::new(),
    ));
    println!("ready");
    io::stdout().flush()?;
    detach_output()?;
    let asked = state.clone();
    std::thread::spawn(move || {
        for stream in control.incoming().filter_map(Result::ok) {
            // A client that left gets no answer.
            let _ = converse(stream, &asked);
        }
    });
    for stream in machines.incoming().filter_map(Result::ok) {
        locked(&state).used = true;
        // A machine that was killed ends in the middle of a request; its next life comes here again.
        let _ = serve(&stream, size, &state);
        locked(&state).used = false;
        state.1.notify_all();
    }
    Ok(())
}

fn listen(name: &str) -> anyhow::Result<UnixListener> {
    // Of an earlier life.
    let _ = std::fs::remove_file(name);
    UnixListener::bind(name).with_context(|| format!("make the socket {name}"))
}

struct Both<'a>(BufReader<&'a UnixStream>, BufWriter<&'a UnixStream>);

impl Read for Both<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

fn serve(stream: &UnixStream, size: u64, state: &Shared) -> io::Result<()> {
    let mut both = Both(BufReader::new(stream), BufWriter::new(stream));
    if !nbd::handshake(&mut both, size)? {
        return Ok(());
    }
    while let Some(request) = nbd::request(&mut both)? {
        let reply = nbd::act(&mut locked(state).disk, size, &request);
        nbd::answer(&mut both, &request, reply)?;
    }
    Ok(())
}

fn converse(stream: UnixStream, state: &Shared) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(ask) => act(state, ask),
        Err(error) => Answer::Error(format!("the request is not understood: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    (&stream).write_all(&text)
}

fn act(state: &Shared, ask: Ask) -> Answer {
    let seed = match ask {
        Ask::Cut { seed } => seed,
        Ask::Save { file } => return save(state, &file),
    };
    // What a machine that has ended had asked for before is still done.
    let waited = state
        .1
        .wait_timeout_while(locked(state), LEFT_WITHIN, |state| state.used);
    let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if state.used {
        return Answer::Error("a machine uses it; its power goes with the machine".to_owned());
    }
    match state.disk.cut(&mut Random::named(seed, "disk")) {
        Ok(loss) => Answer::Cut(Cut {
            unflushed: loss.unflushed,
            lost: loss.lost,
        }),
        Err(error) => Answer::Error(error.to_string()),
    }
}

/// What is in the cache is written first, as a drive may do at any time.
fn save(state: &Shared, file: &Path) -> Answer {
    let mut state = locked(state);
    match state
        .disk
        .flush()
        .and_then(|()| copy(Path::new(IMAGE), file))
    {
        Ok(()) => Answer::Saved,
        Err(error) => Answer::Error(format!("{}: {error}", file.display())),
    }
}
