//! Steering addresses: the inner Ethernet header between weft programs and through an inline hop.
//!
//! Destination = prefix D + the steering id of the position entered; source = prefix S + the port it
//! came from. No address is ever both, so a learning bridge inside a hop cannot confuse them.
//!
//! A steering id is 24 bits: 22 bits of block, allocated once per (chain version, hop, instance), and
//! two bits of face. A whole block is allocated at once as `steer/<block>`, block a multiple of 4.

/// Gateway MAC of every network on every node, and destination of plain frames between nodes.
pub const GATEWAY_MAC: [u8; 6] = [0x0a, 0x77, 0x65, 0x66, 0x74, 0x01];
/// Prefix D: a destination that is a position in a chain.
pub const STEER_PREFIX: [u8; 3] = [0x0a, 0x77, 0x44];
/// Prefix S: a source that is a port.
pub const PORT_PREFIX: [u8; 3] = [0x0a, 0x77, 0x53];
/// Largest steering id (24 bits).
pub const STEER_ID_MAX: u32 = 0x00ff_ffff;
/// Largest port id (24 bits); 0 is never a port.
pub const PORT_ID_MAX: u32 = 0x00ff_ffff;

/// What a steering id means relative to its block: the low two bits.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SteerFace {
    /// Enter the instance in forward direction, by its first interface.
    EnterForward = 0,
    /// Enter the instance in reverse direction, by its second interface.
    EnterReverse = 1,
    /// Left the last instance forward: deliver to the packet's destination, remember the way back.
    EndForward = 2,
    /// Left the last instance in reverse: deliver to the packet's destination.
    EndReverse = 3,
}

impl SteerFace {
    /// The face of a full steering id.
    pub const fn of(steer: u32) -> SteerFace {
        match steer & 3 {
            0 => Self::EnterForward,
            1 => Self::EnterReverse,
            2 => Self::EndForward,
            _ => Self::EndReverse,
        }
    }
    /// The full steering id of this face of `block`.
    pub const fn id(self, block: u32) -> u32 {
        (block & !3) | self as u32
    }
}

const fn with_id(prefix: [u8; 3], id: u32) -> [u8; 6] {
    [
        prefix[0],
        prefix[1],
        prefix[2],
        (id >> 16) as u8,
        (id >> 8) as u8,
        id as u8,
    ]
}

const fn id_with(prefix: [u8; 3], mac: [u8; 6]) -> Option<u32> {
    if mac[0] != prefix[0] || mac[1] != prefix[1] || mac[2] != prefix[2] {
        return None;
    }
    Some(((mac[3] as u32) << 16) | ((mac[4] as u32) << 8) | mac[5] as u32)
}

/// The destination address of a position.
pub const fn steer_mac(steer: u32) -> [u8; 6] {
    with_id(STEER_PREFIX, steer)
}
/// The source address of a port.
pub const fn port_mac(port: u32) -> [u8; 6] {
    with_id(PORT_PREFIX, port)
}
/// The steering id in an address, if it is a position.
pub const fn steer_of(mac: [u8; 6]) -> Option<u32> {
    id_with(STEER_PREFIX, mac)
}
/// The port id in an address, if it is a port.
pub const fn port_of(mac: [u8; 6]) -> Option<u32> {
    id_with(PORT_PREFIX, mac)
}
