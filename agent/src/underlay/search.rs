//! The largest packet that a way takes, in rounds of many sizes at once: a size that is lost costs a round's patience, and
//! by halves that would be ten rounds. Pure.

use std::collections::BTreeSet;

/// Sizes of a round. 1,500 bytes take two rounds, 9,000 three.
const AT_ONCE: u32 = 32;

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// Passes, bytes.
    low: u32,
    /// Does not.
    high: u32,
}

impl Search {
    /// `passes` arrived and `lost` did not.
    pub fn between(passes: u32, lost: u32) -> Search {
        Search {
            low: passes,
            high: lost,
        }
    }

    /// The sizes to try next; none when the largest that passes is known.
    pub fn next(&self) -> BTreeSet<u32> {
        let gap = self.high.saturating_sub(self.low);
        let parts = gap.min(AT_ONCE + 1);
        (1..parts)
            .map(|part| self.low + (u64::from(gap) * u64::from(part) / u64::from(parts)) as u32)
            .collect()
    }

    /// Takes in what arrived of a round.
    pub fn learn(&mut self, arrived: &BTreeSet<u32>) {
        let tried = self.next();
        let most = arrived.iter().filter(|size| tried.contains(size)).max();
        self.low = most.copied().unwrap_or(self.low);
        let lost = tried.range(self.low + 1..).next();
        self.high = lost.copied().unwrap_or(self.high);
    }

    /// The largest that passes, as far as is known.
    pub fn largest(&self) -> u32 {
        self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(small: u32, full: u32, takes: u32) -> (u32, u32) {
        let (mut search, mut rounds) = (Search::between(small, full), 0);
        loop {
            let sizes = search.next();
            if sizes.is_empty() {
                return (search.largest(), rounds);
            }
            search.learn(&sizes.into_iter().filter(|size| *size <= takes).collect());
            rounds += 1;
        }
    }

    proptest! {
        #[test]
        fn the_exact_size_is_found(small in 96u32..200, takes in 0u32..10_000, more in 1u32..9_000) {
            let takes = small + takes;
            let (found, rounds) = find(small, takes + more, takes);
            prop_assert_eq!(found, takes);
            prop_assert!(rounds <= 3, "{} rounds", rounds);
        }
    }

    #[test]
    fn two_rounds_are_enough_for_ethernet_and_three_for_jumbo_frames() {
        assert_eq!(find(96, 1500, 1372), (1372, 2));
        assert_eq!(find(96, 9000, 1500), (1500, 3));
    }
}
