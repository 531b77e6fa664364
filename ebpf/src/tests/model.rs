//! Delivery against a small model in user space: random tables, random packets, the same fate. The model
//! shares the abi's types with the programs and none of their code.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weft_ebpf_abi::*;

use super::bed::*;

/// A fate: action, target, reason.
type Fate = (u32, u32, u32);

fn drop_for(reason: DropReason) -> Fate {
    (ACTION_DROP, 0, reason as u32)
}

/// What should become of an IPv4 packet that the client's port sends.
fn model(bed: &Bed, src_mac: [u8; 6], dst_mac: [u8; 6], src: Ipv4Addr, dst: Ipv4Addr) -> Fate {
    let t = &bed.tables;
    if src_mac != CLIENT_MAC {
        return drop_for(DropReason::SpoofedMac);
    }
    if dst_mac[0] % 2 == 1 {
        return drop_for(DropReason::Multicast);
    }
    if dst_mac != GATEWAY_MAC {
        return drop_for(DropReason::ForeignMac);
    }
    let endpoint = |address| {
        t.endpoints.get(&EndpointKey {
            vni: VNI,
            addr: addr(address),
        })
    };
    if endpoint(src).is_none_or(|e| e.port != 11) {
        return drop_for(DropReason::SpoofedAddress);
    }
    let tunnel = |node| {
        if t.nodes.contains_key(&node) {
            (ACTION_TUNNEL, node, 0)
        } else {
            drop_for(DropReason::NoVtep)
        }
    };
    if let Some(owner) = endpoint(dst) {
        return if owner.node == 1 {
            (ACTION_LOCAL, owner.ifindex, 0)
        } else {
            tunnel(owner.node)
        };
    }
    let [a, b, c, d] = dst.octets();
    if (a, b) != (10, 10) {
        let vtep = VtepKey { addr: addr(dst) };
        return drop_for(if t.vteps.contains_key(&vtep) {
            DropReason::NodeAddress
        } else {
            DropReason::NoRoute
        });
    }
    if (c, d) == (0, 1) {
        return drop_for(DropReason::GatewayService);
    }
    let subnet = SubnetKey {
        vni: VNI,
        addr: mapped([a, b, c, d & 0xc0]),
    };
    match t.subnets.get(&subnet) {
        Some(lease) if lease.node != 1 => tunnel(lease.node),
        _ => drop_for(DropReason::NoEndpoint),
    }
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        8 => (0..3u8, prop_oneof![0..80u8, any::<u8>()]).prop_map(|(c, d)| Ipv4Addr::new(10, 10, c, d)),
        1 => (9..16u8).prop_map(|d| Ipv4Addr::new(192, 0, 2, d)),
        1 => any::<u32>().prop_map(Ipv4Addr::from),
    ]
}

#[derive(Clone, Debug)]
struct Change {
    endpoints: Vec<(Ipv4Addr, u32)>,
    subnets: Vec<(u8, u8, u32)>,
}

#[derive(Clone, Debug)]
struct Sent {
    forged_mac: bool,
    to_mac: [u8; 6],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    tcp: bool,
}

fn change() -> impl Strategy<Value = Change> {
    (
        prop::collection::vec((address(), 1..5u32), 0..12),
        prop::collection::vec((0..3u8, 0..4u8, 1..5u32), 0..8),
    )
        .prop_map(|(endpoints, subnets)| Change { endpoints, subnets })
}

fn sent() -> impl Strategy<Value = Sent> {
    (
        prop::bool::weighted(0.05),
        prop_oneof![
            12 => Just(GATEWAY_MAC),
            1 => Just([0xff; 6]),
            1 => Just(steer_mac(40)),
            1 => Just(OTHER_MAC),
        ],
        prop_oneof![9 => Just(CLIENT), 1 => address()],
        address(),
        any::<bool>(),
    )
        .prop_map(|(forged_mac, to_mac, src, dst, tcp)| Sent {
            forged_mac,
            to_mac,
            src,
            dst,
            tcp,
        })
}

fn apply(bed: &mut Bed, change: &Change) {
    for (i, &(address, node)) in change.endpoints.iter().enumerate() {
        if address == CLIENT {
            continue;
        }
        let local = node == 1;
        let endpoint = Endpoint {
            node,
            ifindex: if local { 400 + i as u32 } else { 0 },
            port: if local { 100 + i as u32 } else { 0 },
            mac: [0x0a, 0x58, 1, 1, 1, i as u8],
            flags: 0,
        };
        let key = EndpointKey {
            vni: VNI,
            addr: addr(address),
        };
        bed.tables.endpoints.insert(key, endpoint);
    }
    for &(c, quarter, node) in &change.subnets {
        let key = SubnetKey {
            vni: VNI,
            addr: mapped([10, 10, c, quarter * 64]),
        };
        bed.tables.subnets.insert(
            key,
            Subnet {
                node,
                ..Subnet::default()
            },
        );
    }
    bed.sync();
}

#[test]
fn the_programs_decide_as_the_model_does() {
    let mut bed = Bed::new();
    let fresh = bed.tables.clone();
    let bed = std::cell::RefCell::new(&mut bed);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let cases = (change(), prop::collection::vec(sent(), 1..24));
    runner
        .run(&cases, |(change, packets)| {
            let mut bed = bed.borrow_mut();
            bed.tables = fresh.clone();
            apply(&mut bed, &change);
            for sent in packets {
                let from = if sent.forged_mac {
                    OTHER_MAC
                } else {
                    CLIENT_MAC
                };
                let make = if sent.tcp { tcp } else { udp };
                let packet = make((from, sent.to_mac), (sent.src, sent.dst), (4000, 80));
                let (decision, out) = bed.send(&packet);
                let found = (decision.action, decision.target, decision.reason);
                let expected = model(&bed, from, sent.to_mac, sent.src, sent.dst);
                prop_assert_eq!(found, expected, "{:?}", sent);
                prop_assert_eq!(&out[12..], &packet[12..], "only Ethernet is rewritten");
            }
            Ok(())
        })
        .unwrap();
}
