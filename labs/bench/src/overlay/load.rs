//! Loads of `overlay`: streams side by side, datagrams as fast as they go, connections one after the other, and what a
//! datagram costs of processor time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use weft_overlay::netns::run_in_netns;

use crate::traffic::{Path, any, datagram_sockets, pin, stream_at};

/// Where the first stream listens; connections and datagrams use one below.
const STREAMS: u16 = 9100;
const CONNECTIONS: u16 = 9099;
/// The processor of who sends, and of who receives.
const SENDER: usize = 0;
const RECEIVER: usize = 1;
/// Nothing more comes after this long.
const SILENCE: Duration = Duration::from_millis(50);
/// A receiver that is late for a moment loses nothing.
const BUFFER: usize = 8 << 20;
/// Datagrams that are sent without a pause, at a fixed rate.
const BURST: u64 = 32;

/// Gbit a second of so many TCP streams together.
pub fn streams(path: &Path, count: u16, seconds: f64) -> anyhow::Result<f64> {
    thread::scope(|scope| {
        let runs: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || stream_at(path, STREAMS + number, seconds)))
            .collect();
        let ends = runs.into_iter();
        ends.map(|run| run.join().expect("a stream does not panic"))
            .sum()
    })
}

/// Datagrams of a size that arrive in a second when one thread sends what it can.
pub fn flood(path: &Path, size: usize, seconds: f64) -> anyhow::Result<f64> {
    let (server, client) = sockets(path)?;
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    let receiver = thread::spawn(move || -> anyhow::Result<f64> {
        // A machine of one processor has no other one.
        let _shared = pin(0, RECEIVER);
        let mut buffer = [0; 2048];
        server.recv(&mut buffer).context("nothing arrives")?;
        let (begun, mut seen) = (Instant::now(), 0_u64);
        while !ended.load(Ordering::Relaxed) {
            match server.recv(&mut buffer) {
                Ok(_) => seen += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(seen as f64 / begun.elapsed().as_secs_f64())
    });
    let sender = thread::spawn(move || -> anyhow::Result<()> {
        pin(0, SENDER)?;
        let (payload, begun) = (vec![0; size], Instant::now());
        while begun.elapsed().as_secs_f64() < seconds {
            for _ in 0..BURST {
                client.send(&payload)?;
            }
        }
        Ok(())
    });
    let sent = sender.join().expect("the sender does not panic");
    over.store(true, Ordering::Relaxed);
    let rate = receiver.join().expect("the receiver does not panic");
    sent.and(rate)
}

/// Microseconds of processor time a datagram, everything that is done for it on the processor where both ends are, the
/// kernel's deferred work too, which runs in whichever thread made it, or in `ksoftirqd`.
pub fn processor_time(path: &Path, size: usize, rate: f64, seconds: f64) -> anyhow::Result<f64> {
    let (server, client) = sockets(path)?;
    let deferred = Ksoftirqd::of(SENDER)?;
    let before = deferred.spent()?;
    let receiver = thread::spawn(move || -> anyhow::Result<(u64, Duration)> {
        pin(0, SENDER)?;
        let begun = own_time()?;
        let (mut buffer, mut seen) = ([0; 2048], 0);
        loop {
            match server.recv(&mut buffer) {
                Ok(0) => break,
                Ok(_) => seen += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok((seen, own_time()? - begun))
    });
    let sender = thread::spawn(move || -> anyhow::Result<Duration> {
        pin(0, SENDER)?;
        let begun = own_time()?;
        let (payload, clock) = (vec![0; size], Instant::now());
        let bursts = (rate * seconds) as u64 / BURST;
        for burst in 0..bursts {
            let due = Duration::from_secs_f64((burst * BURST) as f64 / rate);
            if let Some(early) = due.checked_sub(clock.elapsed()) {
                thread::sleep(early);
            }
            for _ in 0..BURST {
                client.send(&payload)?;
            }
        }
        client.send(&[])?;
        Ok(own_time()? - begun)
    });
    let sending = sender.join().expect("the sender does not panic")?;
    let (seen, receiving) = receiver.join().expect("the receiver does not panic")?;
    anyhow::ensure!(seen > 0, "nothing arrived");
    let spent = sending + receiving + (deferred.spent()? - before);
    Ok(spent.as_secs_f64() * 1e6 / seen as f64)
}

/// Connections a second, one after the other, each with a question and an answer of a byte. The server closes first,
/// so that the client does not run out of ports.
pub fn connections(path: &Path, seconds: f64) -> anyhow::Result<f64> {
    let listener = run_in_netns(&path.far, || TcpListener::bind(any(path, CONNECTIONS)))??;
    let server = thread::spawn(move || -> anyhow::Result<()> {
        let _shared = pin(0, RECEIVER);
        loop {
            let (mut stream, _) = listener.accept()?;
            let mut word = [0];
            stream.read_exact(&mut word)?;
            stream.write_all(&word)?;
            if word[0] != 0 {
                return Ok(());
            }
        }
    });
    let to = SocketAddr::new(path.to, CONNECTIONS);
    let count = run_in_netns(&path.near, || -> anyhow::Result<f64> {
        pin(0, SENDER)?;
        let (begun, mut count) = (Instant::now(), 0);
        loop {
            let last = begun.elapsed().as_secs_f64() >= seconds;
            let mut stream = TcpStream::connect(to)?;
            stream.write_all(&[u8::from(last)])?;
            let mut word = Vec::new();
            stream.read_to_end(&mut word)?;
            count += 1;
            if last {
                return Ok(f64::from(count) / begun.elapsed().as_secs_f64());
            }
        }
    })??;
    server.join().expect("the server does not panic")?;
    Ok(count)
}

fn sockets(path: &Path) -> anyhow::Result<(UdpSocket, UdpSocket)> {
    let (server, client) = datagram_sockets(path)?;
    setsockopt(&server, sockopt::RcvBufForce, &BUFFER).context("a large receive buffer")?;
    server.set_read_timeout(Some(SILENCE))?;
    Ok((server, client))
}

/// Processor time of the calling thread.
fn own_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// The kernel's thread for deferred work of a processor.
struct Ksoftirqd(String);

impl Ksoftirqd {
    fn of(processor: usize) -> anyhow::Result<Ksoftirqd> {
        let wanted = format!("ksoftirqd/{processor}\n");
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let folder = entry.path();
            // A process may end while it is looked at.
            if std::fs::read_to_string(folder.join("comm")).is_ok_and(|name| name == wanted) {
                return Ok(Ksoftirqd(folder.join("schedstat").display().to_string()));
            }
        }
        anyhow::bail!("no kernel thread {}", wanted.trim())
    }

    /// Its first word: nanoseconds on the processor (kernel, Documentation/scheduler/sched-stats.rst).
    fn spent(&self) -> anyhow::Result<Duration> {
        let said = std::fs::read_to_string(&self.0).with_context(|| self.0.clone())?;
        let first = said.split_whitespace().next().context("an empty file")?;
        Ok(Duration::from_nanos(first.parse()?))
    }
}
