//! What is sent from one network namespace to another: a TCP stream, questions one after the other, datagrams at a rate.
//!
//! Sockets are made inside; threads of this process then use them, so that no program has to be started in between.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use weft_overlay::netns::run_in_netns;

/// Any free port of a node that has only its agent.
const PORT: u16 = 9000;
/// One write.
const BLOCK: usize = 128 << 10;
/// A stream's first part, in which its window opens, does not count.
const WARM: Duration = Duration::from_millis(200);
/// Nothing more comes after this long.
const SILENCE: Duration = Duration::from_millis(300);
/// Holds a whole lot of datagrams, so that a late reader loses none.
const BUFFER: usize = 32 << 20;
/// Before and after a datagram's payload: Ethernet, IPv4, UDP.
pub const HEADERS: usize = 14 + 20 + 8;
/// The way of a datagram's number.
const NUMBER: usize = 8;

/// From whom to whom.
pub struct Path {
    pub near: OwnedFd,
    pub far: OwnedFd,
    pub to: IpAddr,
}

/// What came of datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    pub sent: u64,
    pub seen: u64,
    /// Bytes of frames a second, from the first one to the last one after the warm part.
    pub bits_a_second: f64,
}

/// Keeps a thread, or a process of one, on a processor; zero is this thread.
pub fn pin(pid: i32, processor: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(pid), &set).context("keep a thread on a processor")
}

/// Lets a process of one thread have all processors again.
pub fn unpin(pid: i32) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    let processors = thread::available_parallelism()?.get();
    (0..processors).try_for_each(|processor| set.set(processor))?;
    sched_setaffinity(Pid::from_raw(pid), &set).context("let a process have all processors")
}

/// Gbit a second of one TCP stream, as its receiver sees it.
pub fn stream(path: &Path, seconds: f64) -> anyhow::Result<f64> {
    stream_at(path, PORT, seconds)
}

/// The same at a port of its own, for several at once.
pub fn stream_at(path: &Path, port: u16, seconds: f64) -> anyhow::Result<f64> {
    let listener = run_in_netns(&path.far, || TcpListener::bind(any(path, port)))??;
    let to = SocketAddr::new(path.to, port);
    let mut client = run_in_netns(&path.near, || TcpStream::connect(to))??;
    // The default of some machines paces itself and hides the path.
    let cubic = OsString::from("cubic");
    setsockopt(&client, sockopt::TcpCongestion, &cubic).context("congestion control cubic")?;
    let (mut server, _) = listener.accept()?;
    let whole = WARM + Duration::from_secs_f64(seconds);
    let sender = thread::spawn(move || -> std::io::Result<()> {
        let (block, begun) = (vec![0; BLOCK], Instant::now());
        while begun.elapsed() < whole {
            client.write_all(&block)?;
        }
        Ok(())
    });
    let mut buffer = vec![0; BLOCK];
    let begun = Instant::now();
    // When counting began and how much has come since.
    let mut counted: Option<(Instant, usize)> = None;
    let mut last = begun;
    loop {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        last = Instant::now();
        match &mut counted {
            Some((_, bytes)) => *bytes += read,
            None if last - begun >= WARM => counted = Some((last, 0)),
            None => {}
        }
    }
    sender.join().expect("the sender does not panic")?;
    let (since, bytes) = counted.context("the stream ended at once")?;
    Ok(bytes as f64 * 8.0 / (last - since).as_secs_f64() / 1e9)
}

/// Times of questions and their answers, one after the other, in microseconds; who asks and who answers on processors
/// of theirs, or anywhere.
pub fn questions(
    path: &Path,
    count: usize,
    processors: Option<[usize; 2]>,
) -> anyhow::Result<Vec<f64>> {
    let at = move |end: usize| processors.map_or(Ok(()), |processors| pin(0, processors[end]));
    let (server, client) = datagram_sockets(path)?;
    server.set_read_timeout(Some(SILENCE))?;
    let echo = thread::spawn(move || -> anyhow::Result<()> {
        at(1)?;
        let mut buffer = [0; 2048];
        loop {
            match server.recv_from(&mut buffer) {
                // Who asks is done.
                Ok((0, _)) => return Ok(()),
                Ok((len, from)) => server.send_to(&buffer[..len], from).map(drop)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    });
    let ask = thread::spawn(move || -> anyhow::Result<Vec<f64>> {
        at(0)?;
        client.set_read_timeout(Some(SILENCE))?;
        let mut buffer = [0; NUMBER];
        let mut once = |number: usize| -> anyhow::Result<f64> {
            let begun = Instant::now();
            client.send(&number.to_le_bytes())?;
            client.recv(&mut buffer).context("no answer")?;
            Ok(begun.elapsed().as_secs_f64() * 1e6)
        };
        // The first ones look for neighbours and wake caches.
        for number in 0..count / 10 + 1 {
            once(number)?;
        }
        let times = (0..count).map(once).collect();
        client.send(&[])?;
        times
    });
    let times = ask.join().expect("who asks does not panic");
    echo.join().expect("who answers does not panic")?;
    times
}

/// Sends datagrams of a size at a rate (a second), and counts what arrives.
pub fn datagrams(path: &Path, count: u64, size: usize, rate: f64) -> anyhow::Result<Arrived> {
    let (server, client) = datagram_sockets(path)?;
    setsockopt(&server, sockopt::RcvBufForce, &BUFFER).context("a large receive buffer")?;
    server.set_read_timeout(Some(SILENCE))?;
    let receiver = thread::spawn(move || receive(&server));
    let (mut sent, begun) = (0, Instant::now());
    let mut payload = vec![0; size.max(NUMBER)];
    while sent < count {
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        while sent < due.min(count) {
            payload[..NUMBER].copy_from_slice(&sent.to_le_bytes());
            match client.send(&payload) {
                Ok(_) => {}
                // The other end is not there any more: its answer to the datagram before.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            }
            sent += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let (seen, frames, took) = receiver.join().expect("the receiver does not panic")?;
    let bits = (frames * (size + HEADERS) as u64 * 8) as f64;
    Ok(Arrived {
        sent,
        seen,
        bits_a_second: bits / took.as_secs_f64(),
    })
}

/// Until nothing comes: how many in all, and after the warm part how many in which time.
fn receive(server: &UdpSocket) -> std::io::Result<(u64, u64, Duration)> {
    let mut buffer = [0; 2048];
    let (mut seen, mut counted) = (0, 0);
    let mut times: Option<(Instant, Instant)> = None;
    loop {
        match server.recv(&mut buffer) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        let (first, _) = *times.get_or_insert((now, now));
        seen += 1;
        if now - first >= WARM {
            counted += 1;
        }
        times = Some((first, now));
    }
    let took = times.map_or(Duration::ZERO, |(first, last)| {
        last.saturating_duration_since(first + WARM)
    });
    Ok((seen, counted, took))
}

/// All addresses of the path's family.
pub fn any(path: &Path, port: u16) -> SocketAddr {
    let all: IpAddr = match path.to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(all, port)
}

/// A server's in the far namespace, and a client's in the near one that knows it.
pub fn datagram_sockets(path: &Path) -> anyhow::Result<(UdpSocket, UdpSocket)> {
    let server = run_in_netns(&path.far, || UdpSocket::bind(any(path, PORT)))??;
    let client = run_in_netns(&path.near, || UdpSocket::bind(any(path, 0)))??;
    client.connect(SocketAddr::new(path.to, PORT))?;
    Ok((server, client))
}

/// Frames that the devices of a namespace did not pass on because a queue was full (/proc/net/dev, column `drop` of what
/// is sent), and datagrams for which a socket had no room (/proc/net/snmp, `RcvbufErrors`).
pub fn not_taken(namespace: &OwnedFd) -> anyhow::Result<u64> {
    let (devices, protocols) = run_in_netns(namespace, || {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        (read("dev"), read("snmp"))
    })?;
    let field = |line: &str, at: usize| line.split_whitespace().nth(at)?.parse::<u64>().ok();
    let devices = devices?;
    let lines = devices.lines().filter_map(|line| line.split_once(':'));
    let dropped: u64 = lines.filter_map(|(_, counts)| field(counts, 11)).sum();
    let protocols = protocols?;
    let mut udp = protocols.lines().filter(|line| line.starts_with("Udp:"));
    Ok(dropped + udp.nth(1).and_then(|line| field(line, 5)).unwrap_or(0))
}
