//! What the outer header says of a packet, and the packet of it: RFC 2983 of the priority, RFC 3443 of the time to live.
//! Congestion marks are the kernel's (RFC 6040).

use weft_overlay::documents::{Copying, NetworkSpec};

/// The outer time to live where it is not the packet's.
const OWN_TTL: u8 = 64;

/// Priority (differentiated services, 6 bits) and time to live of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The priority, 0..=63.
    pub dscp: u8,
    /// Hops that are left.
    pub ttl: u8,
}

impl Marks {
    /// Of the IP packet in a whole frame.
    fn of(frame: &[u8]) -> Option<Marks> {
        let class = u16::from_be_bytes([*frame.get(14)?, *frame.get(15)?]);
        match class >> 12 {
            4 => Some(Marks {
                dscp: (class & 0xff) as u8 >> 2,
                ttl: *frame.get(22)?,
            }),
            6 => Some(Marks {
                dscp: (class >> 4 & 0xff) as u8 >> 2,
                ttl: *frame.get(21)?,
            }),
            _ => None,
        }
    }

    /// Those of the tunnel that takes this frame to another node.
    pub fn outside(spec: &NetworkSpec, frame: &[u8]) -> Option<Marks> {
        let inner = Marks::of(frame)?;
        Some(Marks {
            dscp: match spec.dscp {
                Copying::Pipe => 0,
                Copying::Uniform => inner.dscp,
            },
            ttl: match spec.ttl {
                Copying::Pipe => OWN_TTL,
                Copying::Uniform => inner.ttl,
            },
        })
    }

    /// What the frame says behind its Ethernet header when it leaves a tunnel that said this at last.
    pub fn inside(self, spec: &NetworkSpec, frame: &[u8]) -> Option<Vec<u8>> {
        let had = Marks::of(frame)?;
        let dscp = match spec.dscp {
            Copying::Pipe => had.dscp,
            Copying::Uniform => self.dscp,
        };
        let ttl = match spec.ttl {
            Copying::Pipe => had.ttl,
            // A tunnel gives no packet a longer life.
            Copying::Uniform => self.ttl.min(had.ttl),
        };
        let mut packet = frame[14..].to_vec();
        if packet[0] >> 4 == 6 {
            let class = u16::from_be_bytes([packet[0], packet[1]]);
            let class = class & 0xf03f | u16::from(dscp) << 6;
            packet[..2].copy_from_slice(&class.to_be_bytes());
            packet[7] = ttl;
            return Some(packet);
        }
        for (at, byte) in [(1, packet[1] & 3 | dscp << 2), (8, ttl)] {
            put(&mut packet, at, byte);
        }
        Some(packet)
    }
}

/// Writes a byte of an IPv4 header, and what its checksum then is (RFC 1624, equation 3).
fn put(packet: &mut [u8], at: usize, byte: u8) {
    let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let even = at & !1;
    let had = word(packet, even);
    packet[at] = byte;
    let has = word(packet, even);
    if had == has {
        return;
    }
    let mut sum = u32::from(!word(packet, 10)) + u32::from(!had) + u32::from(has);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
