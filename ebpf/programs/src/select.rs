//! Which position a packet goes to next: flow memory first, then the rules, then a slot of the stage.

use weft_ebpf_abi::{
    ClassCidrKey, ClassKey, DropReason, FLOW_FRAGMENTS, FLOW_PORTS, Flow, FlowKey,
    NETWORK_CIDR_CLASSES, PairKey, RULES_MAX, Rule, STAGE_BYPASS, STAGE_REVERSE, SlotKey,
    SteerFace,
};

use crate::{
    flows, maps,
    packet::{Packet, TCP_ACK, TCP_SYN, symmetric_hash},
};
use aya_ebpf::btf_maps::lpm_trie::Key;

/// Answers of this module: a steering id (they have 24 bits), or one of these.
pub const NONE: u32 = 0xffff_ffff;
/// No hop, and that is not to be asked again.
pub const BYPASSED: u32 = 0xffff_fffe;
/// The packet is to be dropped; the low byte is the reason.
pub const DROP: u32 = 0xff00_0000;

/// Whether an answer is a reason to drop.
#[inline(always)]
pub fn refuses(answer: u32) -> bool {
    answer >= DROP && answer < BYPASSED
}

#[inline(always)]
fn flow_key(p: &Packet) -> FlowKey {
    FlowKey {
        steer: p.steer,
        src: p.src,
        dst: p.dst,
        sport: p.sport,
        dport: p.dport,
        proto: p.proto,
        kind: FLOW_PORTS,
        pad: [0; 2],
    }
}

#[inline(always)]
fn fragment_key(p: &Packet) -> FlowKey {
    FlowKey {
        steer: p.steer,
        src: p.src,
        dst: p.dst,
        sport: (p.fragment_id >> 16) as u16,
        dport: p.fragment_id as u16,
        proto: p.proto,
        kind: FLOW_FRAGMENTS,
        pad: [0; 2],
    }
}

/// The fragments that follow this first one go where it went: to `steer`, or by no hop.
#[inline(never)]
pub fn lead(p: &Packet, steer: u32) -> u32 {
    let key = fragment_key(p);
    let flow = Flow {
        steer: if steer >= DROP { 0 } else { steer },
        from_port: 0,
        last_seen: 0,
    };
    flows::put(p.port, &key, &flow);
    0
}

#[inline(always)]
fn opens_flow(p: &Packet) -> bool {
    p.proto == 6 && p.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
}

/// The position this flow took before, if its instance still stands. A fragment that is not the first has no
/// ports: it goes where its first went.
#[inline(never)]
pub fn remembered(p: &Packet) -> u32 {
    if opens_flow(p) {
        return NONE;
    }
    let key = if p.later_fragment != 0 {
        fragment_key(p)
    } else {
        flow_key(p)
    };
    let Some(steer) = flows::get(p.port, &key) else {
        return NONE;
    };
    if steer == 0 {
        return BYPASSED;
    }
    if unsafe { maps::POSITIONS.get(steer & !3) }.is_none() {
        return NONE;
    }
    steer
}

#[inline(never)]
pub fn remember(p: &Packet, steer: u32) -> u32 {
    let key = flow_key(p);
    let flow = Flow {
        steer,
        from_port: 0,
        last_seen: 0,
    };
    flows::put(p.port, &key, &flow);
    0
}

#[inline(always)]
fn class_of(p: &Packet, addr: &[u8; 16]) -> u32 {
    let key = ClassKey {
        vni: p.vni,
        addr: *addr,
    };
    if let Some(class) = unsafe { maps::CLASSES.get(&key) } {
        return *class;
    }
    if p.network_flags & NETWORK_CIDR_CLASSES != 0 {
        let key = Key::new(
            160,
            ClassCidrKey {
                vni_be: p.vni.to_be_bytes(),
                addr: *addr,
            },
        );
        if let Some(class) = maps::CLASS_CIDRS.get(&key) {
            return *class;
        }
    }
    0
}

/// The stage that the rules of (from, to) give; 0 = none. Of a later fragment: one that they may give.
#[inline(always)]
fn stage_of(p: &Packet, from: u32, to: u32, reverse: bool) -> u32 {
    let key = PairKey {
        vni: p.vni,
        from,
        to,
    };
    let Some(rules) = (unsafe { maps::PAIRS.get(&key) }) else {
        return 0;
    };
    let port = if reverse { p.sport } else { p.dport };
    let echo = p.proto == 1 || p.proto == 58;
    let mut i = 0;
    while i < RULES_MAX {
        if i as u32 >= rules.count {
            break;
        }
        let rule: &Rule = &rules.rules[i];
        let stage = if reverse {
            rule.reverse_stage
        } else {
            rule.stage
        };
        if stage != 0 && (rule.proto == 0 || rule.proto == p.proto) {
            let all_ports = rule.port_lo == 0 && rule.port_hi == 65535;
            if all_ports || echo {
                return stage;
            }
            if p.later_fragment != 0 {
                // Whether it matches cannot be told; any stage says that it might.
                return stage;
            }
            if port >= rule.port_lo && port <= rule.port_hi {
                return stage;
            }
        }
        i += 1;
    }
    0
}

/// The first stage of the chain that selects this packet, in its direction.
#[inline(never)]
pub fn classify(p: &Packet) -> u32 {
    let from = class_of(p, &p.src);
    let to = class_of(p, &p.dst);
    if from == 0 && to == 0 {
        return 0;
    }
    let stage = stage_of(p, from, to, false);
    if stage != 0 {
        return stage;
    }
    stage_of(p, to, from, true)
}

/// The position of this flow in a stage, passing by stages that are bypassed.
#[inline(never)]
pub fn position_in(p: &Packet, first: u32) -> u32 {
    if p.later_fragment != 0 {
        // Its first was not seen here, and its hash is another flow's.
        return DROP | DropReason::Frag as u32;
    }
    let hash = symmetric_hash(p);
    let mut stage_id = first;
    let mut passed = 0;
    while passed < 8 {
        if stage_id == 0 {
            return NONE;
        }
        let Some(stage) = (unsafe { maps::STAGES.get(stage_id) }) else {
            return DROP | DropReason::NoInstance as u32;
        };
        if stage.slots != 0 {
            let key = SlotKey {
                stage: stage_id,
                slot: hash % stage.slots,
            };
            let Some(block) = (unsafe { maps::SLOTS.get(&key) }) else {
                return DROP | DropReason::NoInstance as u32;
            };
            let face = if stage.flags & STAGE_REVERSE != 0 {
                SteerFace::EnterReverse
            } else {
                SteerFace::EnterForward
            };
            return face.id(*block);
        }
        if stage.flags & STAGE_BYPASS == 0 {
            return DROP | DropReason::NoInstance as u32;
        }
        stage_id = stage.next;
        passed += 1;
    }
    DROP | DropReason::HopBudget as u32
}
