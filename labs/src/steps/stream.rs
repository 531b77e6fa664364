//! `traffic`: a stream of datagrams in the background, and what a later step asserts of it.
//!
//! Owns: the streams that run. A stream ends by itself after its duration; what is left of them ends with the steps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Attempt, address_of, subject, until};
use crate::cancel::Cancel;
use crate::command::Lines;
use crate::engine::Running;
use crate::file::Stream;

/// How long a probe waits for stragglers: an answer later than this is lost.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// The streams by name.
#[derive(Debug, Default)]
pub(super) struct Streams(BTreeMap<String, Background>);

#[derive(Debug)]
struct Background {
    stream: Stream,
    lines: Lines,
    /// Once it has ended.
    report: Option<Report>,
}

/// What the probe says at its end.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    sent: u64,
    received: u64,
    lost: u64,
    longest_gap_us: Option<u64>,
    error: Option<String>,
}

/// Begins a stream; it holds when the first answer has come.
pub(super) fn begin(
    running: &Running,
    streams: &mut Streams,
    stream: &Stream,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let address = address_of(running, &stream.to)
        .ok_or_else(|| format!("expected: an address of {}; seen: none", stream.to))?;
    let from = stream.from.to_string();
    let sender = subject::container(running, &from)?;
    let Some(first) = sender.first() else {
        return Err(format!(
            "expected: {from} runs; seen: no process of it; look at: weft ps"
        ));
    };
    let count = || {
        // Without IPv6 there is no file snmp6.
        let ipv6 = sender.proc(first, "net/snmp6").unwrap_or_default();
        datagrams(&sender.proc(first, "net/snmp")?, &ipv6)
    };
    let before = count()?;
    let (traffic, rate) = (stream.traffic.to_string(), stream.rate.to_string());
    let duration = format!("{}ms", stream.duration.as_millis());
    let stragglers = format!("{}ms", STRAGGLERS.as_millis());
    let args = [
        "exec",
        &from,
        "--",
        "/.weft",
        "function",
        "probe",
        &traffic,
        &address,
        "--rate",
        &rate,
        "--duration",
        &duration,
        "--timeout",
        &stragglers,
    ];
    // Its own node holds the way in: another may be killed while the stream goes on.
    let place = running.container(&from).map(|c| c.node.clone());
    let node = place
        .and_then(|name| running.node(&name))
        .unwrap_or(&running.nodes[0]);
    let lines = node
        .weft_lines(&args)
        .map_err(|e| format!("the stream cannot be started: {e}"))?;
    let background = Background {
        stream: stream.clone(),
        lines,
        report: None,
    };
    streams.0.insert(stream.name.clone(), background);
    until(deadline, cancel, || judge_begun(stream, before, count()?))
}

/// UDP datagrams of a network namespace: out and in.
type Datagrams = (u64, u64);

fn datagrams(ipv4: &str, ipv6: &str) -> Result<Datagrams, String> {
    let (sent, received) = udp_of(ipv4).ok_or("the counters have no line Udp")?;
    Ok((
        sent + field6(ipv6, "Udp6OutDatagrams"),
        received + field6(ipv6, "Udp6InDatagrams"),
    ))
}

/// Datagrams in the text of /proc/net/snmp (net/ipv4/proc.c).
fn udp_of(text: &str) -> Option<Datagrams> {
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let field = |name: &str| {
        let at = names.split_whitespace().position(|n| n == name)?;
        values.split_whitespace().nth(at)?.parse::<u64>().ok()
    };
    Some((field("OutDatagrams")?, field("InDatagrams")?))
}

fn field6(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0)
}

fn judge_begun(stream: &Stream, before: Datagrams, now: Datagrams) -> Attempt {
    let sent = now.0.saturating_sub(before.0);
    let received = now.1.saturating_sub(before.1);
    if received > 0 {
        return Ok("answers come".to_owned());
    }
    let Stream {
        from, to, traffic, ..
    } = stream;
    Err(format!(
        "expected: the first answer to stream {}; seen: {sent} datagrams sent, no answer; \
         look at: weft trace live {from} {to} {traffic}, weft drops",
        stream.name
    ))
}

/// Waits for the end of a stream and judges it.
pub(super) fn judge(
    streams: &mut Streams,
    name: &str,
    lost: Option<u64>,
    gap: Option<Duration>,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let Some(background) = streams.0.get_mut(name) else {
        return Err(format!(
            "expected: stream {name} was begun by an earlier step; seen: no such stream; \
             look at: the steps before, --only"
        ));
    };
    let report = ended(background, deadline, cancel)?;
    judge_report(&background.stream, &report, lost, gap)
}

fn ended(
    background: &mut Background,
    deadline: Instant,
    cancel: &Cancel,
) -> Result<Report, String> {
    if let Some(report) = &background.report {
        return Ok(report.clone());
    }
    let Stream { name, from, .. } = &background.stream;
    let report = loop {
        let next = (Instant::now() + super::RETRY_EVERY).min(deadline);
        match background.lines.next(next) {
            Some(line) => {
                if let Ok(report) = serde_json::from_str::<Report>(line.trim()) {
                    break report;
                }
            }
            None if Instant::now() >= deadline || cancel.is_set() => {
                return Err(format!(
                    "expected: stream {name} ends within the step's time; seen: it goes on, or \
                     its sender was killed; look at: weft ps, weft logs {from}"
                ));
            }
            None => {}
        }
    };
    Ok(background.report.insert(report).clone())
}

fn judge_report(
    stream: &Stream,
    report: &Report,
    lost: Option<u64>,
    gap: Option<Duration>,
) -> Attempt {
    let longest = report.longest_gap_us.map(Duration::from_micros);
    let seen = format!(
        "{} of {} lost, longest gap {}",
        report.lost,
        report.sent,
        longest.map_or("unknown".to_owned(), |gap| format!("{gap:?}"))
    );
    let few = lost.is_none_or(|lost| report.lost <= lost);
    let short = gap.is_none_or(|gap| longest.is_some_and(|longest| longest <= gap));
    if few && short && report.received > 0 {
        return Ok(seen);
    }
    let lost = lost.map(|lost| format!("at most {lost} lost"));
    let gap = gap.map(|gap| format!("no gap over {gap:?}"));
    let limits: Vec<String> = lost.into_iter().chain(gap).collect();
    let error = report.error.as_deref().unwrap_or_default();
    let error = if error.is_empty() {
        String::new()
    } else {
        format!(" ({error})")
    };
    let Stream {
        from, to, traffic, ..
    } = stream;
    Err(format!(
        "expected: stream {}: {}; seen: {seen}{error}; look at: weft drops, weft trace live {from} {to} {traffic}",
        stream.name,
        limits.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Target;

    fn stream() -> Stream {
        Stream {
            name: "s".to_owned(),
            from: "red/a".parse().unwrap(),
            to: Target::Container("red/b".parse().unwrap()),
            traffic: "udp/9000".parse().unwrap(),
            rate: 100,
            duration: Duration::from_secs(1),
        }
    }

    fn judged(lost: Option<u64>, gap: Option<u64>) -> Attempt {
        let report = Report {
            sent: 100,
            received: 98,
            lost: 2,
            longest_gap_us: Some(30_500),
            error: None,
        };
        judge_report(&stream(), &report, lost, gap.map(Duration::from_millis))
    }

    #[test]
    fn losses_and_gaps_are_judged_each_by_its_limit() {
        let seen = "2 of 100 lost, longest gap 30.5ms";
        assert_eq!(judged(Some(2), Some(31)), Ok(seen.to_owned()));
        assert_eq!(judged(None, Some(31)), Ok(seen.to_owned()));
        assert_eq!(
            judged(Some(0), None).unwrap_err(),
            "expected: stream s: at most 0 lost; seen: 2 of 100 lost, longest gap 30.5ms; \
             look at: weft drops, weft trace live red/a red/b udp/9000"
        );
        let long = judged(Some(2), Some(30)).unwrap_err();
        assert!(
            long.contains("at most 2 lost, no gap over 30ms; seen"),
            "{long}"
        );
    }

    #[test]
    fn a_stream_without_any_answer_never_holds() {
        let silent = Report {
            sent: 10,
            lost: 10,
            error: Some("refused".to_owned()),
            ..Report::default()
        };
        let limits = (Some(100), Some(Duration::from_secs(9)));
        let why = judge_report(&stream(), &silent, limits.0, limits.1).unwrap_err();
        assert!(
            why.contains("10 of 10 lost, longest gap unknown (refused)"),
            "{why}"
        );
        assert!(judge_report(&stream(), &silent, limits.0, None).is_err());
    }

    #[test]
    fn a_stream_begins_with_its_first_answer() {
        assert!(judge_begun(&stream(), (5, 5), (7, 6)).is_ok());
        assert_eq!(
            judge_begun(&stream(), (5, 5), (7, 5)).unwrap_err(),
            "expected: the first answer to stream s; seen: 2 datagrams sent, no answer; \
             look at: weft trace live red/a red/b udp/9000, weft drops"
        );
    }

    #[test]
    fn a_stream_that_nobody_began_is_told() {
        let soon = Instant::now();
        let none = judge(
            &mut Streams::default(),
            "s",
            Some(0),
            None,
            soon,
            &Cancel::never(),
        );
        assert!(none.unwrap_err().contains("seen: no such stream"));
    }

    #[test]
    fn datagrams_are_counted_as_the_kernel_writes_them() {
        let text =
            "Udp: InDatagrams NoPorts OutDatagrams\nUdp: 4 0 9\nUdpLite: InDatagrams\nUdpLite: 1\n";
        assert_eq!(udp_of(text), Some((9, 4)));
        assert_eq!(udp_of(""), None);
        assert_eq!(field6("Udp6InDatagrams \t 3\n", "Udp6InDatagrams"), 3);
    }
}
