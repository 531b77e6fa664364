//! `weft trace`: packets as the nodes' programs saw them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use weft_agent::proto::{Observation, TraceRequest};
use weft_agent::trace::join;

use super::apply::read_file;
use crate::connect::with_agent;
use crate::fail::{Done, Failure};
use crate::trace::{json, ladder};

/// How long a packet's last observation may be ago before its ladder is printed: nodes send what they saw
/// at once, so this only has to cover the way between them.
const SETTLED: Duration = Duration::from_millis(300);

/// `weft trace ...`
#[derive(Debug, Subcommand)]
pub enum Trace {
    /// Follow live packets between two ends through all nodes.
    Live(Live),
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
    a: String,
    /// The other end: the same, or an address.
    b: String,
    /// tcp/80, udp/53, icmp; any without it.
    #[arg(default_value = "")]
    traffic: String,
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
        Trace::Render { file } => {
            let mut observations = Vec::new();
            for line in read_file(&file)?.lines().filter(|line| !line.trim().is_empty()) {
                let observation = json::parse(line).map_err(|e| {
                    Failure::usage(
                        format!("{}: not an observation: {e}", file.display()),
                        "give it lines that `weft trace live --json` printed",
                    )
                })?;
                observations.extend(observation);
            }
            for found in join(&observations) {
                print!("{}", ladder::draw(&found));
            }
            Ok(0)
        }
    }
}

fn live(host: &str, as_json: bool, live: Live) -> Done {
    let request = TraceRequest {
        a: live.a,
        b: live.b,
        traffic: live.traffic,
        seconds: live.seconds,
        ..TraceRequest::default()
    };
    with_agent(host, async |mut agent| {
        let mut stream = agent.trace(request).await?;
        let mut pending: Vec<Observation> = Vec::new();
        let mut shown = 0;
        let limit = live.count.unwrap_or(usize::MAX);
        loop {
            let next = tokio::time::timeout(SETTLED, stream.message()).await;
            let reply = match next {
                Ok(reply) => reply?,
                Err(_) => {
                    // Nothing came for a while: what is there is complete.
                    shown += print_ladders(&mut pending, limit - shown);
                    if shown >= limit {
                        return Ok(0);
                    }
                    continue;
                }
            };
            let Some(reply) = reply else { break };
            if !reply.listening.is_empty() || !reply.problems.is_empty() {
                if as_json {
                    println!("{}", json::listening(&reply));
                } else {
                    eprintln!("listening on {}", reply.listening.join(", "));
                    reply.problems.iter().for_each(|problem| eprintln!("warning: {problem}"));
                }
            }
            let Some(observation) = reply.observation else { continue };
            if as_json {
                println!("{}", json::observation(&observation));
                shown += usize::from(observation.point == "from_container");
                if shown > limit {
                    return Ok(0);
                }
            } else {
                pending.push(observation);
            }
        }
        print_ladders(&mut pending, limit - shown);
        Ok(0)
    })
}

/// Prints what is pending as ladders; how many.
fn print_ladders(pending: &mut Vec<Observation>, most: usize) -> usize {
    let ladders = join(pending);
    pending.clear();
    for found in ladders.iter().take(most) {
        print!("{}", ladder::draw(found));
    }
    ladders.len().min(most)
}
