//! One inline hop: into it, out of it, back through it, and round it when nobody serves it.
//!
//! Block 40 is the hop's instance: ports 21 (in) and 22 (out). Forward stage 100, reverse stage 101, both
//! to the end. Clients are class 1, servers class 2, tcp/80 is the rule.

use weft_ebpf_abi::*;

use super::bed::*;

pub(super) const BLOCK: u32 = 40;
pub(super) const FORWARD: u32 = 40;
pub(super) const REVERSE: u32 = 41;
const END_FORWARD: u32 = 42;
const END_REVERSE: u32 = 43;
pub(super) const SENDER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 12);

/// The instance is on `node`; on this one its ports are the loopback's (entering side) and 322.
pub(super) fn with_chain(bed: &mut Bed, node: u32) {
    let t = &mut bed.tables;
    t.networks.get_mut(&VNI).unwrap().flags = NETWORK_CHAINS;
    t.classes.insert(
        ClassKey {
            vni: VNI,
            addr: addr(CLIENT),
        },
        1,
    );
    t.classes.insert(
        ClassKey {
            vni: VNI,
            addr: addr(REMOTE),
        },
        2,
    );
    t.classes.insert(
        ClassKey {
            vni: VNI,
            addr: addr(OTHER),
        },
        2,
    );
    let mut rules = Rules {
        count: 1,
        ..Rules::default()
    };
    rules.rules[0] = Rule {
        stage: 100,
        reverse_stage: 101,
        port_lo: 80,
        port_hi: 80,
        proto: 6,
        pad: [0; 3],
    };
    t.pairs.insert(
        PairKey {
            vni: VNI,
            from: 1,
            to: 2,
        },
        rules,
    );
    for (stage, flags) in [(100, 0), (101, STAGE_REVERSE)] {
        t.stages.insert(
            stage,
            Stage {
                slots: STAGE_SLOTS,
                next: 0,
                flags,
                pad: 0,
            },
        );
        for slot in 0..STAGE_SLOTS {
            t.slots.insert(SlotKey { stage, slot }, BLOCK);
        }
    }
    let (in_ifindex, out_ifindex) = if node == 1 { (321, 322) } else { (0, 0) };
    t.positions.insert(
        BLOCK,
        Position {
            vni: VNI,
            node,
            in_ifindex,
            out_ifindex,
            in_port: 21,
            out_port: 22,
            next_forward: 0,
            next_reverse: 0,
        },
    );
    bed.sync();
}

#[test]
fn a_matching_packet_goes_to_the_hop_and_others_do_not() {
    let mut bed = Bed::new();
    with_chain(&mut bed, 1);
    let eth = (CLIENT_MAC, GATEWAY_MAC);
    let (decision, out) = bed.send(&tcp(eth, (CLIENT, REMOTE), (4000, 80)));
    assert_eq!(
        (decision.action, decision.target, decision.steer),
        (ACTION_LOCAL, 321, FORWARD)
    );
    assert_eq!(out[..6], steer_mac(FORWARD));
    assert_eq!(out[6..12], port_mac(11));
    let (decision, _) = bed.send(&tcp(eth, (CLIENT, REMOTE), (4000, 81)));
    assert_eq!(
        (decision.action, decision.target, decision.steer),
        (ACTION_TUNNEL, 2, 0)
    );
    let (decision, _) = bed.send(&udp(eth, (CLIENT, REMOTE), (4000, 80)));
    assert_eq!((decision.action, decision.steer), (ACTION_TUNNEL, 0));
}

#[test]
fn a_hop_elsewhere_is_reached_over_the_tunnel_with_its_position() {
    let mut bed = Bed::new();
    with_chain(&mut bed, 3);
    let packet = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, OTHER), (4000, 80));
    let (decision, out) = bed.send(&packet);
    assert_eq!(
        (decision.action, decision.target, decision.steer),
        (ACTION_TUNNEL, 3, FORWARD)
    );
    assert_eq!(out[..6], steer_mac(FORWARD));
}

#[test]
fn what_arrives_for_the_hop_enters_it_by_its_direction() {
    let mut bed = Bed::new();
    with_chain(&mut bed, 1);
    for (steer, ifindex) in [(FORWARD, 321), (REVERSE, 322)] {
        let packet = tcp(
            (port_mac(5), steer_mac(steer)),
            (CLIENT, REMOTE),
            (4000, 80),
        );
        let (decision, out) = bed.arrive(&packet, VNI, SENDER);
        assert_eq!((decision.action, decision.target), (ACTION_LOCAL, ifindex));
        assert_eq!(out, packet, "the frame keeps position and predecessor");
    }
}

#[test]
fn what_leaves_the_hop_goes_to_its_destination_by_the_ports_direction_only() {
    let mut bed = Bed::new();
    with_chain(&mut bed, 1);
    let forward = tcp(
        (port_mac(11), steer_mac(FORWARD)),
        (CLIENT, REMOTE),
        (4000, 80),
    );
    bed.enter_at(hop_port(22));
    let (decision, out) = bed.send(&forward);
    assert_eq!(
        (decision.action, decision.target, decision.steer),
        (ACTION_TUNNEL, 2, END_FORWARD)
    );
    assert_eq!(out[..6], steer_mac(END_FORWARD));
    assert_eq!(out[6..12], port_mac(22));
    // By the port it entered, with the same header: not this hop's to send.
    bed.enter_at(hop_port(21));
    let (decision, _) = bed.send(&forward);
    assert_eq!(decision.reason, DropReason::HopStray as u32);
    // With both addresses swapped it is the hop's own answer, and goes back.
    let answer = tcp(
        (steer_mac(FORWARD), port_mac(11)),
        (REMOTE, OTHER),
        (80, 4000),
    );
    let (decision, _) = bed.send(&answer);
    assert_eq!(
        (decision.action, decision.target, decision.steer),
        (ACTION_LOCAL, 312, END_REVERSE)
    );
    // Anything else from a hop is nobody's.
    let stray = tcp(([1; 6], GATEWAY_MAC), (CLIENT, REMOTE), (4000, 80));
    assert_eq!(bed.send(&stray).0.reason, DropReason::HopStray as u32);
    let unknown = tcp((port_mac(11), steer_mac(80)), (CLIENT, REMOTE), (4000, 80));
    assert_eq!(bed.send(&unknown).0.reason, DropReason::UnknownSteer as u32);
}

#[test]
fn the_end_of_the_chain_remembers_the_way_back() {
    let mut bed = Bed::new();
    with_chain(&mut bed, 3);
    // The server is this node's endpoint on the loopback; no rule selects its reply: only memory can.
    bed.tables.pairs.clear();
    bed.sync();
    let reply = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, REMOTE), (80, 4000));
    let mut plain = reply.clone();
    plain[47] = 0x10; // ACK instead of SYN: not the beginning of a flow
    assert_eq!(bed.send(&plain).0.steer, 0, "nothing is remembered yet");
    let arriving = tcp(
        (port_mac(9), steer_mac(END_FORWARD)),
        (REMOTE, CLIENT),
        (4000, 80),
    );
    let (decision, out) = bed.arrive(&arriving, VNI, SENDER);
    assert_eq!((decision.action, decision.target), (ACTION_LOCAL, LO));
    assert_eq!(
        (&out[..6], &out[6..12]),
        (&CLIENT_MAC[..], &GATEWAY_MAC[..])
    );
    let (decision, _) = bed.send(&plain);
    assert_eq!(
        (decision.action, decision.target, decision.steer),
        (ACTION_TUNNEL, 3, REVERSE)
    );
}

#[test]
fn a_reply_without_memory_takes_the_instance_that_the_hash_gives() {
    let mut bed = Bed::new();
    with_chain(&mut bed, 3);
    bed.tables.classes.insert(
        ClassKey {
            vni: VNI,
            addr: addr(CLIENT),
        },
        2,
    );
    bed.tables.classes.insert(
        ClassKey {
            vni: VNI,
            addr: addr(REMOTE),
        },
        1,
    );
    bed.sync();
    let reply = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, REMOTE), (80, 4000));
    let (decision, _) = bed.send(&reply);
    assert_eq!((decision.target, decision.steer), (3, REVERSE));
}

#[test]
fn a_hop_without_instances_drops_or_is_passed_by() {
    let mut bed = Bed::new();
    with_chain(&mut bed, 1);
    let packet = tcp((CLIENT_MAC, GATEWAY_MAC), (CLIENT, REMOTE), (4000, 80));
    bed.tables.stages.get_mut(&100).unwrap().slots = 0;
    bed.sync();
    assert_eq!(bed.send(&packet).0.reason, DropReason::NoInstance as u32);
    bed.tables.stages.get_mut(&100).unwrap().flags = STAGE_BYPASS;
    bed.sync();
    let (decision, _) = bed.send(&packet);
    assert_eq!(
        (decision.action, decision.target, decision.steer),
        (ACTION_TUNNEL, 2, 0)
    );
}
