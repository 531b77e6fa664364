//! Drops by network and reason, and counters of chains' hops: this node's own, and with those of all others.

use std::collections::BTreeMap;

use tonic::{Code, Status};
use weft_ebpf_abi::{DropKey, DropReason};

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

/// Dropped packets by node, network and reason.
pub async fn drops(shared: &Shared, request: &DropsRequest) -> Result<DropsReply, Status> {
    let (all, by_network) = {
        let mut datapath = shared.parts()?.datapath.lock();
        // In this order: what is dropped meanwhile must not look like that of a network that is gone.
        let all = datapath.drops().map_err(unreadable)?;
        (all, datapath.network_drops().map_err(unreadable)?)
    };
    let state = shared.mirror.state();
    let named = |vni: u32| {
        let mut networks = state.iter().flat_map(|state| &state.networks);
        let found = networks.find(|(_, doc)| doc.value.vni.get() == vni);
        found.map_or_else(|| format!("vni {vni}"), |(network, _)| network.to_string())
    };
    let mut drops = counted(shared.config.name.as_str(), &all, &by_network, named);
    let mut problems = Vec::new();
    if !request.local {
        let state = shared.known().await?;
        let ask = |mut c: crate::client::AgentClient| async move { c.drops(true).await };
        let (answers, silent) = ask_all(&state, &shared.config.name, ask).await;
        drops.extend(answers.into_iter().flat_map(|a| a.drops));
        problems = silent;
    }
    Ok(DropsReply { drops, problems })
}

/// Rows that add up to all drops of a node: of its networks, of none, and of those that are gone.
fn counted(
    node: &str,
    all: &BTreeMap<DropReason, u64>,
    by_network: &BTreeMap<DropKey, u64>,
    named: impl Fn(u32) -> String,
) -> Vec<DropCount> {
    let row = |of: &str, network: String, reason: DropReason, packets: u64| DropCount {
        node: node.to_owned(),
        reason: reason.name().to_owned(),
        packets,
        of: of.to_owned(),
        network,
    };
    let mut rest = all.clone();
    let mut rows = Vec::new();
    for (key, packets) in by_network {
        let Some(reason) = u8::try_from(key.reason)
            .ok()
            .and_then(DropReason::from_number)
        else {
            continue;
        };
        let rest = rest.entry(reason).or_default();
        *rest = rest.saturating_sub(*packets);
        rows.push(match key.vni {
            0 => row("node", String::new(), reason, *packets),
            vni => row("network", named(vni), reason, *packets),
        });
    }
    let gone = rest
        .into_iter()
        .map(|(reason, packets)| row("gone", String::new(), reason, packets));
    rows.extend(gone);
    rows.retain(|row| row.packets > 0);
    rows
}

/// Counters of hops, one row an instance's interface.
pub async fn chain_stats(
    shared: &Shared,
    request: &ChainStatsRequest,
) -> Result<ChainStatsReply, Status> {
    let state = shared.known().await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_add_up_to_all_drops_whoever_they_were_of() {
        let key = |vni, reason| DropKey {
            vni,
            reason: reason as u32,
        };
        let all = BTreeMap::from([(DropReason::NoEndpoint, 10), (DropReason::UnknownVtep, 3)]);
        let by_network = BTreeMap::from([
            (key(0, DropReason::UnknownVtep), 3),
            (key(5, DropReason::NoEndpoint), 6),
            (key(6, DropReason::NoEndpoint), 1),
            // Counted after the totals were read.
            (key(6, DropReason::TooBig), 2),
        ]);
        let named = |vni| match vni {
            5 => "red/front".to_owned(),
            other => format!("vni {other}"),
        };
        let rows = counted("n1", &all, &by_network, named);
        let rows: Vec<(&str, &str, &str, u64)> = rows
            .iter()
            .map(|r| {
                (
                    r.of.as_str(),
                    r.network.as_str(),
                    r.reason.as_str(),
                    r.packets,
                )
            })
            .collect();
        let expected = [
            ("node", "", "unknown_vtep", 3),
            ("network", "red/front", "no_endpoint", 6),
            ("network", "vni 6", "no_endpoint", 1),
            ("network", "vni 6", "too_big", 2),
            ("gone", "", "no_endpoint", 3),
        ];
        assert_eq!(rows, expected);
    }
}
