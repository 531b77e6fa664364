//! How far two clocks are apart, from questions with the time before and after: the other's clock was read somewhere
//! between, most likely in the middle (as RFC 5905 section 8 has it). The quickest question says it best. Pure.

use serde::{Deserialize, Serialize};

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When it was asked by the clock here, Unix ns.
    pub asked: u64,
    /// What the other clock said, Unix ns.
    pub said: u64,
    /// When that was here, by the clock here.
    pub heard: u64,
}

/// A difference of clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    /// How far the other is ahead, ns.
    pub ahead: i64,
    /// How wrong that may be either way, ns.
    pub within: u64,
}

/// What questions say of the other clock; `None` without any that is in order.
pub fn apart(readings: &[Reading]) -> Option<Apart> {
    let in_order = readings.iter().filter(|r| r.heard >= r.asked);
    let best = in_order.min_by_key(|r| r.heard - r.asked)?;
    let trip = best.heard - best.asked;
    let middle = best.asked + trip / 2;
    let ahead = i128::from(best.said) - i128::from(middle);
    Some(Apart {
        ahead: i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX }),
        within: trip.div_ceil(2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_quickest_question_counts() {
        let slow = Reading {
            asked: 1_000 * MS,
            said: 3_090 * MS,
            heard: 1_100 * MS,
        };
        let quick = Reading {
            asked: 1_200 * MS,
            said: 3_203 * MS,
            heard: 1_206 * MS,
        };
        let found = apart(&[slow, quick]).unwrap();
        assert_eq!((found.ahead, found.within), (2_000 * MS as i64, 3 * MS));
        // A clock that was set back meanwhile says nothing.
        let back = Reading {
            asked: 10,
            said: 5,
            heard: 9,
        };
        assert_eq!(apart(&[back]), None);
        assert_eq!(apart(&[]), None);
    }

    proptest! {
        #[test]
        fn the_truth_lies_within(there in 0u64..1_000 * MS, back in 0u64..1_000 * MS, ahead in -5_000_000_000_i64..5_000_000_000) {
            let asked = 1_000_000 * MS;
            let said = (asked + there).saturating_add_signed(ahead);
            let found = apart(&[Reading { asked, said, heard: asked + there + back }]).unwrap();
            prop_assert!(found.ahead.abs_diff(ahead) <= found.within);
        }
    }
}
