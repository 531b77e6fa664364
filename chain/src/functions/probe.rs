//! Asks an address once or often and says what came back, as one JSON line.
//!
//! - TCP: connects, reads the name that `serve` gives, and with a size sends that many bytes and
//!   compares what comes back.
//! - UDP: a datagram with a number, and waits for its answer; with a rate it sends at that rate for a
//!   time and counts which numbers never came back.
//! - ICMP: echo requests by a ping socket, which needs no privilege where the namespace's
//!   `ping_group_range` allows it.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use serde::{Deserialize, Serialize};

use super::{FunctionError, system, unspecified};
use crate::traffic::{Protocol, Traffic};

/// How a probe asks.
#[derive(Clone, Debug)]
pub struct ProbeArgs {
    /// `tcp/80`, `udp/53` or `icmp`.
    pub traffic: Traffic,
    /// Whom.
    pub address: IpAddr,
    /// How long each answer may take.
    pub timeout: Duration,
    /// How often, without a rate.
    pub count: u32,
    /// Time between two, without a rate.
    pub interval: Duration,
    /// Bytes of payload: of each datagram or echo, or of the whole TCP exchange.
    pub size: usize,
    /// UDP: datagrams a second; needs `duration`.
    pub rate: Option<u32>,
    /// UDP: for how long with a rate.
    pub duration: Duration,
}

impl ProbeArgs {
    /// One question with usual limits.
    pub fn new(traffic: Traffic, address: IpAddr) -> ProbeArgs {
        ProbeArgs {
            traffic,
            address,
            timeout: Duration::from_secs(2),
            count: 1,
            interval: Duration::from_millis(200),
            size: 0,
            rate: None,
            duration: Duration::from_secs(1),
        }
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Every question was answered, and rightly. With a rate: any was.
    pub ok: bool,
    /// Questions.
    pub sent: u64,
    /// Answers, each question's first.
    pub received: u64,
    /// Questions without answer.
    pub lost: u64,
    /// Answers beyond the first to one question.
    pub duplicates: u64,
    /// Who answered, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Time from question to answer, half of them faster, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us_p50: Option<u64>,
    /// The same, 99 of 100 faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us_p99: Option<u64>,
    /// TCP with a size: payload sent and compared, bits a second, both ways together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_second: Option<u64>,
    /// UDP with a rate: the longest time without an answer, microseconds, from the first datagram to the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_gap_us: Option<u64>,
    /// Why the last question failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Asks. An error is one of the probe itself; silence is a report that is not ok.
pub fn probe(args: &ProbeArgs) -> Result<ProbeReport, FunctionError> {
    let unsuitable = |cause| FunctionError::Unsuitable {
        function: "probe",
        traffic: args.traffic,
        cause,
    };
    let port = match args.traffic.protocol() {
        Protocol::Icmp => 0,
        _ => args
            .traffic
            .port()
            .ok_or_else(|| unsuitable("name one TCP or UDP port, or icmp"))?,
    };
    let to = SocketAddr::new(args.address, port);
    match (args.traffic.protocol(), args.rate) {
        (Protocol::Udp, Some(rate)) if rate > 0 => stream(args, to, rate),
        (_, Some(_)) => Err(unsuitable("a rate above 0 goes with UDP only")),
        (Protocol::Tcp, None) => Ok(repeat(args, |_| connect(args, to))),
        (Protocol::Udp, None) => {
            let socket = datagrams(to).map_err(system("make a UDP socket"))?;
            Ok(repeat(args, |number| exchange(args, &socket, number, 0)))
        }
        _ => {
            let socket = echoes(to).map_err(system("make a ping socket"))?;
            Ok(repeat(args, |number| exchange(args, &socket, number, 8)))
        }
    }
}

/// What one question brought.
struct Answer {
    who: Option<String>,
    bits_per_second: Option<u64>,
}

fn repeat(args: &ProbeArgs, mut ask: impl FnMut(u32) -> io::Result<Answer>) -> ProbeReport {
    let mut report = ProbeReport::default();
    let mut times = Vec::new();
    for number in 0..args.count {
        if number > 0 {
            thread::sleep(args.interval);
        }
        report.sent += 1;
        let start = Instant::now();
        match ask(number) {
            Ok(answer) => {
                report.received += 1;
                times.push(start.elapsed());
                report.answer = answer.who.or(report.answer);
                report.bits_per_second = answer.bits_per_second.or(report.bits_per_second);
            }
            Err(error) => report.error = Some(words(&error)),
        }
    }
    finish(report, times, args.count > 0)
}

fn finish(mut report: ProbeReport, mut times: Vec<Duration>, all: bool) -> ProbeReport {
    report.lost = report.sent - report.received.min(report.sent);
    report.ok = report.received > 0 && (!all || report.lost == 0);
    times.sort_unstable();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().checked_sub(1)?);
        u64::try_from(times[place].as_micros()).ok()
    };
    (report.rtt_us_p50, report.rtt_us_p99) = (at(50), at(99));
    report
}

fn silent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        _ if silent(error) => "no answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "closed before it answered".to_owned(),
        _ => error.to_string(),
    }
}

/// Payload that shows when bytes are lost, swapped or repeated.
fn pattern(at: usize) -> u8 {
    // Not periodic with any power of two, so that a missing segment shifts it.
    ((at / 251) ^ (at % 251)) as u8
}

fn connect(args: &ProbeArgs, to: SocketAddr) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, args.timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(args.timeout))?;
    stream.set_write_timeout(Some(args.timeout))?;
    let mut reader = BufReader::with_capacity(256 << 10, stream.try_clone()?);
    let mut line = String::new();
    // A server of another kind may wait for the client or send anything: connected is answered.
    match reader.by_ref().take(256).read_line(&mut line) {
        Ok(_) => {}
        Err(error) if args.size == 0 && silent(&error) => line.clear(),
        Err(error) => return Err(error),
    }
    let who = Some(line.trim().to_owned()).filter(|who| !who.is_empty());
    if args.size == 0 {
        return Ok(Answer {
            who,
            bits_per_second: None,
        });
    }
    let start = Instant::now();
    let size = args.size;
    let sender = thread::spawn(move || -> io::Result<()> {
        let mut chunk = vec![0; 128 << 10];
        let mut at = 0;
        while at < size {
            let length = chunk.len().min(size - at);
            chunk[..length]
                .iter_mut()
                .enumerate()
                .for_each(|(i, byte)| *byte = pattern(at + i));
            stream.write_all(&chunk[..length])?;
            at += length;
        }
        Ok(())
    });
    let compared = compare(&mut reader, size);
    let sent = sender
        .join()
        .map_err(|_| io::Error::other("the sending thread failed"))?;
    compared.and(sent)?;
    let bits = (size as u128) * 16 * 1_000_000 / start.elapsed().as_micros().max(1);
    Ok(Answer {
        who,
        bits_per_second: u64::try_from(bits).ok(),
    })
}

fn compare(reader: &mut impl BufRead, size: usize) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let got = reader.fill_buf()?;
        if got.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = got.len().min(size - at);
        if let Some(wrong) = (0..length).find(|i| got[*i] != pattern(at + i)) {
            let place = at + wrong;
            return Err(io::Error::other(format!("byte {place} came back changed")));
        }
        reader.consume(length);
        at += length;
    }
    Ok(())
}

fn datagrams(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(unspecified(to.ip()), 0))?;
    super::buffers::enlarge(&socket);
    socket.connect(to)?;
    Ok(socket)
}

/// A ping socket; it speaks datagrams that begin with an echo request's header.
fn echoes(to: SocketAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = match to {
        SocketAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        SocketAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let fd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
    let socket = UdpSocket::from(fd);
    socket.connect(to)?;
    Ok(socket)
}

/// The question with this number: `header` bytes of ICMP (0 for UDP), the number, and padding.
fn question(args: &ProbeArgs, number: u32, header: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; header + args.size.max(4)];
    if header > 0 {
        // RFC 792 and RFC 4443 section 4.1; identifier and checksum are the kernel's.
        bytes[0] = if args.address.is_ipv4() { 8 } else { 128 };
        let [_, _, high, low] = number.to_be_bytes();
        (bytes[6], bytes[7]) = (high, low);
    }
    bytes[header..header + 4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number in an answer, and who gave it.
fn answered(bytes: &[u8], header: usize) -> Option<(u32, Option<String>)> {
    let (who, body) = match header {
        0 => {
            let end = bytes.iter().position(|b| *b == b'\n')?;
            let who = String::from_utf8_lossy(&bytes[..end]).into_owned();
            (Some(who), &bytes[end + 1..])
        }
        _ => (None, bytes.get(header..)?),
    };
    Some((u32::from_be_bytes(body.get(..4)?.try_into().ok()?), who))
}

fn exchange(
    args: &ProbeArgs,
    socket: &UdpSocket,
    number: u32,
    header: usize,
) -> io::Result<Answer> {
    socket.send(&question(args, number, header))?;
    let deadline = Instant::now() + args.timeout;
    let mut buffer = vec![0; 66_000];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        match answered(&buffer[..length], header) {
            // The answer to an earlier question that was given up.
            Some((other, _)) if other != number => {}
            Some((_, who)) => {
                return Ok(Answer {
                    who,
                    bits_per_second: None,
                });
            }
            // A UDP server of another kind: its first line.
            None => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let who = text.lines().next().map(str::to_owned);
                return Ok(Answer {
                    who,
                    bits_per_second: None,
                });
            }
        }
    }
}

/// Sends at a rate, receives beside it, and waits for stragglers.
fn stream(args: &ProbeArgs, to: SocketAddr, rate: u32) -> Result<ProbeReport, FunctionError> {
    let socket = datagrams(to).map_err(system("make a UDP socket"))?;
    let receiver = socket.try_clone().map_err(system("share a UDP socket"))?;
    let total = (args.duration.as_secs_f64() * f64::from(rate))
        .round()
        .max(1.0) as u32;
    let start = Instant::now();
    let gap = Duration::from_secs(1) / rate;
    let until = start + gap * total + args.timeout;
    let collector = thread::spawn(move || collect(&receiver, total, start, gap, until));
    let mut report = ProbeReport::default();
    for number in 0..total {
        let due = start + gap * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        report.sent += 1;
        // A refusal (ICMP error of an earlier datagram) is a lost datagram, not the end.
        if let Err(error) = socket.send(&question(args, number, 0)) {
            report.error = Some(words(&error));
        }
    }
    let failed = |_| system("collect the answers")(io::Error::other("the thread failed"));
    let got = collector.join().map_err(failed)?;
    report.received = got.seen.len() as u64;
    report.duplicates = got.duplicates;
    report.answer = got.who;
    let sending = gap * total;
    let longest = longest_gap(&got.arrivals, sending);
    report.longest_gap_us = u64::try_from(longest.as_micros()).ok();
    Ok(finish(report, got.times, false))
}

#[derive(Default)]
struct Collected {
    seen: HashSet<u32>,
    duplicates: u64,
    who: Option<String>,
    times: Vec<Duration>,
    /// When each first answer came, from the start.
    arrivals: Vec<Duration>,
}

/// The longest time without an arrival between the start and `end`; arrivals are in order.
fn longest_gap(arrivals: &[Duration], end: Duration) -> Duration {
    let mut last = Duration::ZERO;
    let mut longest = Duration::ZERO;
    for arrival in arrivals.iter().copied().chain([end]) {
        longest = longest.max(arrival.saturating_sub(last));
        last = arrival;
    }
    longest
}

fn collect(
    socket: &UdpSocket,
    total: u32,
    start: Instant,
    gap: Duration,
    until: Instant,
) -> Collected {
    let mut got = Collected::default();
    let mut buffer = vec![0; 66_000];
    while got.seen.len() < total as usize {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            break;
        }
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        let Some((number, who)) = answered(&buffer[..length], 0) else {
            continue;
        };
        if !got.seen.insert(number) {
            got.duplicates += 1;
            continue;
        }
        got.who = who.or(got.who);
        let now = Instant::now();
        got.arrivals.push(now.saturating_duration_since(start));
        got.times
            .push(now.saturating_duration_since(start + gap * number));
    }
    got
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_from_the_start_and_to_the_end() {
        let ms = Duration::from_millis;
        let arrivals = [ms(10), ms(20), ms(90), ms(100)];
        assert_eq!(longest_gap(&arrivals, ms(110)), ms(70));
        assert_eq!(longest_gap(&arrivals, ms(300)), ms(200));
        assert_eq!(longest_gap(&[ms(150)], ms(160)), ms(150));
        assert_eq!(longest_gap(&[], ms(500)), ms(500));
        // A straggler after the last datagram is late, but its own answer's gap counts.
        assert_eq!(longest_gap(&[ms(10), ms(600)], ms(500)), ms(590));
    }
}
