//! `isolated`: what is sent in one network to an address of the other is never answered from there.
//! It must hold at once: there is nothing to wait for.

use weft_overlay::site::Container;
use weft_overlay::{ContainerRef, NetworkRef};

use super::probe;
use super::{Attempt, SILENCE};
use crate::engine::Running;
use crate::file::Probe;
use crate::site::{is_hop, network_of};

pub(super) fn run(running: &Running, a: &NetworkRef, b: &NetworkRef) -> Attempt {
    let there = one_way(running, a, b)?;
    let back = one_way(running, b, a)?;
    Ok(format!(
        "{} probes, none answered from the other side",
        there + back
    ))
}

/// Probes from each container of `from` to each address of `to`; how many probes there were.
fn one_way(running: &Running, from: &NetworkRef, to: &NetworkRef) -> Result<usize, String> {
    let asking = ordinary(running, from);
    let asked = ordinary(running, to);
    if asking.is_empty() || asked.is_empty() {
        return Err(format!(
            "expected: containers in {from} and {to}; seen: none with an address; \
             look at: weft ps"
        ));
    }
    // One asker is enough: the datapath decides by network, and every node's tables are asked by `to`.
    let asker = &asking[0].name;
    let mut probes = 0;
    for container in asked {
        let addresses = running
            .container(&container.name.to_string())
            .map(|c| c.addresses.clone())
            .unwrap_or_default();
        for address in addresses {
            let address = address.split('/').next().unwrap_or(&address);
            let traffic = served(container);
            let answer = probe::send(running, asker, traffic, address, SILENCE)?;
            probes += 1;
            let own = owner(running, from, address);
            if answer.ok && !is_own(&answer.answer, traffic, own) {
                return Err(format!(
                    "expected: {asker} gets nothing from {} ({address}); seen: {}; \
                     look at: weft trace live {asker} {address} {traffic}",
                    container.name,
                    probe::words(&answer)
                ));
            }
        }
    }
    Ok(probes)
}

/// Whether an answer came from the asker's own network: it has the same address there, and says its
/// own name where the traffic carries one.
fn is_own(answer: &str, traffic: Probe, own: Option<ContainerRef>) -> bool {
    let Some(own) = own else {
        return false;
    };
    match traffic {
        Probe::Icmp => true,
        _ => answer.trim() == own.container.as_str(),
    }
}

/// Who has `address` in `network`.
fn owner(running: &Running, network: &NetworkRef, address: &str) -> Option<ContainerRef> {
    ordinary(running, network)
        .into_iter()
        .find(|container| {
            running
                .container(&container.name.to_string())
                .is_some_and(|c| {
                    c.addresses
                        .iter()
                        .any(|a| a.split('/').next() == Some(address))
                })
        })
        .map(|container| container.name.clone())
}

/// Containers with an ordinary interface in a network.
fn ordinary<'a>(running: &'a Running, network: &NetworkRef) -> Vec<&'a Container> {
    running
        .lab
        .site
        .containers
        .iter()
        .filter(|c| {
            c.networks
                .iter()
                .any(|n| network_of(n) == network && !is_hop(n))
        })
        .collect()
}

/// What a container answers to: the first TCP port that it serves, else echo requests.
fn served(container: &Container) -> Probe {
    container
        .command
        .iter()
        .filter_map(|word| word.parse().ok())
        .find(|probe| matches!(probe, Probe::Tcp(_)))
        .unwrap_or(Probe::Icmp)
}
