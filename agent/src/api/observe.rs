//! From the kernel's event to what a person reads: names for numbers, from what this node knows. Pure.
//! A number without a name stays a number; nothing is guessed.

use std::net::IpAddr;

use weft_ebpf_abi::{DropReason, SteerFace, TraceEvent, TracePoint};

use crate::local::LocalState;
use crate::mirror::State;
use crate::plan::tables::plain_address;
use crate::proto::Observation;

/// What names come from.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// This node.
    pub node: &'a str,
    /// The documents.
    pub state: &'a State,
    /// Its ports.
    pub local: &'a LocalState,
    /// The VXLAN device.
    pub overlay: (u32, &'a str),
    /// What makes Unix time of this node's monotonic clock, ns.
    pub clock_offset: u64,
}

/// The observation that an event is.
pub fn observation(names: &Names<'_>, event: &TraceEvent, lost: u64) -> Observation {
    let mut o = Observation {
        node: names.node.to_owned(),
        time: event.time.saturating_add(names.clock_offset),
        identity: event.identity,
        point: point(event.point),
        reason: reason(event),
        vni: event.vni,
        network: names
            .state
            .network_of(event.vni)
            .map(|(n, _)| n.to_string())
            .unwrap_or_default(),
        src: address(event.src),
        dst: address(event.dst),
        proto: event.proto.into(),
        sport: event.sport.into(),
        dport: event.dport.into(),
        port: event.port,
        steer: event.steer,
        len: event.len,
        seq: event.seq,
        payload: event.payload,
        tcp_flags: event.tcp_flags.into(),
        ip_id: event.ip_id.into(),
        icmp_type: event.icmp_type.into(),
        lost,
        ..Observation::default()
    };
    if event.peer != 0 {
        let name = names.state.node_name(event.peer).map(ToString::to_string);
        o.peer = name.unwrap_or_else(|| format!("node {}", event.peer));
    }
    if let Some((container, interface)) = names.local.by_port(event.port) {
        o.interface = interface.host_name();
        o.endpoint = match interface.hop {
            true => format!("{container} {}", interface.interface),
            false => interface.endpoint_ref().to_string(),
        };
    } else if event.ifindex == names.overlay.0 {
        o.interface = names.overlay.1.to_owned();
    }
    if event.steer != 0 {
        position(names.state, event.steer, &mut o);
    }
    o
}

fn point(number: u8) -> String {
    TracePoint::from_number(number)
        .map_or_else(|| format!("point {number}"), |p| p.name().to_owned())
}

fn reason(event: &TraceEvent) -> String {
    match DropReason::from_number(event.reason) {
        Some(reason) => reason.name().to_owned(),
        None if event.reason == 0 => String::new(),
        None => format!("reason {}", event.reason),
    }
}

fn address(bytes: [u8; 16]) -> String {
    plain_address(bytes)
        .as_ref()
        .map(IpAddr::to_string)
        .unwrap_or_default()
}

fn position(state: &State, steer: u32, o: &mut Observation) {
    o.direction = match SteerFace::of(steer) {
        SteerFace::EnterForward => "forward",
        SteerFace::EnterReverse => "reverse",
        SteerFace::EndForward => "end forward",
        SteerFace::EndReverse => "end reverse",
    }
    .to_owned();
    let block = SteerFace::EnterForward.id(steer);
    let found = state.instances.iter().find(|(_, d)| d.value.block == block);
    let Some(((tenant, chain, version, hop, container), _)) = found else {
        return;
    };
    o.chain = format!("{tenant}/{chain}");
    o.hop = hop.clone();
    o.instance = format!("{tenant}/{container}");
    o.position = format!(
        "{chain} v{version} {hop} -> {tenant}/{container} {}",
        o.direction
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names_where_they_are_known() {
        let mut state = State::default();
        state.put(
            "/weft/v1/nodes/n2/spec",
            br#"{"id":2,"vteps":[],"api":"x"}"#,
            1,
        );
        state.put(
            "/weft/v1/tenants/red/networks/front/spec",
            br#"{"vni":5}"#,
            1,
        );
        state.put(
            "/weft/v1/tenants/red/chains/guard/versions/0000000001/instances/firewall/fw",
            br#"{"block":8,"node":"n2","input":"fw-in0","output":"fw-out0"}"#,
            1,
        );
        let local = LocalState::default();
        let names = Names {
            node: "n1",
            state: &state,
            local: &local,
            overlay: (3, "weft0"),
            clock_offset: 100,
        };
        let event = TraceEvent {
            time: 1,
            point: TracePoint::Encap as u8,
            vni: 5,
            peer: 2,
            ifindex: 3,
            steer: SteerFace::EnterReverse.id(8),
            src: weft_ebpf_abi::mapped([10, 0, 0, 2]),
            ..Default::default()
        };
        let o = observation(&names, &event, 0);
        assert_eq!(
            (o.time, o.point.as_str(), o.peer.as_str()),
            (101, "encap", "n2")
        );
        assert_eq!(
            (o.network.as_str(), o.src.as_str(), o.interface.as_str()),
            ("red/front", "10.0.0.2", "weft0")
        );
        assert_eq!(o.position, "guard v1 firewall -> red/fw reverse");
        let o = observation(
            &names,
            &TraceEvent {
                peer: 9,
                steer: 64,
                ..event
            },
            0,
        );
        assert_eq!(
            (o.peer.as_str(), o.position.as_str(), o.steer),
            ("node 9", "", 64)
        );
    }
}
