//! One direction of a link: pure, and driven by the `now` that comes in.
//!
//! A frame is offered, gets a verdict, and is told of again when it leaves. Order of what a frame
//! meets: cut, MTU, loss, the bound of what may be under way, rate with its queue, delay. The rate is
//! a token bucket kept as one time, the moment at which the bucket is full (the generic cell rate
//! algorithm, ITU-T I.371): exact over any stretch, however late the caller's clock ticks.
//!
//! Never: holds frames, reads a clock.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::impairment::Impairment;
use crate::random::Random;

/// An Ethernet header, which an MTU does not count.
const HEADER: usize = 14;
/// What one lane may have under way, waiting and delayed: a second of 512 Mbit/s.
const UNDER_WAY: Load = Load {
    frames: 1 << 17,
    bytes: 64 << 20,
};

/// What became of an offered frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves at this time, not before `now`.
    Release(Departure),
    /// It does not leave.
    Drop(Cause),
}

/// When a frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// When the rate has let it through.
    pub clocked: Duration,
    /// When it is at the other end.
    pub at: Duration,
}

/// Why a frame did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The direction is cut.
    Cut,
    /// Larger than the MTU.
    TooBig,
    /// By chance.
    Lost,
    /// The queue was full.
    Overflow,
}

/// Frames of one direction since its link was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Left at the other end.
    pub passed: u64,
    /// Their bytes.
    pub passed_bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Met a cut.
    pub cut: u64,
    /// Were larger than the MTU.
    pub too_big: u64,
    /// Found the queue full.
    pub overflow: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Load {
    frames: usize,
    bytes: usize,
}

impl Load {
    fn has_room(self, limit: Load, len: usize) -> bool {
        self.frames < limit.frames && self.bytes + len <= limit.bytes
    }

    fn add(&mut self, len: usize) {
        self.frames += 1;
        self.bytes += len;
    }

    fn take(&mut self, len: usize) {
        self.frames -= 1;
        self.bytes -= len;
    }
}

/// One direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lane {
    impairment: Impairment,
    random: Random,
    /// When the bucket is full again.
    full: Duration,
    /// When the latest frame leaves that may not be overtaken.
    latest: Duration,
    /// Times at which the rate lets through what waits for it, with lengths.
    queue: VecDeque<(Duration, usize)>,
    waiting: Load,
    under_way: Load,
    counters: Counters,
}

impl Lane {
    /// A lane that changes nothing. Its draws depend on the seed and its name alone.
    pub fn new(seed: u64, name: &str) -> Lane {
        Lane {
            impairment: Impairment::default(),
            random: Random::named(seed, name),
            full: Duration::ZERO,
            latest: Duration::ZERO,
            queue: VecDeque::new(),
            waiting: Load::default(),
            under_way: Load::default(),
            counters: Counters::default(),
        }
    }

    /// What it does.
    pub fn impairment(&self) -> &Impairment {
        &self.impairment
    }

    /// What it has done.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether frames are between offer and release.
    pub fn is_idle(&self) -> bool {
        self.under_way.frames == 0
    }

    /// A frame of this length, Ethernet header included, comes in. Each `Release` is answered by one
    /// call of [`Lane::release`] at its time.
    pub fn offer(&mut self, now: Duration, len: usize) -> Verdict {
        let verdict = self.judge(now, len);
        match verdict {
            Verdict::Release(_) => self.under_way.add(len),
            Verdict::Drop(Cause::Cut) => self.counters.cut += 1,
            Verdict::Drop(Cause::TooBig) => self.counters.too_big += 1,
            Verdict::Drop(Cause::Lost) => self.counters.lost += 1,
            Verdict::Drop(Cause::Overflow) => self.counters.overflow += 1,
        }
        verdict
    }

    /// A frame's time has come.
    pub fn release(&mut self, len: usize) {
        self.under_way.take(len);
        self.counters.passed += 1;
        self.counters.passed_bytes += len as u64;
    }

    /// A frame that was under way when the direction was cut: it is not released.
    pub fn lose(&mut self, len: usize) {
        self.under_way.take(len);
        self.counters.cut += 1;
    }

    /// Changes what it does. Forgets what waits for the rate: the caller tells of each such frame
    /// again, in their order, by [`Lane::retime`], for the new rate.
    pub fn set(&mut self, now: Duration, impairment: Impairment) {
        self.impairment = impairment;
        self.full = now;
        self.latest = now;
        self.queue.clear();
        self.waiting = Load::default();
    }

    /// A frame that was under way when the impairment changed. It keeps its draws and its delay.
    pub fn retime(&mut self, now: Duration, len: usize, old: Departure) -> Departure {
        if old.clocked <= now {
            self.latest = self.latest.max(old.at);
            return old;
        }
        let clocked = self.clock(now, len);
        if clocked > now {
            self.wait(clocked, len);
        }
        let at = (clocked + (old.at - old.clocked)).max(self.latest);
        self.latest = at;
        Departure { clocked, at }
    }

    fn judge(&mut self, now: Duration, len: usize) -> Verdict {
        if self.impairment.cut {
            return Verdict::Drop(Cause::Cut);
        }
        if let Some(mtu) = self.impairment.mtu
            && len > mtu as usize + HEADER
        {
            return Verdict::Drop(Cause::TooBig);
        }
        if self.random.chance(self.impairment.loss) {
            return Verdict::Drop(Cause::Lost);
        }
        if !self.under_way.has_room(UNDER_WAY, len) {
            return Verdict::Drop(Cause::Overflow);
        }
        let Some(clocked) = self.enqueue(now, len) else {
            return Verdict::Drop(Cause::Overflow);
        };
        let at = if self.random.chance(self.impairment.reorder) {
            clocked
        } else {
            let varied = self.impairment.delay - self.impairment.jitter
                + self.random.spread(self.impairment.jitter);
            self.latest = self.latest.max(clocked + varied);
            self.latest
        };
        Verdict::Release(Departure { clocked, at })
    }

    /// When the rate lets it through; none if the queue has no room.
    fn enqueue(&mut self, now: Duration, len: usize) -> Option<Duration> {
        while let Some((clocked, len)) = self.queue.front().copied()
            && clocked <= now
        {
            self.queue.pop_front();
            self.waiting.take(len);
        }
        let before = self.full;
        let clocked = self.clock(now, len);
        if clocked > now {
            let limit = Load {
                frames: self.impairment.queue.frames,
                bytes: self.impairment.queue.bytes,
            };
            if !self.waiting.has_room(limit, len) {
                self.full = before;
                return None;
            }
            self.wait(clocked, len);
        }
        Some(clocked)
    }

    fn wait(&mut self, clocked: Duration, len: usize) {
        self.queue.push_back((clocked, len));
        self.waiting.add(len);
    }

    /// Takes the frame's tokens.
    fn clock(&mut self, now: Duration, len: usize) -> Duration {
        let Some(rate) = self.impairment.rate else {
            return now;
        };
        self.full = self.full.max(now) + on_the_wire(len as u64, rate);
        let burst = on_the_wire(self.impairment.burst, rate);
        self.full.saturating_sub(burst).max(now)
    }
}

fn on_the_wire(bytes: u64, rate: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
