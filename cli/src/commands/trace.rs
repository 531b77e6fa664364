//! `weft trace`: packets as the nodes' programs saw them.

mod why;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use weft_agent::proto::{Observation, TraceReply, TraceRequest};
use weft_agent::trace::join;

use super::apply::read_file;
use crate::connect::with_agent;
use crate::fail::{Done, Failure};
use crate::output;
use crate::trace::{json, ladder};

/// How long a packet's last observation may be ago before its ladder is printed: nodes send what they saw
/// at once, so this only has to cover the way between them.
const SETTLED: Duration = Duration::from_millis(300);
/// How often to look for packets that have settled.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `weft trace ...`
#[derive(Debug, Subcommand)]
pub enum Trace {
    /// Follow live packets between two ends through all nodes.
    Live(Live),
    /// Say why a flow does not arrive: its intended way beside what is, and what becomes of a probe.
    Why(why::Why),
    /// Draw the ladders of observations that `live --json` printed.
    #[command(hide = true)]
    Render {
        /// JSON lines.
        file: PathBuf,
    },
}

/// `weft trace live`
#[derive(Debug, Args)]
pub struct Live {
    /// One end: TENANT/CONTAINER or TENANT/NETWORK/ENDPOINT.
    #[arg(value_parser = super::named::end)]
    a: String,
    /// The other end: the same, or an address.
    #[arg(value_parser = super::named::end)]
    b: String,
    /// tcp/80, udp/53, icmp; any without it.
    #[arg(value_parser = super::named::traffic)]
    traffic: Option<String>,
    /// End after so many packets.
    #[arg(long)]
    count: Option<usize>,
    /// End after so many seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

/// Runs it.
pub fn run(host: &str, json: bool, trace: Trace) -> Done {
    match trace {
        Trace::Live(live) => self::live(host, json, live),
        Trace::Why(why) => self::why::run(host, json, why),
        Trace::Render { file } => {
            let mut observations = Vec::new();
            for line in read_file(&file)?
                .lines()
                .filter(|line| !line.trim().is_empty())
            {
                let observation = json::parse(line).map_err(|e| {
                    Failure::usage(
                        format!("{}: not an observation: {e}", file.display()),
                        "give it lines that `weft trace live --json` printed",
                    )
                })?;
                observations.extend(observation);
            }
            for found in join(&observations) {
                print!("{}", ladder::draw(&found, output::colours()));
            }
            Ok(0)
        }
    }
}

fn live(host: &str, as_json: bool, live: Live) -> Done {
    let request = TraceRequest {
        a: live.a,
        b: live.b,
        traffic: live.traffic.unwrap_or_default(),
        seconds: live.seconds,
        ..TraceRequest::default()
    };
    let limit = live.count.unwrap_or(usize::MAX);
    with_agent(host, async |mut agent| {
        let mut stream = agent.trace(request).await?;
        let mut shown = Shown::new(as_json, limit);
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                reply = stream.message() => match reply? {
                    Some(reply) => shown.take(reply),
                    None => break,
                },
                _ = look.tick() => shown.print_settled(Instant::now()),
            }
            if shown.packets >= limit {
                return Ok(0);
            }
        }
        shown.print_all();
        Ok(0)
    })
}

/// What came and was not printed yet, and how many packets were.
struct Shown {
    json: bool,
    limit: usize,
    packets: usize,
    pending: Vec<(Instant, Observation)>,
}

impl Shown {
    fn new(json: bool, limit: usize) -> Shown {
        Shown {
            json,
            limit,
            packets: 0,
            pending: Vec::new(),
        }
    }

    fn take(&mut self, reply: TraceReply) {
        if !reply.listening.is_empty() || !reply.problems.is_empty() {
            if self.json {
                println!("{}", json::listening(&reply));
            } else {
                eprintln!("listening on {}", reply.listening.join(", "));
                reply
                    .problems
                    .iter()
                    .for_each(|problem| eprintln!("warning: {problem}"));
            }
        }
        let Some(observation) = reply.observation else {
            return;
        };
        if self.json {
            println!("{}", json::observation(&observation));
        }
        self.pending.push((Instant::now(), observation));
    }

    /// Prints the packets of which nothing came for a while; others stay, also under steady traffic.
    fn print_settled(&mut self, now: Instant) {
        let key = |o: &Observation| (o.vni, o.identity);
        let mut newest: BTreeMap<(u32, u64), Instant> = BTreeMap::new();
        for (at, observation) in &self.pending {
            let newest = newest.entry(key(observation)).or_insert(*at);
            *newest = (*newest).max(*at);
        }
        let settled = |o: &Observation| now.saturating_duration_since(newest[&key(o)]) >= SETTLED;
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(_, o)| settled(o));
        self.pending = rest;
        self.print(done);
    }

    fn print_all(&mut self) {
        let done = std::mem::take(&mut self.pending);
        self.print(done);
    }

    fn print(&mut self, observations: Vec<(Instant, Observation)>) {
        let observations: Vec<Observation> = observations.into_iter().map(|(_, o)| o).collect();
        for found in join(&observations).iter().take(self.limit - self.packets) {
            self.packets += 1;
            if !self.json {
                print!("{}", ladder::draw(found, output::colours()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(identity: u64) -> Observation {
        Observation {
            identity,
            point: "from_container".into(),
            ..Observation::default()
        }
    }

    #[test]
    fn a_packet_is_shown_when_it_has_settled_though_others_keep_coming() {
        let start = Instant::now();
        let mut shown = Shown::new(true, usize::MAX);
        shown.pending.push((start, observation(1)));
        shown.pending.push((start + SETTLED, observation(2)));
        shown.print_settled(start + SETTLED);
        assert_eq!(shown.packets, 1);
        assert_eq!(shown.pending.len(), 1);
        shown.print_settled(start + SETTLED * 2);
        assert_eq!((shown.packets, shown.pending.len()), (2, 0));
    }

    #[test]
    fn no_more_packets_are_shown_than_were_asked_for() {
        let start = Instant::now();
        let mut shown = Shown::new(true, 1);
        shown
            .pending
            .extend((1..4).map(|identity| (start, observation(identity))));
        shown.print_all();
        assert_eq!(shown.packets, 1);
    }
}
