//! The pure part: what a lane and a fabric do, for any input.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use crate::relay::{
    Cause, Direction, EndSpec, Fabric, Impairment, Lane, LinkKind, LinkSpec, PortId, PortSpec,
    Queue, Sink, Verdict, Way,
};

const FRAME: usize = 1514;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn lane(impairment: Impairment) -> Lane {
    let mut lane = Lane::new(7, "lane");
    impairment.check().unwrap();
    lane.set(Duration::ZERO, impairment);
    lane
}

fn link(name: &str, kind: LinkKind, nodes: &[&str], impairment: Impairment) -> LinkSpec {
    let end = |node: &&str| EndSpec {
        node: (*node).to_owned(),
        port: PortSpec::Unix {
            local: PathBuf::new(),
            remote: PathBuf::new(),
        },
    };
    LinkSpec {
        name: name.to_owned(),
        kind,
        ends: nodes.iter().map(end).collect(),
        impairment,
    }
}

fn from(node: &str) -> Direction {
    Direction {
        node: node.to_owned(),
        way: Way::From,
    }
}

/// Everything that came out: when, where, what.
#[derive(Default)]
struct Out(Vec<(Duration, PortId, Vec<u8>)>);

impl Sink for Out {
    fn deliver(&mut self, now: Duration, port: PortId, frame: &[u8]) {
        self.0.push((now, port, frame.to_vec()));
    }
}

impl Out {
    fn ports(&mut self) -> Vec<usize> {
        let mut ports: Vec<usize> = self.0.drain(..).map(|(_, port, _)| port.0).collect();
        ports.sort_unstable();
        ports
    }
}

fn any_impairment() -> impl Strategy<Value = Impairment> {
    let rate = proptest::option::of(10_000_u64..10_000_000_000);
    (
        0..50_000_u64,
        0.0..=1.0_f64,
        0.0..0.5_f64,
        rate,
        0..20_000_u64,
    )
        .prop_map(|(delay, jitter, loss, rate, burst)| Impairment {
            delay: Duration::from_micros(delay),
            jitter: Duration::from_micros((delay as f64 * jitter) as u64),
            loss,
            rate,
            burst,
            ..Impairment::default()
        })
}

proptest! {
    /// Also with jitter, and across a change of the impairment.
    #[test]
    fn without_reorder_order_is_kept_and_nothing_is_lost_from_the_books(
        impairments in proptest::collection::vec(any_impairment(), 1..4),
        gaps in proptest::collection::vec((0..2_000_u64, 60..1515_usize), 1..400),
    ) {
        let mut fabric = Fabric::new(1);
        let mut out = Out::default();
        let mut now = Duration::ZERO;
        let spec = link("l", LinkKind::Wire, &["a", "b"], impairments[0].clone());
        fabric.add(now, &spec).unwrap();
        let stride = gaps.len() / impairments.len() + 1;
        for (number, (gap, len)) in gaps.iter().enumerate() {
            now += Duration::from_micros(*gap);
            fabric.advance(now, &mut out);
            if number % stride == stride - 1 {
                fabric.set(now, "l", None, &impairments[number / stride]).unwrap();
            }
            let mut frame = vec![0; *len];
            frame[..8].copy_from_slice(&(number as u64).to_be_bytes());
            fabric.offer(now, PortId(0), &frame, &mut out);
        }
        fabric.advance(Duration::MAX, &mut out);
        prop_assert!(out.0.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].2[..8] < w[1].2[..8]));
        let counters = fabric.stats("l").unwrap()[0].counters;
        prop_assert_eq!(counters.passed as usize, out.0.len());
        let all = counters.passed + counters.lost + counters.overflow;
        prop_assert_eq!(all as usize, gaps.len());
    }

    #[test]
    fn a_delay_is_exact(delay in 0..60_000_000_u64, times in proptest::collection::vec(0..1_000_000_u64, 1..50)) {
        let delay = Duration::from_micros(delay);
        let mut lane = lane(Impairment { delay, ..Impairment::default() });
        let mut now = Duration::ZERO;
        for gap in times {
            now += Duration::from_nanos(gap);
            let Verdict::Release(departure) = lane.offer(now, FRAME) else { panic!("dropped") };
            prop_assert_eq!(departure.at, now + delay);
        }
    }

    #[test]
    fn a_queue_never_holds_more_than_its_bounds(
        frames in 1..50_usize, bytes in 1..100_000_usize,
        lens in proptest::collection::vec(60..1515_usize, 1..300),
    ) {
        let queue = Queue { frames, bytes };
        let mut lane = lane(Impairment { rate: Some(1_000_000), queue, ..Impairment::default() });
        let mut held = (0, 0);
        for len in &lens {
            match lane.offer(Duration::ZERO, *len) {
                Verdict::Release(_) => held = (held.0 + 1, held.1 + len),
                Verdict::Drop(cause) => {
                    prop_assert_eq!(cause, Cause::Overflow);
                    prop_assert!(held.0 + 1 > frames || held.1 + len > bytes);
                }
            }
            prop_assert!(held.0 <= frames && held.1 <= bytes);
        }
        prop_assert_eq!(lane.counters().overflow as usize, lens.len() - held.0);
    }

    #[test]
    fn jitter_stays_within_its_bounds(seed in any::<u64>()) {
        let mut lane = Lane::new(seed, "lane");
        lane.set(Duration::ZERO, Impairment { delay: ms(10), jitter: ms(3), ..Impairment::default() });
        for second in 0..200 {
            let now = Duration::from_secs(second);
            let Verdict::Release(departure) = lane.offer(now, FRAME) else { panic!("dropped") };
            let delay = departure.at - now;
            prop_assert!(delay >= ms(7) && delay <= ms(13), "{:?}", delay);
        }
    }
}

#[test]
fn loss_is_as_set_and_the_same_for_the_same_seed() {
    for part in [0.01, 0.1, 0.5] {
        for seed in 0..8 {
            let lost = losses(seed, part);
            let seen = lost.iter().filter(|lost| **lost).count() as f64 / 100_000.0;
            assert!((seen - part).abs() < 0.002 + part * 0.01, "{part}: {seen}");
            assert_eq!(lost, losses(seed, part));
        }
        assert_ne!(losses(1, part), losses(2, part));
    }
}

fn losses(seed: u64, loss: f64) -> Vec<bool> {
    let mut lane = Lane::new(seed, "lane");
    let impairment = Impairment {
        loss,
        ..Impairment::default()
    };
    lane.set(Duration::ZERO, impairment);
    let mut judge = || match lane.offer(Duration::ZERO, FRAME) {
        Verdict::Release(_) => {
            lane.release(FRAME);
            false
        }
        Verdict::Drop(cause) => cause == Cause::Lost,
    };
    (0..100_000).map(|_| judge()).collect()
}

#[test]
fn a_rate_is_kept_over_five_seconds_with_and_without_burst() {
    for (rate, burst) in [
        (100_000_000, 0),
        (1_000_000_000, 64_000),
        (1_000_000, 10_000),
    ] {
        let mut lane = lane(Impairment {
            rate: Some(rate),
            burst,
            queue: Queue {
                frames: 100,
                ..Queue::default()
            },
            ..Impairment::default()
        });
        let (mut now, mut bits) = (Duration::ZERO, 0);
        let mut under_way = std::collections::VecDeque::new();
        // Twice the rate is offered, so the queue is full but for the first moments.
        let gap = Duration::from_nanos(FRAME as u64 * 4 * 1_000_000_000 / rate);
        while now < Duration::from_secs(5) {
            if let Verdict::Release(departure) = lane.offer(now, FRAME) {
                under_way.push_back(departure.at);
            }
            while under_way.front().is_some_and(|at| *at <= now) {
                under_way.pop_front();
                lane.release(FRAME);
                bits += FRAME as u64 * 8;
            }
            now += gap;
        }
        let seen = bits as f64 / 5.0 / rate as f64;
        assert!((seen - 1.0).abs() < 0.05, "{rate}: {seen}");
        assert!(lane.counters().overflow > 0);
    }
}

#[test]
fn reordered_frames_overtake_and_are_as_many_as_set() {
    let mut lane = lane(Impairment {
        delay: ms(10),
        reorder: 0.05,
        ..Impairment::default()
    });
    let mut early = 0;
    for number in 0..20_000 {
        let now = Duration::from_micros(number * 100);
        let Verdict::Release(departure) = lane.offer(now, FRAME) else {
            panic!("dropped")
        };
        early += u64::from(departure.at == now);
        lane.release(FRAME);
    }
    assert!((900..1100).contains(&early), "{early}");
}

#[test]
fn an_mtu_counts_no_header() {
    let mut lane = lane(Impairment {
        mtu: Some(1500),
        ..Impairment::default()
    });
    assert!(matches!(lane.offer(ms(0), 1514), Verdict::Release(_)));
    assert_eq!(lane.offer(ms(0), 1515), Verdict::Drop(Cause::TooBig));
    assert_eq!(lane.counters().too_big, 1);
}

#[test]
fn a_one_way_cut_leaves_the_other_way_and_loses_what_was_under_way() {
    let delayed = Impairment {
        delay: ms(10),
        ..Impairment::default()
    };
    let mut fabric = Fabric::new(1);
    let mut out = Out::default();
    let spec = link("l", LinkKind::Wire, &["a", "b"], delayed);
    let ports = fabric.add(ms(0), &spec).unwrap();
    let frame = [0; 60];
    fabric.offer(ms(0), ports[0], &frame, &mut out);
    fabric.offer(ms(0), ports[1], &frame, &mut out);
    fabric.cut(ms(5), "l", Some(&from("a")), true).unwrap();
    fabric.offer(ms(6), ports[0], &frame, &mut out);
    fabric.offer(ms(6), ports[1], &frame, &mut out);
    fabric.advance(ms(100), &mut out);
    let seen: Vec<_> = out.0.drain(..).map(|(at, port, _)| (at, port)).collect();
    assert_eq!(seen, [(ms(10), ports[0]), (ms(16), ports[0])]);
    let stats = fabric.stats("l").unwrap();
    assert_eq!((stats[0].counters.cut, stats[0].counters.passed), (2, 0));
    assert_eq!((stats[1].counters.cut, stats[1].counters.passed), (0, 2));
    fabric.cut(ms(100), "l", None, false).unwrap();
    fabric.offer(ms(100), ports[0], &frame, &mut out);
    fabric.advance(ms(110), &mut out);
    assert_eq!(out.0.len(), 1, "healed, with its delay as before");
    assert_eq!(out.0[0].0, ms(110));
}

#[test]
fn a_higher_rate_is_for_what_waits_too() {
    let rate = |rate| Impairment {
        rate: Some(rate),
        ..Impairment::default()
    };
    let mut fabric = Fabric::new(1);
    let mut out = Out::default();
    let spec = link("l", LinkKind::Wire, &["a", "b"], rate(1_000));
    let ports = fabric.add(ms(0), &spec).unwrap();
    for _ in 0..100 {
        fabric.offer(ms(0), ports[0], &[0; 1000], &mut out);
    }
    fabric.set(ms(1), "l", None, &rate(8_000_000)).unwrap();
    fabric.advance(ms(101), &mut out);
    assert_eq!(out.0.len(), 100);
    assert_eq!((out.0[0].0, out.0[99].0), (ms(2), ms(101)));
}

#[test]
fn a_segment_learns_floods_and_never_echoes() {
    let mut fabric = Fabric::new(1);
    let mut out = Out::default();
    let nodes = ["a", "b", "c"];
    let spec = link("lan", LinkKind::Segment, &nodes, Impairment::default());
    fabric.add(ms(0), &spec).unwrap();
    let frame = |to: u8, from: u8| {
        let mut frame = [0_u8; 60];
        (frame[0], frame[5], frame[6], frame[11]) = (2, to, 2, from);
        if to == 0xff {
            frame[..6].fill(0xff);
        }
        frame
    };
    fabric.offer(ms(0), PortId(0), &frame(2, 1), &mut out);
    assert_eq!(out.ports(), [1, 2], "unknown: flooded");
    fabric.offer(ms(0), PortId(1), &frame(1, 2), &mut out);
    assert_eq!(out.ports(), [0], "learned");
    fabric.offer(ms(0), PortId(0), &frame(0xff, 1), &mut out);
    assert_eq!(out.ports(), [1, 2], "broadcast");
    fabric.offer(ms(0), PortId(2), &frame(1, 1), &mut out);
    fabric.offer(ms(0), PortId(2), &frame(1, 3), &mut out);
    assert_eq!(out.ports(), Vec::<usize>::new(), "moved, and no echo");
    fabric.offer(ms(301_000), PortId(1), &frame(1, 2), &mut out);
    assert_eq!(out.ports(), [0, 2], "forgotten after five minutes");
    let deaf = Direction {
        node: "c".into(),
        way: Way::To,
    };
    fabric.cut(ms(301_000), "lan", Some(&deaf), true).unwrap();
    fabric.offer(ms(301_000), PortId(0), &frame(0xff, 1), &mut out);
    assert_eq!(out.ports(), [1], "one end does not hear");
    fabric.offer(ms(301_000), PortId(2), &frame(0xff, 3), &mut out);
    assert_eq!(out.ports(), [0, 1], "but is heard");
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let wrong = |json: &str| serde_json::from_str::<Impairment>(json).unwrap().check();
    assert!(
        wrong(r#"{"loss": 1.5}"#)
            .unwrap_err()
            .contains("loss is 1.5")
    );
    assert!(wrong(r#"{"reorder": 0.1}"#).unwrap_err().contains("delay"));
    assert!(wrong(r#"{"jitter_ns": 5}"#).unwrap_err().contains("jitter"));
    assert!(wrong(r#"{"rate": 5}"#).unwrap_err().contains("rate"));
    assert_eq!(wrong(r#"{"delay_ns": 5000000, "loss": 0.01}"#), Ok(()));
    let mut fabric = Fabric::new(1);
    let one = link("l", LinkKind::Wire, &["a"], Impairment::default());
    assert!(fabric.add(ms(0), &one).unwrap_err().contains("two ends"));
    let twice = link("l", LinkKind::Wire, &["a", "a"], Impairment::default());
    assert!(
        fabric
            .add(ms(0), &twice)
            .unwrap_err()
            .contains("a is at two")
    );
    let unknown = fabric.cut(ms(0), "x", None, true).unwrap_err();
    assert!(unknown.contains("no link x"), "{unknown}");
}
