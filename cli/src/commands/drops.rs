//! `weft drops`: dropped packets by node, tenant, network and reason.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use weft_agent::overlay::TenantName;
use weft_agent::proto::{DropCount, DropsReply};

use crate::connect::with_agent;
use crate::fail::Done;
use crate::output;

/// `weft drops`
#[derive(Debug, Args)]
pub struct Drops {
    /// Only packets of this tenant's networks.
    tenant: Option<TenantName>,
    /// Print what is added, every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

/// Who dropped whose packets, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    node: String,
    whose: Whose,
    reason: String,
}

/// Whose packets they were.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    /// A network's, by its tenant and name.
    Network(String, String),
    /// Those of a network that no document names.
    Unnamed(String),
    /// Of no network that is on the node.
    Node,
    /// Of networks that left the node since, or not counted by network.
    Gone,
}

type Counts = BTreeMap<Row, u64>;

/// Runs it.
pub fn run(host: &str, json: bool, drops: Drops) -> Done {
    with_agent(host, async |mut agent| {
        let tenant = drops.tenant.as_ref().map(ToString::to_string);
        let mut before = counts(&agent.drops(false).await?, tenant.as_deref());
        if !drops.watch {
            print(json, &before);
            return Ok(0);
        }
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            let now = counts(&agent.drops(false).await?, tenant.as_deref());
            let added = added(&before, &now);
            if !added.is_empty() {
                print(json, &added);
            }
            before = now;
        }
    })
}

fn added(before: &Counts, now: &Counts) -> Counts {
    now.iter()
        .map(|(row, packets)| {
            let known = before.get(row).copied().unwrap_or(0);
            (row.clone(), packets.saturating_sub(known))
        })
        .filter(|(_, packets)| *packets > 0)
        .collect()
}

fn counts(reply: &DropsReply, tenant: Option<&str>) -> Counts {
    for problem in &reply.problems {
        eprintln!("warning: {problem}");
    }
    let mut counts = Counts::new();
    for count in &reply.drops {
        let whose = whose(count);
        let asked = |tenant| matches!(&whose, Whose::Network(its, _) if its == tenant);
        if tenant.is_none_or(asked) {
            let row = Row {
                node: count.node.clone(),
                whose,
                reason: count.reason.clone(),
            };
            *counts.entry(row).or_default() += count.packets;
        }
    }
    counts
}

fn whose(count: &DropCount) -> Whose {
    match count.of.as_str() {
        "network" => match count.network.split_once('/') {
            Some((tenant, network)) => Whose::Network(tenant.to_owned(), network.to_owned()),
            None => Whose::Unnamed(count.network.clone()),
        },
        "node" => Whose::Node,
        // An older agent does not say.
        _ => Whose::Gone,
    }
}

fn print(json: bool, counts: &Counts) {
    if json {
        for (row, packets) in counts {
            println!("{}", object(row, *packets));
        }
        return;
    }
    let rows = counts.iter().map(|(row, packets)| {
        let [tenant, network] = match &row.whose {
            Whose::Network(tenant, network) => [tenant.clone(), network.clone()],
            Whose::Unnamed(vni) => ["-".to_owned(), vni.clone()],
            Whose::Node => ["-", "-"].map(str::to_owned),
            Whose::Gone => ["-", "(gone)"].map(str::to_owned),
        };
        [
            row.node.clone(),
            tenant,
            network,
            row.reason.clone(),
            packets.to_string(),
        ]
    });
    output::table(["NODE", "TENANT", "NETWORK", "REASON", "PACKETS"], rows);
}

fn object(row: &Row, packets: u64) -> Value {
    let (of, tenant, network) = match &row.whose {
        Whose::Network(tenant, network) => ("network", Some(tenant), Some(network)),
        Whose::Unnamed(vni) => ("network", None, Some(vni)),
        Whose::Node => ("node", None, None),
        Whose::Gone => ("gone", None, None),
    };
    json!({
        "node": row.node, "of": of, "tenant": tenant, "network": network,
        "reason": row.reason, "packets": packets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(of: &str, network: &str, packets: u64) -> DropCount {
        DropCount {
            node: "n1".to_owned(),
            reason: "no_endpoint".to_owned(),
            packets,
            of: of.to_owned(),
            network: network.to_owned(),
        }
    }

    fn reply(drops: Vec<DropCount>) -> DropsReply {
        DropsReply {
            drops,
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_tenant_sees_its_own_and_an_operator_all() {
        let told = reply(vec![
            count("network", "red/front", 1),
            count("network", "blue/front", 2),
            count("network", "vni 9", 4),
            count("node", "", 8),
            count("gone", "", 16),
        ]);
        let all = counts(&told, None);
        assert_eq!((all.len(), all.values().sum::<u64>()), (5, 31));
        let red = counts(&told, Some("red"));
        let told: Vec<Value> = red.iter().map(|(row, n)| object(row, *n)).collect();
        let expected = json!({
            "node": "n1", "of": "network", "tenant": "red", "network": "front",
            "reason": "no_endpoint", "packets": 1,
        });
        assert_eq!(told, [expected]);
    }

    #[test]
    fn what_was_added_is_by_row_and_a_counter_that_begins_anew_adds_nothing() {
        let before = counts(
            &reply(vec![count("node", "", 5), count("gone", "", 7)]),
            None,
        );
        let now = vec![
            count("node", "", 8),
            count("gone", "", 2),
            count("network", "red/front", 1),
        ];
        let added = added(&before, &counts(&reply(now), None));
        assert_eq!(added.values().copied().collect::<Vec<_>>(), [1, 3]);
    }
}
