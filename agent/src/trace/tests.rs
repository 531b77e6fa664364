//! Ladders of known ways, and of random ways with random clocks and random gaps.

use proptest::prelude::*;

use super::{Outcome, Step, join};
use crate::proto::Observation;

fn at(node: &str, time: u64, point: &str, peer: &str) -> Observation {
    Observation {
        node: node.into(),
        time,
        identity: 7,
        vni: 1,
        point: point.into(),
        peer: peer.into(),
        ..Default::default()
    }
}

/// The firewall's way: client on n1, hop on n2, server on n3; each node's clock is off by its own amount.
fn firewall(offsets: [u64; 3]) -> Vec<Observation> {
    let [a, b, c] = offsets;
    let mut way = vec![
        at("n1", a + 10, "from_container", ""),
        at("n1", a + 11, "chain_entry", ""),
        at("n1", a + 12, "encap", "n2"),
        at("n2", b + 20, "decap", "n1"),
        at("n2", b + 21, "to_hop", ""),
        at("n2", b + 30, "from_hop", ""),
        at("n2", b + 31, "encap", "n3"),
        at("n3", c + 40, "decap", "n2"),
        at("n3", c + 41, "to_container", ""),
    ];
    way[8].endpoint = "red/front/web".into();
    way
}

fn points(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .map(|s| match s {
            Step::Seen { observation, .. } => format!("{}:{}", observation.node, observation.point),
            Step::Missing { node, .. } => format!("{node}:missing"),
        })
        .collect()
}

fn true_points(way: &[Observation]) -> Vec<String> {
    way.iter()
        .map(|o| format!("{}:{}", o.node, o.point))
        .collect()
}

#[test]
fn a_packet_through_a_hop_is_one_ladder_in_causal_order() {
    let way = firewall([9_000, 0, 500]);
    let ladders = join(&way);
    assert_eq!(ladders.len(), 1);
    assert_eq!(points(&ladders[0].steps), true_points(&way));
    assert_eq!(
        ladders[0].outcome,
        Outcome::Delivered {
            endpoint: "red/front/web".into()
        }
    );
}

#[test]
fn an_arrival_that_nobody_reports_is_missing_and_nothing_is_invented() {
    let way = firewall([0, 0, 0]);
    let ladders = join(&way[..3]);
    let steps = &ladders[0].steps;
    assert_eq!(
        points(steps),
        [
            "n1:from_container",
            "n1:chain_entry",
            "n1:encap",
            "n2:missing"
        ]
    );
    assert_eq!(ladders[0].outcome, Outcome::Unknown);
    let Step::Missing { what, .. } = &steps[3] else {
        panic!("{steps:?}")
    };
    assert_eq!(what, "not seen on n2 after n1 sent it there");
}

#[test]
fn a_hop_that_swallows_a_packet_is_named() {
    let mut way = firewall([0, 0, 0]);
    way.truncate(5);
    way[4].hop = "firewall".into();
    way[4].instance = "red/fw".into();
    let ladders = join(&way);
    let Some(Step::Missing { what, .. }) = ladders[0].steps.last() else {
        panic!("{ladders:?}")
    };
    assert_eq!(what, "not seen leaving hop firewall (red/fw)");
}

#[test]
fn a_drop_ends_the_ladder_with_its_reason() {
    let mut way = firewall([0, 0, 0]);
    way.truncate(3);
    way[2] = at("n1", 12, "drop", "");
    way[2].reason = "no_endpoint".into();
    let ladders = join(&way);
    let dropped = Outcome::Dropped {
        node: "n1".into(),
        reason: "no_endpoint".into(),
    };
    assert_eq!(ladders[0].outcome, dropped);
}

#[test]
fn packets_with_equal_hashes_stay_apart() {
    let mut both = firewall([0, 0, 0]);
    both.extend(firewall([100, 100, 100]));
    let ladders = join(&both);
    assert_eq!(ladders.len(), 2);
    for ladder in &ladders {
        assert_eq!(points(&ladder.steps), true_points(&firewall([0, 0, 0])));
    }
}

#[test]
fn a_node_that_did_not_listen_leaves_a_gap() {
    let way: Vec<_> = firewall([0, 0, 0])
        .into_iter()
        .filter(|o| o.node != "n2")
        .collect();
    let ladders = join(&way);
    let expected = [
        "n1:from_container",
        "n1:chain_entry",
        "n1:encap",
        "n2:missing",
        "n2:missing",
        "n3:decap",
        "n3:to_container",
    ];
    assert_eq!(points(&ladders[0].steps), expected);
}

#[test]
fn later_segments_of_a_cut_packet_are_counted_with_it() {
    let mut way = firewall([0, 0, 0]);
    for o in &mut way {
        (o.proto, o.seq, o.payload) = (6, 1_000, 4_000);
    }
    let mut piece = at("n3", 60, "to_container", "");
    (piece.identity, piece.proto, piece.seq, piece.payload) = (8, 6, 2_400, 1_400);
    way.push(piece);
    let ladders = join(&way);
    assert_eq!((ladders.len(), ladders[0].segments), (1, 1));
}

/// A random way: nodes by number, a hop or none on each but the first and last.
fn random_way() -> impl Strategy<Value = Vec<Observation>> {
    let stops = proptest::collection::vec((0..4usize, any::<bool>()), 1..6);
    let clocks = proptest::array::uniform4(0..1_000_000u64);
    (stops, clocks).prop_map(|(stops, clocks)| {
        let (mut way, mut t, mut steer) = (Vec::new(), 0, 0);
        let mut push = |node: usize, point: &str, peer: Option<usize>, steer: u32| {
            t += 10;
            let peer = peer.map(|p| format!("n{p}")).unwrap_or_default();
            let mut o = at(&format!("n{node}"), clocks[node] + t, point, &peer);
            o.steer = steer;
            way.push(o);
        };
        let mut here = stops[0].0;
        push(here, "from_container", None, 0);
        push(here, "chain_entry", None, 0);
        for (node, hop) in stops {
            steer += 4;
            if node != here {
                push(here, "encap", Some(node), steer);
                push(node, "decap", Some(here), steer);
                here = node;
            }
            if hop {
                push(here, "to_hop", None, steer);
                push(here, "from_hop", None, steer);
            }
        }
        push(here, "to_container", None, 0);
        way
    })
}

proptest! {
    #[test]
    fn any_way_is_found_again_whatever_the_clocks(way in random_way(), seed in any::<u64>()) {
        let mut shuffled = way.clone();
        let len = shuffled.len() as u64;
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, (seed.wrapping_mul(i as u64 + 1) % len) as usize % (i + 1));
        }
        let ladders = join(&shuffled);
        prop_assert_eq!(ladders.len(), 1);
        prop_assert_eq!(points(&ladders[0].steps), true_points(&way));
    }

    #[test]
    fn gaps_are_never_filled(way in random_way(), keep in proptest::collection::vec(any::<bool>(), 32)) {
        let kept: Vec<_> = way.iter().zip(&keep).filter(|(_, k)| **k).map(|(o, _)| o.clone()).collect();
        let mut seen: Vec<_> = join(&kept)
            .into_iter()
            .flat_map(|l| l.steps)
            .filter_map(|s| match s {
                Step::Seen { observation, .. } => Some((observation.node, observation.time, observation.point)),
                Step::Missing { .. } => None,
            })
            .collect();
        let mut given: Vec<_> = kept.into_iter().map(|o| (o.node, o.time, o.point)).collect();
        seen.sort();
        given.sort();
        prop_assert_eq!(seen, given);
    }

    #[test]
    fn a_way_cut_short_says_so(way in random_way(), cut in 1..20usize) {
        if cut < way.len() {
            let ladders = join(&way[..cut]);
            let cut_off = matches!(ladders[0].steps.last(), Some(Step::Missing { .. }));
            prop_assert!(cut_off);
            prop_assert_eq!(&ladders[0].outcome, &Outcome::Unknown);
        }
    }
}
