//! What joins namespaces: bridges in a namespace of their own, pairs of devices, or ends at the relay.

use std::path::PathBuf;

use super::hold;
use crate::backend::Start;
use crate::error::LabError;
use crate::journal::{Journal, SWITCH};
use crate::processes::Process;
use crate::relay::PortSpec;
use crate::underlay::{self, Wire};

/// Makes the namespace of the bridges.
pub(crate) fn switch(start: &Start<'_>, journal: &mut Journal) -> Result<Process, LabError> {
    hold(start, SWITCH, "underlay", journal)
}

/// The bridge of the link in this slot.
pub(crate) fn bridge_name(slot: usize) -> String {
    format!("link{slot}")
}

/// The relay's end in the network of a process.
pub(crate) fn tap(holder: i32, device: String) -> PortSpec {
    PortSpec::Tap {
        netns: PathBuf::from(format!("/proc/{holder}/ns/net")),
        device,
    }
}

/// Joins the nodes of these process numbers: by one bridge, or each link by what serves it best.
pub(super) fn all(
    start: &Start<'_>,
    wires: &[Wire],
    holders: &[i32],
    journal: &mut Journal,
) -> Result<(), LabError> {
    let devices = |number: usize| {
        let ends = wires[number].ends.iter();
        ends.map(move |&node| {
            (
                node,
                holders[node],
                underlay::interface(wires, node, number),
            )
        })
    };
    let bridges = wires
        .iter()
        .any(|wire| !wire.relayed && wire.ends.len() > 2);
    if wires.is_empty() || bridges {
        let switch = switch(start, journal)?;
        if wires.is_empty() {
            let all = holders.iter().enumerate();
            let all = all.map(|(number, holder)| (number, *holder, "eth0".to_owned()));
            let all: Vec<_> = all.collect();
            underlay::bridge(switch.pid, underlay::BRIDGE, underlay::MTU, &all)?;
        }
        for (number, wire) in wires.iter().enumerate() {
            if !wire.relayed && wire.ends.len() > 2 {
                let (name, ends) = (bridge_name(number), devices(number).collect::<Vec<_>>());
                underlay::bridge(switch.pid, &name, wire.mtu, &ends)?;
            }
        }
    }
    let mut relayed = Vec::new();
    for (number, wire) in wires.iter().enumerate() {
        if wire.relayed {
            let link = start.lab.links.get(number);
            let port = |node: usize| tap(holders[node], underlay::interface(wires, node, number));
            relayed.push(underlay::link_spec(start.lab, link, &wire.ends, port));
        } else if let [near, far] = devices(number).collect::<Vec<_>>().as_slice() {
            underlay::pair((near.1, &near.2), (far.1, &far.2), wire.mtu)?;
        }
    }
    if relayed.is_empty() {
        return Ok(());
    }
    underlay::start_relay(start, relayed, journal)
}
