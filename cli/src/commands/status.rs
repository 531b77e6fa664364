//! `weft status`: the node that was asked, and the cluster as it sees it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use weft_agent::proto::{NodeState, Repair, StatusReply};

use crate::connect::with_agent;
use crate::fail::Done;
use crate::output;

/// Prints the status; exit code 1 when the node is not ready.
pub fn run(host: &str, json: bool) -> Done {
    with_agent(host, async |mut agent| {
        let status = agent.status().await?;
        if json {
            println!("{}", as_json(&status));
        } else {
            print(&status);
        }
        Ok(u8::from(!status.ready))
    })
}

/// The nodes as a table or JSON lines.
pub fn nodes(json: bool, nodes: &[NodeState]) {
    if json {
        nodes
            .iter()
            .for_each(|node| println!("{}", node_json(node)));
        return;
    }
    output::table(
        ["NODE", "ID", "ALIVE", "VTEP", "VERSION", "CONTAINERS"],
        nodes.iter().map(|node| {
            let dash = |text: String| {
                if text.is_empty() {
                    "-".to_owned()
                } else {
                    text
                }
            };
            [
                node.name.clone(),
                node.id.to_string(),
                if node.alive { "yes" } else { "no" }.to_owned(),
                dash(node.vteps.join(", ")),
                dash(node.version.clone()),
                node.containers.to_string(),
            ]
        }),
    );
}

fn node_json(node: &NodeState) -> serde_json::Value {
    json!({
        "name": node.name, "id": node.id, "alive": node.alive, "vteps": node.vteps,
        "version": node.version, "containers": node.containers,
    })
}

fn repair_json(repair: &Repair) -> serde_json::Value {
    json!({ "at": repair.at, "subject": repair.subject, "lost": repair.lost })
}

fn as_json(status: &StatusReply) -> serde_json::Value {
    json!({
        "node": status.node, "node_id": status.node_id, "version": status.version,
        "ready": status.ready, "store_error": status.store_error, "revision": status.revision,
        "problems": status.problems, "nodes": status.nodes.iter().map(node_json).collect::<Vec<_>>(),
        "repairs": status.repairs.iter().map(repair_json).collect::<Vec<_>>(), "told": status.told,
    })
}

fn print(status: &StatusReply) {
    let ready = if status.ready { "ready" } else { "not ready" };
    println!(
        "node {} (id {}), weft {}: {ready}",
        status.node, status.node_id, status.version
    );
    if status.store_error.is_empty() {
        println!("store: answers, revision {}", status.revision);
    } else {
        println!(
            "store: {} (what follows is of revision {})",
            status.store_error, status.revision
        );
    }
    for problem in &status.problems {
        println!("problem: {problem}");
    }
    for repair in &status.repairs {
        let ago = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(repair.at));
        let ago = ago.unwrap_or_default().as_secs();
        println!("put back {ago} s ago: {}: {}", repair.subject, repair.lost);
    }
    println!();
    nodes(false, &status.nodes);
}
