//! Probes of nodes that are known: noted, and sent back to the node that sent them, by its number and never by what they say.
//!
//! What comes back is the beginning alone: so the size of what is asked is tried in one direction, and a stranger who could
//! forge a node's address would get less than he sends.

use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_skb_change_tail, bpf_skb_store_bytes,
};
use weft_ebpf_abi::{
    ACTION_IGNORE, Arrival, DropReason, ETH_P_PROBE, PROBE_ANSWERED, PROBE_ANSWER_LEN, PROBE_ASKED,
};

use crate::{
    maps,
    packet::{ETH_LEN, Packet, Room},
    report::{self, Skb, TC_DROP},
    send, too_big,
};

#[inline(never)]
pub fn arrived(skb: Skb, p: &mut Packet) -> i32 {
    let mut room = Room::<16>::new();
    if p.ethertype != ETH_P_PROBE || room.load(skb, ETH_LEN).is_none() {
        return report::drop(p, DropReason::Malformed as u32);
    }
    let (kind, number) = (u32::from_be(room.word::<0>()), room.long::<1>());
    let arrival = Arrival {
        // SAFETY: no arguments.
        time: unsafe { bpf_ktime_get_ns() },
        node: p.peer,
        len: p.len,
    };
    // The oldest makes room; an arrival that is not noted counts as lost.
    let _noted = maps::ARRIVALS.insert(&number, &arrival, 0);
    match kind {
        PROBE_ASKED => answer(skb, p),
        PROBE_ANSWERED => {
            report::decide(p, ACTION_IGNORE, 0, 0);
            TC_DROP
        }
        _ => report::drop(p, DropReason::Malformed as u32),
    }
}

#[inline(never)]
fn answer(skb: Skb, p: &mut Packet) -> i32 {
    let kind = PROBE_ANSWERED.to_be_bytes();
    // SAFETY: plain helpers on this packet, which check its bounds.
    let bad = unsafe {
        if p.len > PROBE_ANSWER_LEN && bpf_skb_change_tail(skb, PROBE_ANSWER_LEN, 0) != 0 {
            return report::drop(p, DropReason::Malformed as u32);
        }
        bpf_skb_store_bytes(skb, ETH_LEN, kind.as_ptr().cast(), 4, 0)
    };
    if bad != 0 {
        return report::drop(p, DropReason::Malformed as u32);
    }
    if p.len > PROBE_ANSWER_LEN {
        p.len = PROBE_ANSWER_LEN;
    }
    let node = p.peer;
    let verdict = send::tunnel(skb, p, node);
    if verdict == too_big::TOO_BIG {
        return report::drop(p, DropReason::TooBig as u32);
    }
    verdict
}
