//! Drops by reason and counters of chains' hops: this node's own, and with those of all others.

use tonic::{Code, Status};

use super::fault::fault;
use super::peers::ask_all;
use super::shared::Shared;
use crate::proto::{
    ChainStatsReply, ChainStatsRequest, DropCount, DropsReply, DropsRequest, HopStats,
};

fn unreadable(error: weft_ebpf::Error) -> Status {
    fault(
        Code::Internal,
        "datapath",
        crate::node::chain_of(&error),
        error.help(),
    )
}

/// Dropped packets by node and reason.
pub async fn drops(shared: &Shared, request: &DropsRequest) -> Result<DropsReply, Status> {
    let counts = shared
        .parts()?
        .datapath
        .lock()
        .drops()
        .map_err(unreadable)?;
    let node = shared.config.name.to_string();
    let mut drops: Vec<DropCount> = counts
        .into_iter()
        .filter(|(_, packets)| *packets > 0)
        .map(|(reason, packets)| DropCount {
            node: node.clone(),
            reason: reason.name().to_owned(),
            packets,
        })
        .collect();
    let mut problems = Vec::new();
    if !request.local {
        let state = shared.known()?;
        let ask = |mut c: crate::client::AgentClient| async move { c.drops(true).await };
        let (answers, silent) = ask_all(&state, &shared.config.name, ask).await;
        drops.extend(answers.into_iter().flat_map(|a| a.drops));
        problems = silent;
    }
    Ok(DropsReply { drops, problems })
}

/// Counters of hops, one row an instance's interface.
pub async fn chain_stats(
    shared: &Shared,
    request: &ChainStatsRequest,
) -> Result<ChainStatsReply, Status> {
    let state = shared.known()?;
    let wanted = request.chain.as_str();
    let exists = state
        .chains
        .keys()
        .any(|(t, c)| format!("{t}/{c}") == wanted);
    if !request.local && !wanted.is_empty() && !exists {
        return Err(fault(
            Code::NotFound,
            format!("chain {wanted}"),
            "does not exist",
            "`weft chain ls` shows the chains",
        ));
    }
    let counters = shared
        .parts()?
        .datapath
        .lock()
        .port_stats()
        .map_err(unreadable)?;
    let local = shared.report.borrow().local.clone();
    let mut hops = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for ((tenant, chain, _, hop, container), doc) in &state.instances {
        let name = format!("{tenant}/{chain}");
        if doc.value.node != shared.config.name || (!wanted.is_empty() && name != wanted) {
            continue;
        }
        for endpoint in [&doc.value.input, &doc.value.output] {
            let found = local.interfaces().find(|(c, i)| {
                c.tenant == *tenant && c.container == *container && i.endpoint == *endpoint
            });
            let Some((container, interface)) = found else {
                continue;
            };
            // Versions of a chain share the interface and so its counters: one row.
            if !seen.insert((name.clone(), hop.clone(), interface.port)) {
                continue;
            }
            let stats = counters.get(&interface.port.0).copied().unwrap_or_default();
            hops.push(HopStats {
                node: shared.config.name.to_string(),
                chain: name.clone(),
                hop: hop.clone(),
                instance: container.to_string(),
                interface: interface.interface.to_string(),
                packets_in: stats.rx_packets,
                bytes_in: stats.rx_bytes,
                packets_out: stats.tx_packets,
                bytes_out: stats.tx_bytes,
                drops: stats.drops,
            });
        }
    }
    let mut problems = Vec::new();
    if !request.local {
        let ask = |mut c: crate::client::AgentClient| {
            let chain = wanted.to_owned();
            async move { c.chain_stats(&chain, true).await }
        };
        let (answers, silent) = ask_all(&state, &shared.config.name, ask).await;
        hops.extend(answers.into_iter().flat_map(|a| a.hops));
        problems = silent;
    }
    Ok(ChainStatsReply { hops, problems })
}
