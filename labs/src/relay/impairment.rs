//! What a link does to the frames of one direction. Owns: the values, their bounds and their form in
//! JSON (times in nanoseconds). Never: does it; that is the lane.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest delay and jitter: keeps every sum of times far from its limits.
const LONGEST: Duration = Duration::from_secs(60);
/// Lowest rate: one full frame of 64 KiB then still departs within nine minutes.
const SLOWEST: u64 = 1_000;

/// One direction of a link. The default changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Impairment {
    /// Added to each frame's way, after the rate.
    #[serde(rename = "delay_ns", with = "nanoseconds")]
    pub delay: Duration,
    /// The delay varies evenly by this much to both sides. Order is kept: on real links it is queues
    /// that make jitter, and they do not reorder.
    #[serde(rename = "jitter_ns", with = "nanoseconds")]
    pub jitter: Duration,
    /// The part of frames that is lost, 0 to 1.
    pub loss: f64,
    /// The part of frames that skips the delay and so overtakes others, 0 to 1. Needs a delay.
    pub reorder: f64,
    /// Bits a second of frames without preamble and checksum; none: as fast as the machine.
    pub rate: Option<u64>,
    /// Bytes that may pass at once when the link was idle. 0: each frame takes its time on the wire.
    pub burst: u64,
    /// The largest packet in bytes, without the Ethernet header; larger frames are dropped.
    pub mtu: Option<u32>,
    /// How much may wait for the rate.
    pub queue: Queue,
    /// Nothing passes, and what was on its way is lost.
    pub cut: bool,
}

/// The bounds of what waits for the rate; the rest is dropped at the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Frames, as netem's `limit`.
    pub frames: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            frames: 1000,
            bytes: 1 << 20,
        }
    }
}

impl Default for Impairment {
    fn default() -> Impairment {
        Impairment {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            rate: None,
            burst: 0,
            mtu: None,
            queue: Queue::default(),
            cut: false,
        }
    }
}

impl Impairment {
    /// The first thing that is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        self.fault().map_or(Ok(()), |(_, cause)| Err(cause))
    }

    /// The first thing that is wrong with it: which value, and a sentence.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        for (name, part) in [("loss", self.loss), ("reorder", self.reorder)] {
            if !(0.0..=1.0).contains(&part) {
                let cause = format!("{name} is {part}; it is a part of 1, from 0 to 1");
                return Some((name, cause));
            }
        }
        for (name, time) in [("delay", self.delay), ("jitter", self.jitter)] {
            if time > LONGEST {
                let cause = format!("{name} is {time:?}; the longest is {LONGEST:?}");
                return Some((name, cause));
            }
        }
        if self.jitter > self.delay {
            let (jitter, delay) = (self.jitter, self.delay);
            let cause =
                format!("jitter {jitter:?} is more than the delay {delay:?} that it varies");
            return Some(("jitter", cause));
        }
        if self.reorder > 0.0 && self.delay.is_zero() {
            let cause = "reorder needs a delay: without one nothing can be overtaken";
            return Some(("reorder", cause.to_owned()));
        }
        if let Some(rate) = self.rate.filter(|rate| *rate < SLOWEST) {
            let cause = format!("rate is {rate} bit/s; the lowest is {SLOWEST}");
            return Some(("rate", cause));
        }
        if self.queue.frames == 0 || self.queue.bytes == 0 {
            let cause = "a queue of nothing passes nothing; use cut for that";
            return Some(("queue", cause.to_owned()));
        }
        None
    }
}

mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos)
    }
}
