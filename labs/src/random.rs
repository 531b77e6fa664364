//! Chance, seeded, and the same for ever: of a link's lanes, of a disk's power cut.
//!
//! A run that failed must fail again from its seed, also after an upgrade of any crate; generators of
//! crates may change between versions. Owns: SplitMix64 (Steele, Lea, Flood: "Fast splittable
//! pseudorandom number generators", OOPSLA 2014). Never: for secrets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// 2^64, as a float: what a 64-bit draw is a part of.
const WHOLE: f64 = 18_446_744_073_709_551_616.0;

/// A stream of draws.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for each name under one seed: another link in the lab changes no draw here.
    pub(crate) fn named(seed: u64, name: &str) -> Random {
        // FNV-1a, 64 bits.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3_u64)
        });
        Random(seed ^ hash)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True for this part of all draws. A part of 0 draws nothing, so that a link which loses nothing
    /// does not shift the draws of its jitter.
    pub(crate) fn chance(&mut self, part: f64) -> bool {
        part > 0.0 && (self.draw() as f64) < part * WHOLE
    }

    /// Evenly from 0 to one below `count`; 0 for none.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.draw()) * count as u128) >> 64) as usize
    }

    /// Evenly from zero up to twice `around`.
    pub(crate) fn spread(&mut self, around: Duration) -> Duration {
        if around.is_zero() {
            return Duration::ZERO;
        }
        let width = around.as_nanos() as u64 * 2 + 1;
        Duration::from_nanos(((u128::from(self.draw()) * u128::from(width)) >> 64) as u64)
    }
}
