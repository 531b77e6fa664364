//! The network's gateway: what goes out by it, what comes in, and what neither does.

use std::net::Ipv4Addr;

use weft_ebpf_abi::*;

use super::bed::*;

/// The gateway's host end, where it is not the loopback.
const GATEWAY: u32 = 77;
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn bed() -> Bed {
    let mut bed = Bed::new();
    let network = bed.tables.networks.get_mut(&VNI).unwrap();
    network.gateway = GATEWAY;
    bed.sync();
    bed
}

fn fate(decision: Decision) -> (u32, u32, Option<DropReason>) {
    let reason = DropReason::from_number(decision.reason as u8);
    (decision.action, decision.target, reason)
}

fn dropped(reason: DropReason) -> (u32, u32, Option<DropReason>) {
    (ACTION_DROP, 0, Some(reason))
}

#[test]
fn what_leaves_the_network_goes_to_its_gateway_unchanged() {
    let mut bed = bed();
    for to in [
        OUTSIDE,
        Ipv4Addr::new(10, 11, 0, 1),
        Ipv4Addr::new(10, 10, 0, 1),
    ] {
        let packet = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, to), (4000, 80));
        let (decision, out) = bed.send(&packet);
        assert_eq!(fate(decision), (ACTION_LOCAL, GATEWAY, None), "{to}");
        assert_eq!(out, packet);
    }
}

#[test]
fn no_node_no_link_and_no_host_is_outside() {
    let mut bed = bed();
    for to in [
        [192, 0, 2, 12],
        [127, 0, 0, 1],
        [0, 0, 0, 0],
        [169, 254, 169, 254],
        [169, 254, 64, 0],
        [255, 255, 255, 255],
        [224, 0, 0, 1],
    ] {
        let packet = udp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, to.into()), (4000, 4789));
        let (decision, _) = bed.send(&packet);
        assert_eq!(fate(decision), dropped(DropReason::NodeAddress), "{to:?}");
    }
    // An address of the network that nobody has is not outside.
    let packet = udp(
        (CLIENT_MAC, GATEWAY_MAC),
        (CLIENT, [10, 10, 99, 9].into()),
        (1, 2),
    );
    assert_eq!(fate(bed.send(&packet).0), dropped(DropReason::NoEndpoint));
    // Nobody but the sender's own addresses is translated.
    let packet = udp((CLIENT_MAC, GATEWAY_MAC), (OUTSIDE, OUTSIDE), (1, 2));
    assert_eq!(
        fate(bed.send(&packet).0),
        dropped(DropReason::SpoofedAddress)
    );
}

#[test]
fn what_the_gateway_passes_on_reaches_endpoints_of_this_node_alone() {
    let mut bed = bed();
    bed.enter_at(Port {
        port: 40,
        flags: PORT_GATEWAY,
        mac: GATEWAY_MAC,
        ..client_port()
    });
    let from =
        |source: Ipv4Addr, to: Ipv4Addr| tcp((GATEWAY_MAC, OTHER_MAC), (source, to), (80, 4000));
    let (decision, out) = bed.send(&from(OUTSIDE, OTHER));
    assert_eq!(fate(decision), (ACTION_LOCAL, 312, None));
    assert_eq!((&out[..6], &out[6..12]), (&OTHER_MAC[..], &GATEWAY_MAC[..]));
    // It speaks for itself, and for nobody else of the network.
    let own = Ipv4Addr::new(10, 10, 0, 1);
    assert_eq!(
        fate(bed.send(&from(own, OTHER)).0),
        (ACTION_LOCAL, 312, None)
    );
    let spoofed = dropped(DropReason::SpoofedAddress);
    assert_eq!(fate(bed.send(&from(REMOTE, OTHER)).0), spoofed);
    let nobody = dropped(DropReason::NoEndpoint);
    assert_eq!(
        fate(bed.send(&from(OUTSIDE, REMOTE)).0),
        nobody,
        "another node's"
    );
    assert_eq!(
        fate(bed.send(&from(OUTSIDE, OUTSIDE)).0),
        nobody,
        "not back out"
    );
    let shout = tcp((GATEWAY_MAC, [0xff; 6]), (OUTSIDE, OTHER), (80, 4000));
    assert_eq!(fate(bed.send(&shout).0), (ACTION_IGNORE, 0, None));
}
