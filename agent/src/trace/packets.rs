//! Which observations speak of the same packet.
//!
//! A packet is known by the hash of what does not change on its way. Two packets can share it (a
//! retransmission without an IP id): the k-th report of one step by one node then belongs to the k-th
//! packet. A large TCP segment that was cut on the way keeps its own ladder; its later pieces, known
//! by their sequence interval, are counted there instead of shown as packets from nowhere.

use std::collections::BTreeMap;

use super::Ladder;
use super::ladder::build;
use crate::proto::Observation;

/// What a report is about, apart from when it was made.
type StepKey<'a> = (&'a str, &'a str, u32, u32, &'a str);

fn step_key(o: &Observation) -> StepKey<'_> {
    (&o.node, &o.point, o.steer, o.port, &o.peer)
}

/// Joins observations, in any order, into one ladder a packet, ordered by when each was first seen.
pub fn join(observations: &[Observation]) -> Vec<Ladder> {
    let mut sorted: Vec<&Observation> = observations.iter().collect();
    sorted.sort_by_key(|o| o.time);
    let mut seen: BTreeMap<(u32, u64, StepKey<'_>), usize> = BTreeMap::new();
    let mut packets: BTreeMap<(u32, u64, usize), Vec<Observation>> = BTreeMap::new();
    for o in sorted {
        let count = seen.entry((o.vni, o.identity, step_key(o))).or_default();
        packets
            .entry((o.vni, o.identity, *count))
            .or_default()
            .push(o.clone());
        *count += 1;
    }
    let (whole, pieces): (Vec<_>, Vec<_>) = packets
        .into_values()
        .partition(|p| p.iter().any(|o| o.point == "from_container"));
    let mut ladders: Vec<Ladder> = whole.into_iter().map(build).collect();
    for piece in pieces {
        match ladders
            .iter_mut()
            .find(|l| is_piece_of(&piece[0], &l.first))
        {
            Some(ladder) => ladder.segments += 1,
            None => ladders.push(build(piece)),
        }
    }
    ladders.sort_by_key(|l| l.first.time);
    ladders
}

/// Whether `piece` is a TCP segment out of the inside of `whole`.
fn is_piece_of(piece: &Observation, whole: &Observation) -> bool {
    let flow = |o: &Observation| {
        (
            o.vni,
            o.src.clone(),
            o.dst.clone(),
            o.proto,
            o.sport,
            o.dport,
        )
    };
    let offset = piece.seq.wrapping_sub(whole.seq);
    piece.proto == 6
        && piece.payload > 0
        && piece.payload < whole.payload
        && offset > 0
        && offset < whole.payload
        && flow(piece) == flow(whole)
}
