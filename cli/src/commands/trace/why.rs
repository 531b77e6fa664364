//! `weft trace why`: the verdict, the intended way, and what was seen of the probe.

use clap::Args;
use serde_json::{Value, json};
use weft_agent::proto::WhyRequest;
use weft_agent::trace::join;
use weft_agent::why::{Cause, Verdict};

use crate::connect::with_agent;
use crate::fail::{Done, Failure};
use crate::output;
use crate::trace::{json as lines, ladder};

/// Packets whose ladders are drawn.
const SHOWN: usize = 4;

/// `weft trace why`
#[derive(Debug, Args)]
pub struct Why {
    /// The sender: TENANT/CONTAINER or TENANT/NETWORK/ENDPOINT. A probe is sent from its network.
    #[arg(value_parser = super::super::named::end)]
    a: String,
    /// The receiver: the same, or an address.
    #[arg(value_parser = super::super::named::end)]
    b: String,
    /// tcp/80, udp/53 or icmp.
    #[arg(value_parser = super::super::named::traffic)]
    traffic: String,
}

/// Runs it; exit code 1 when something hinders the flow.
pub fn run(host: &str, as_json: bool, why: Why) -> Done {
    let request = WhyRequest {
        a: why.a,
        b: why.b,
        traffic: why.traffic,
    };
    with_agent(host, async |mut agent| {
        let reply = agent.why(request).await?;
        let verdict: Verdict = serde_json::from_str(&reply.verdict).map_err(|e| {
            Failure::new(
                format!("trace why: the agent's answer cannot be read: {e}"),
                "use the same version of weft as the agent",
            )
        })?;
        let arrives = verdict.cause == Cause::Arrives;
        if as_json {
            let seen: Vec<Value> = reply.seen.iter().map(lines::observation).collect();
            let mut told = json!(verdict);
            told["intended"] = json!(reply.intended);
            told["seen"] = json!(seen);
            told["problems"] = json!(reply.problems);
            println!("{told}");
            return Ok(u8::from(!arrives));
        }
        for problem in &reply.problems {
            eprintln!("warning: {problem}");
        }
        println!("intended:");
        reply.intended.iter().for_each(|line| println!("  {line}"));
        println!("seen:");
        let packets = join(&reply.seen);
        for found in packets.iter().take(SHOWN) {
            print!("{}", ladder::draw(found, output::colours()));
        }
        if packets.is_empty() {
            println!("  nothing");
        }
        if arrives {
            println!("It arrives: {}.", verdict.says);
        } else {
            println!("cause: {}", verdict.says);
            println!("help: {}", verdict.help);
        }
        Ok(u8::from(!arrives))
    })
}
