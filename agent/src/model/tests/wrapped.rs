//! A drawn frame as the underlay has it.

use super::*;

/// The tunnel's.
pub const PORT: u16 = 4789;

/// For this node (192.0.2.1), from a VTEP, in VXLAN (RFC 7348 section 5) with the drawn marks outside. The receiving card
/// is the loopback, whose address is all zeros.
pub fn frame(case: &Case, vtep: Ipv4Addr, vni: u32) -> Vec<u8> {
    let length = |headers: usize| u16::try_from(headers + case.frame.len()).expect("it fits");
    let mut frame = [[0; 6], [2; 6]].concat();
    frame.extend([8, 0, 0x45, case.outer.dscp << 2]);
    frame.extend(length(20 + 8 + 8).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, case.outer.ttl, 17, 0, 0]);
    frame.extend(vtep.octets());
    frame.extend([192, 0, 2, 1]);
    frame.extend(49152u16.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend(length(8 + 8).to_be_bytes());
    frame.extend([0, 0, 8, 0, 0, 0]);
    frame.extend((vni << 8).to_be_bytes());
    frame.extend(&case.frame);
    frame
}
