//! Probes between nodes: frames of a VNI that no network has, which the datapath of the node that they reach sends back, or
//! rather their beginning. So they take the way that tunnelled packets take, and need no process at the other end.
//!
//! Every arrival is noted on both sides under the probe's number, so what was lost can be told by direction.

/// The VNI of probes; networks' end before it.
pub const PROBE_VNI: u32 = 0xff_ffff;
/// Ethernet type of probes: one for local experiments (IEEE 802, 9.2.4).
pub const ETH_P_PROBE: u16 = 0x88b5;
/// Ethernet address of both ends; no device's, for a tunnel's device takes nothing that its own address sent.
pub const PROBE_MAC: [u8; 6] = [0x0e, 0x77, 0x65, 0x66, 0x74, 0x00];
/// Bytes of an Ethernet header and of [`ProbeHead`]: what there is of the smallest probe.
pub const PROBE_LEN: usize = 14 + size_of::<ProbeHead>();
/// Bytes of an answer: of a question that is longer, the beginning comes back.
pub const PROBE_ANSWER_LEN: u32 = 60;

/// [`ProbeHead::kind`]: to be sent back.
pub const PROBE_ASKED: u32 = 1;
/// [`ProbeHead::kind`]: was sent back.
pub const PROBE_ANSWERED: u32 = 2;

/// What follows the Ethernet header of a probe.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeHead {
    /// `PROBE_*`, big endian.
    pub kind: [u8; 4],
    /// Zero.
    pub pad: [u8; 4],
    /// Which probe it is, drawn at random by who asks.
    pub number: [u8; 8],
}

/// A probe, or the answer to one, that arrived.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// `CLOCK_MONOTONIC`, ns.
    pub time: u64,
    /// Node id of who sent it.
    pub node: u32,
    /// Bytes of the frame.
    pub len: u32,
}

/// Arrivals that are remembered, the latest of them.
pub const ARRIVALS: u32 = 4096;

const _: () = assert!(size_of::<ProbeHead>() == 16 && size_of::<Arrival>() == 16);
