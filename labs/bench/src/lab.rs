//! `lab`: the links of a whole lab on namespaces, measured from its nodes.
//!
//! An unimpaired link is a veth pair; one that is impaired, captured or touched passes the relay. Beside the relay stands
//! that pair, and beside each impairment what was asked for and, where this kernel has it, `tc` on the bare link.

use std::path::Path as File;

use weft_labs::relay::{Direction, Request, Way};

use crate::Effort;
use crate::cluster::Cluster;
use crate::figures::{median, part};
use crate::row::{Goal, Row, Title, against, beside, whole_against};
use crate::traffic::{HEADERS, Path, datagrams, not_taken, pin, questions, stream, unpin};

const LAB: &str = include_str!("lab.toml");
const BARE: u8 = 2;
const RELAYED: u8 = 3;
const DELAYED: u8 = 4;
const LOSSY: u8 = 5;
const SLOW: u8 = 6;
/// Frame by frame, and at last cut.
const JUDGED: u8 = 7;
/// Questions of a run where an answer takes microseconds, and where it takes milliseconds.
const QUESTIONS: (usize, usize) = (2000, 20);
/// Datagrams over which the loss is taken, in lots that fit into all queues.
const DATAGRAMS: u64 = 100_000;
const LOTS: u64 = 20;
/// Datagrams a second that no queue on the way minds.
const CALM: f64 = 20_000.0;
/// How often a lot is sent anew that the machine itself did not take.
const TRIES: usize = 5;
/// 1500 bytes as frames.
const FULL: usize = 1500 - HEADERS;
/// Frames a second: 1.5 times what the slow link carries.
const FLOOD: f64 = 12_500.0;

/// All cases.
pub fn run(weft: &File, effort: Effort) -> anyhow::Result<Vec<Row>> {
    let cluster = Cluster::up(weft, LAB)?;
    let mut rows = throughput(&cluster, effort)?;
    rows.extend(latency(&cluster, effort)?);
    rows.extend(delay(&cluster, effort)?);
    rows.extend(loss(&cluster)?);
    rows.extend(rate(&cluster, effort)?);
    rows.push(cut(&cluster)?);
    Ok(rows)
}

fn title(case: &'static str, metric: &'static str, unit: &'static str) -> Title {
    ("lab", case, metric, unit)
}

fn to(cluster: &Cluster, number: u8) -> anyhow::Result<Path> {
    Ok(Path {
        near: cluster.netns("n1")?,
        far: cluster.netns(&format!("n{number}"))?,
        to: cluster.address(number),
    })
}

/// Runs both in turn, and which is first changes each time.
fn pairs<T>(
    count: usize,
    mut first: impl FnMut() -> anyhow::Result<T>,
    mut second: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(Vec<T>, Vec<T>)> {
    let mut all = (Vec::new(), Vec::new());
    for round in 0..count {
        if round % 2 == 0 {
            all.0.push(first()?);
            all.1.push(second()?);
        } else {
            all.1.push(second()?);
            all.0.push(first()?);
        }
    }
    Ok(all)
}

fn throughput(cluster: &Cluster, effort: Effort) -> anyhow::Result<Vec<Row>> {
    let bare = to(cluster, BARE)?;
    let mut rows = Vec::new();
    for (case, number) in [("relay", RELAYED), ("relay, frames", JUDGED)] {
        let relayed = to(cluster, number)?;
        let run = |path| move || stream(path, effort.seconds);
        let (relay, veth) = pairs(effort.pairs, run(&relayed), run(&bare))?;
        let title = title(case, "tcp_1", "Gbit/s");
        rows.push(beside(title, &relay, &veth, "veth"));
        rows.push(against(title, &relay, Goal::AtLeast(1.0)));
    }
    Ok(rows)
}

/// Who asks and who answers on one processor, the relay with them or on another one.
fn latency(cluster: &Cluster, effort: Effort) -> anyhow::Result<Vec<Row>> {
    let (bare, relayed) = (to(cluster, BARE)?, to(cluster, RELAYED)?);
    let relay = cluster.relay_process()?;
    let mut rows = Vec::new();
    for (case, processor) in [("relay, one cpu", 0), ("relay, two cpus", 1)] {
        // With a single processor there is no other one.
        if pin(relay, processor).is_err() {
            continue;
        }
        let run = |path| move || questions(path, QUESTIONS.0, Some([0; 2]));
        let all = pairs(effort.pairs, run(&relayed), run(&bare))?;
        let at = |runs: &[Vec<f64>], of| -> Vec<f64> {
            runs.iter().map(|times| part(times, of)).collect()
        };
        let (through, veth) = (at(&all.0, 0.5), at(&all.1, 0.5));
        rows.push(beside(
            title(case, "rtt_p50", "us"),
            &through,
            &veth,
            "veth",
        ));
        let added = half_of_difference(&through, &veth, 1.0);
        let goal = Goal::AtMost(100.0);
        rows.push(against(title(case, "added", "us"), &added, goal));
        let (through, veth) = (at(&all.0, 0.99), at(&all.1, 0.99));
        rows.push(beside(
            title(case, "rtt_p99", "us"),
            &through,
            &veth,
            "veth",
        ));
    }
    unpin(relay)?;
    Ok(rows)
}

fn delay(cluster: &Cluster, effort: Effort) -> anyhow::Result<Vec<Row>> {
    let (bare, delayed) = (to(cluster, BARE)?, to(cluster, DELAYED)?);
    let run =
        |path| move || -> anyhow::Result<f64> { Ok(median(&questions(path, QUESTIONS.1, None)?)) };
    let (there, here) = pairs(effort.pairs, run(&delayed), run(&bare))?;
    let title = title("delay 5 ms", "one_way", "ms");
    let ours = half_of_difference(&there, &here, 1000.0);
    let mut rows = vec![against(title, &ours, Goal::Near(5.0, 0.1))];
    if let Some(_tc) = tc(cluster, &["netem", "delay", "5ms"], &["n1", "n2"]) {
        let (there, netem) = pairs(effort.pairs, run(&delayed), run(&bare))?;
        let halves = |times: &[f64]| times.iter().map(|us| us / 2000.0).collect::<Vec<_>>();
        rows.push(beside(title, &halves(&there), &halves(&netem), "netem"));
    }
    Ok(rows)
}

fn half_of_difference(of: &[f64], less: &[f64], by: f64) -> Vec<f64> {
    let pairs = of.iter().zip(less);
    pairs.map(|(of, less)| (of - less) / 2.0 / by).collect()
}

fn loss(cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    let title = title("loss 1 %", "lost", "%");
    let measure = |path: &Path| -> anyhow::Result<Vec<f64>> {
        (0..LOTS).map(|_| lot(path, DATAGRAMS / LOTS)).collect()
    };
    let ours = measure(&to(cluster, LOSSY)?)?;
    let mut rows = vec![whole_against(title, &ours, Goal::Near(1.0, 0.2))];
    if let Some(_tc) = tc(cluster, &["netem", "loss", "1%"], &["n1"]) {
        let netem = measure(&to(cluster, BARE)?)?;
        rows.push(beside(title, &ours, &netem, "netem"));
    }
    Ok(rows)
}

/// Per cent of a lot that chance lost. A lot that a full queue of the machine lost something of is sent anew.
fn lot(path: &Path, count: u64) -> anyhow::Result<f64> {
    for _ in 0..TRIES {
        let full = || anyhow::Ok(not_taken(&path.near)? + not_taken(&path.far)?);
        let before = full()?;
        let arrived = datagrams(path, count, 8, CALM)?;
        if full()? == before {
            let lost = arrived.sent - arrived.seen;
            return Ok(lost as f64 / arrived.sent as f64 * 100.0);
        }
    }
    anyhow::bail!(
        "{TRIES} lots in a row met a full queue: the machine is too busy to measure a loss"
    )
}

fn rate(cluster: &Cluster, effort: Effort) -> anyhow::Result<Vec<Row>> {
    let (bare, slow) = (to(cluster, BARE)?, to(cluster, SLOW)?);
    let count = (FLOOD * (effort.seconds + 0.3)) as u64;
    let run = |path| {
        move || -> anyhow::Result<f64> {
            Ok(datagrams(path, count, FULL, FLOOD)?.bits_a_second / 1e6)
        }
    };
    let title = title("rate 100 Mbit/s", "udp", "Mbit/s");
    let goal = Goal::Near(100.0, 0.05);
    let shape = ["tbf", "rate", "100mbit", "burst", "16kb", "latency", "20ms"];
    let Some(_tc) = tc(cluster, &shape, &["n1"]) else {
        let ours: anyhow::Result<Vec<f64>> = (0..effort.pairs).map(|_| run(&slow)()).collect();
        return Ok(vec![against(title, &ours?, goal)]);
    };
    let (ours, tbf) = pairs(effort.pairs, run(&slow), run(&bare))?;
    Ok(vec![
        against(title, &ours, goal),
        beside(title, &ours, &tbf, "tbf"),
    ])
}

/// Of 100 datagrams one way some arrive, and of 100 the other way none.
fn cut(cluster: &Cluster) -> anyhow::Result<Row> {
    let request = Request::Cut {
        link: format!("n1+n{JUDGED}"),
        direction: Some(Direction {
            node: format!("n{JUDGED}"),
            way: Way::From,
        }),
    };
    let path = to(cluster, JUDGED)?;
    // So that the neighbour is known: it cannot answer who it is any more.
    questions(&path, 1, None)?;
    let mut relay = cluster.relay()?;
    relay.ask(&request).map_err(|e| anyhow::anyhow!("{e}"))?;
    let there = datagrams(&path, 100, 8, 1000.0)?.seen as f64;
    let back = Path {
        near: cluster.netns(&format!("n{JUDGED}"))?,
        far: cluster.netns("n1")?,
        to: cluster.address(1),
    };
    let here = datagrams(&back, 100, 8, 1000.0)?;
    anyhow::ensure!(there > 0.0, "nothing of what n1 sends arrives");
    let title = title("one-way cut", "withheld", "frames");
    let withheld = (here.sent - here.seen) as f64;
    Ok(against(title, &[withheld], Goal::AtLeast(100.0)))
}

/// A queueing discipline on the bare link's device of these nodes, for as long as it is held.
struct Tc<'a>(&'a Cluster, Vec<String>);

/// None where this kernel lacks it.
fn tc<'a>(cluster: &'a Cluster, kind: &[&str], nodes: &[&str]) -> Option<Tc<'a>> {
    let mut held = Tc(cluster, Vec::new());
    for node in nodes {
        let line = [&["tc", "qdisc", "add", "dev", "eth0", "root"], kind].concat();
        if let Err(error) = cluster.exec(node, &line) {
            eprintln!("not measured beside {}: {error:#}", kind[0]);
            return None;
        }
        held.1.push((*node).to_owned());
    }
    Some(held)
}

impl Drop for Tc<'_> {
    fn drop(&mut self) {
        for node in &self.1 {
            let line = ["tc", "qdisc", "del", "dev", "eth0", "root"];
            if let Err(error) = self.0.exec(node, &line) {
                eprintln!("{error:#}");
            }
        }
    }
}
