//! Who is behind which end of a shared segment: a learning switch's table (IEEE 802.1D, 7.8 and 7.9).
//! Owns: addresses and their age. Never: frames.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An address not heard of for this long is forgotten: the standard's default.
const AGE: Duration = Duration::from_secs(300);
/// More than a lab's nodes, containers and functions; beyond it frames are flooded, not lost.
const LIMIT: usize = 16_384;

/// A MAC address.
type Mac = [u8; 6];

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bridge {
    table: HashMap<Mac, (usize, Duration)>,
}

impl Bridge {
    /// Learns the source of a frame from `member` and tells the one member to which it goes; none
    /// for all others.
    pub(crate) fn forward(&mut self, now: Duration, member: usize, frame: &[u8]) -> Option<usize> {
        let (destination, source) = (mac(frame, 0)?, mac(frame, 6)?);
        if !is_group(source) {
            if self.table.len() >= LIMIT && !self.table.contains_key(&source) {
                self.table.retain(|_, (_, heard)| *heard + AGE > now);
            }
            if self.table.len() < LIMIT || self.table.contains_key(&source) {
                self.table.insert(source, (member, now));
            }
        }
        match self.table.get(&destination) {
            Some((member, heard)) if *heard + AGE > now => Some(*member),
            _ => None,
        }
    }
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok()
}

fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}
