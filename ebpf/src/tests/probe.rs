//! Probes: sent back to the node they came from, noted by their number, and taken from nodes alone.

use std::net::Ipv4Addr;

use weft_ebpf_abi::*;

use super::bed::*;

const NODE_2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
const NUMBER: u64 = 0x0123_4567_89ab_cdef;

fn probe(kind: u32, len: usize) -> Vec<u8> {
    let mut frame = [PROBE_MAC, PROBE_MAC].concat();
    frame.extend(ETH_P_PROBE.to_be_bytes());
    frame.extend(kind.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(NUMBER.to_ne_bytes());
    frame.resize(len, 0);
    frame
}

#[test]
fn a_question_goes_back_as_an_answer_and_is_noted() {
    let mut bed = Bed::new();
    assert_eq!(bed.datapath.arrival(NUMBER).unwrap(), None);
    for len in [60, 61, 1464] {
        let (decision, out) = bed.arrive(&probe(PROBE_ASKED, len), PROBE_VNI, NODE_2);
        assert_eq!((decision.action, decision.target), (ACTION_TUNNEL, 2));
        assert_eq!(out, probe(PROBE_ANSWERED, 60), "its beginning comes back");
        let noted = bed.datapath.arrival(NUMBER).unwrap().expect("it is noted");
        assert_eq!((noted.node, noted.len), (2, len as u32));
        assert!(noted.time > 0);
    }
}

#[test]
fn an_answer_is_noted_and_goes_nowhere() {
    let mut bed = Bed::new();
    let (decision, _) = bed.arrive(&probe(PROBE_ANSWERED, 60), PROBE_VNI, NODE_2);
    assert_eq!(decision.action, ACTION_IGNORE);
    assert_eq!(bed.datapath.arrival(NUMBER).unwrap().unwrap().node, 2);
}

#[test]
fn strangers_and_what_is_no_probe_are_neither_answered_nor_noted() {
    let mut bed = Bed::new();
    let stranger = Ipv4Addr::new(192, 0, 2, 99);
    let mut other = probe(PROBE_ASKED, 60);
    other[12..14].copy_from_slice(&[8, 0]);
    for (frame, sender, reason) in [
        (probe(PROBE_ASKED, 60), stranger, DropReason::UnknownVtep),
        (other, NODE_2, DropReason::Malformed),
        (probe(PROBE_ASKED, 24), NODE_2, DropReason::Malformed),
    ] {
        let (decision, _) = bed.arrive(&frame, PROBE_VNI, sender);
        assert_eq!(DropReason::from_number(decision.reason as u8), Some(reason));
        assert_eq!(bed.datapath.arrival(NUMBER).unwrap(), None);
    }
    let (decision, _) = bed.arrive(&probe(7, 60), PROBE_VNI, NODE_2);
    assert_eq!(decision.reason, DropReason::Malformed as u32);
}
