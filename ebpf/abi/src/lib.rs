//! The contract between the BPF programs and user space.
//!
//! Owns: every map key and value, the drop reasons, the trace event, the layout of steering
//! addresses, and [`ABI_VERSION`]. Never: behaviour. Rules: `repr(C)`, integers only, explicit
//! padding that is always zero, sizes asserted at compile time. Addresses are 128 bits in network
//! order, IPv4 mapped (`::ffff:a.b.c.d`); integers are in host order unless a field says otherwise.
//! VNIs come first in every key.
#![no_std]
#![forbid(unsafe_code)]

mod event;
mod maps;
mod probe;
mod reason;
mod steer;

pub use event::{
    TRACE_FILTER_PORT_ANY, TRACE_FILTER_PROTO_ANY, TraceEvent, TraceFilter, TracePoint,
};
pub use maps::*;
pub use probe::*;
pub use reason::DropReason;
pub use steer::{
    GATEWAY_MAC, PORT_ID_MAX, PORT_PREFIX, STEER_ID_MAX, STEER_PREFIX, SteerFace, port_mac,
    port_of, steer_mac, steer_of,
};

/// Version of everything in this crate. The loader compares it with the pinned `config` map and makes new
/// maps on a difference. Of the version before it goes on with those maps that look the same, but for what
/// `ebpf/src/migrate.rs` says means something else; it never reads maps of any other version.
pub const ABI_VERSION: u32 = 4;

/// Maps an IPv4 address (network order bytes) into the 128-bit form used by all maps.
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3],
    ]
}
