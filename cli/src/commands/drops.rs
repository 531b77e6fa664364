//! `weft drops`: dropped packets by node and reason.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use weft_agent::proto::DropsReply;

use crate::connect::with_agent;
use crate::fail::Done;
use crate::output;

/// `weft drops`
#[derive(Debug, Args)]
pub struct Drops {
    /// Print what is added, every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

type Counts = BTreeMap<(String, String), u64>;

/// Runs it.
pub fn run(host: &str, json: bool, drops: Drops) -> Done {
    with_agent(host, async |mut agent| {
        let mut before = counts(&agent.drops(false).await?);
        if !drops.watch {
            print(json, &before);
            return Ok(0);
        }
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            let now = counts(&agent.drops(false).await?);
            let added: Counts = now
                .iter()
                .map(|(key, packets)| {
                    (
                        key.clone(),
                        packets.saturating_sub(before.get(key).copied().unwrap_or(0)),
                    )
                })
                .filter(|(_, packets)| *packets > 0)
                .collect();
            if !added.is_empty() {
                print(json, &added);
            }
            before = now;
        }
    })
}

fn counts(reply: &DropsReply) -> Counts {
    for problem in &reply.problems {
        eprintln!("warning: {problem}");
    }
    reply
        .drops
        .iter()
        .map(|d| ((d.node.clone(), d.reason.clone()), d.packets))
        .collect()
}

fn print(json: bool, counts: &Counts) {
    if json {
        for ((node, reason), packets) in counts {
            println!(
                "{}",
                json!({ "node": node, "reason": reason, "packets": packets })
            );
        }
        return;
    }
    let rows = counts
        .iter()
        .map(|((node, reason), packets)| [node.clone(), reason.clone(), packets.to_string()]);
    output::table(["NODE", "REASON", "PACKETS"], rows);
}
