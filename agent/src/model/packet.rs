//! What a frame says, read as its RFCs tell, and refused where it contradicts itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_ebpf_abi::DropReason;

/// Extension headers that are followed; more are refused.
const EXTENSIONS: usize = 6;

/// An Ethernet frame.
pub struct Frame<'a> {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    kind: u16,
    body: &'a [u8],
}

/// An ARP packet for IPv4 over Ethernet.
pub struct Arp {
    pub request: bool,
    pub sender_mac: [u8; 6],
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
}

/// A neighbour solicitation.
pub struct Solicitation {
    pub sender: Ipv6Addr,
    pub target: Ipv6Addr,
}

/// An IP packet whose headers are whole.
pub struct Internet<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Its length with all that the frame carries behind it.
    pub bytes: u32,
    protocol: u8,
    /// A fragment that is not the first has no transport header.
    later: bool,
    extended: bool,
    transport: &'a [u8],
}

fn two(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl<'a> Frame<'a> {
    pub fn read(bytes: &'a [u8]) -> Option<Frame<'a>> {
        Some(Frame {
            destination: array(bytes, 0)?,
            source: array(bytes, 6)?,
            kind: two(bytes, 12)?,
            body: &bytes[14..],
        })
    }

    /// `None`: it is no ARP.
    pub fn arp(&self) -> Option<Result<Arp, DropReason>> {
        (self.kind == 0x0806).then(|| self.read_arp().ok_or(DropReason::Malformed))
    }

    fn read_arp(&self) -> Option<Arp> {
        let whole: [u8; 28] = array(self.body, 0)?;
        // Ethernet, IPv4, and the lengths of their addresses.
        if whole[..6] != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        Some(Arp {
            request: two(&whole, 6)? == 1,
            sender_mac: array(&whole, 8)?,
            sender: Ipv4Addr::from(array::<4>(&whole, 14)?),
            target: Ipv4Addr::from(array::<4>(&whole, 24)?),
        })
    }

    pub fn internet(&self) -> Result<Internet<'a>, DropReason> {
        let packet = match self.kind {
            0x0800 => self.v4()?,
            0x86dd => self.v6()?,
            _ => return Err(DropReason::UnsupportedProtocol),
        };
        // RFC 1858: a first fragment must hold the transport's header; a solicitation also its target (RFC 4861
        // section 7.1.1).
        let asks = packet.source.is_ipv6() && packet.transport.first() == Some(&135);
        let least = match packet.protocol {
            6 => 20,
            58 if asks => 24,
            17 | 1 | 58 => 8,
            _ => 0,
        };
        if !packet.later && packet.transport.len() < least {
            return Err(DropReason::Malformed);
        }
        Ok(packet)
    }

    fn bytes(&self) -> u32 {
        u32::try_from(self.body.len()).unwrap_or(u32::MAX)
    }

    /// RFC 791 section 3.1. What follows the total length is padding; total length zero: as long as the frame.
    fn v4(&self) -> Result<Internet<'a>, DropReason> {
        let bad = DropReason::Malformed;
        let head: [u8; 20] = array(self.body, 0).ok_or(bad)?;
        let (version, words) = (head[0] >> 4, head[0] & 15);
        let length = usize::from(words) * 4;
        let total = usize::from(two(&head, 2).ok_or(bad)?);
        let offset = two(&head, 6).ok_or(bad)? & 0x1fff;
        if version != 4 || length < 20 || (total != 0 && total < length) {
            return Err(bad);
        }
        if overwrites(head[9], offset) {
            return Err(bad);
        }
        check_options(self.body.get(20..).unwrap_or_default(), length - 20)?;
        let address = |at| Some(IpAddr::V4(Ipv4Addr::from(array::<4>(&head, at)?)));
        Ok(Internet {
            source: address(12).ok_or(bad)?,
            destination: address(16).ok_or(bad)?,
            bytes: self.bytes(),
            protocol: head[9],
            later: offset != 0,
            extended: false,
            transport: within(self.body, length, total),
        })
    }

    /// RFC 8200 sections 3 and 4.
    fn v6(&self) -> Result<Internet<'a>, DropReason> {
        let bad = DropReason::Malformed;
        let head: [u8; 40] = array(self.body, 0).ok_or(bad)?;
        let source = Ipv6Addr::from(array::<16>(&head, 8).ok_or(bad)?);
        let destination = Ipv6Addr::from(array::<16>(&head, 24).ok_or(bad)?);
        let mapped = |a: Ipv6Addr| a.to_ipv4_mapped().is_some();
        // IPv4 addresses in disguise are on no wire (RFC 4291 section 2.5.5.2).
        if head[0] >> 4 != 6 || mapped(source) || mapped(destination) {
            return Err(bad);
        }
        let (protocol, at, later) = self.extensions(head[6])?;
        let payload = usize::from(two(&head, 4).ok_or(bad)?);
        let total = if payload == 0 { 0 } else { 40 + payload };
        Ok(Internet {
            source: IpAddr::V6(source),
            destination: IpAddr::V6(destination),
            bytes: self.bytes(),
            protocol,
            later,
            extended: at != 40,
            transport: within(self.body, at, total),
        })
    }

    /// The transport's protocol, where it begins, and whether this is a later fragment, which has none.
    fn extensions(&self, first: u8) -> Result<(u8, usize, bool), DropReason> {
        let (mut kind, mut at) = (first, 40);
        let extension = |kind| matches!(kind, 0 | 43 | 44 | 51 | 60);
        for _ in 0..EXTENSIONS {
            if !extension(kind) {
                return Ok((kind, at, false));
            }
            let head: [u8; 8] = array(self.body, at).ok_or(DropReason::Malformed)?;
            // Of type 0, by which a sender names its route (RFC 5095).
            if kind == 43 && head[2] == 0 {
                return Err(DropReason::SourceRoute);
            }
            let units = usize::from(head[1]);
            at += match kind {
                44 => 8,
                // Authentication counts words of four bytes (RFC 4302 section 2.2).
                51 => (units + 2) * 4,
                _ => (units + 1) * 8,
            };
            let offset = u16::from_be_bytes([head[2], head[3]]) >> 3;
            let later = kind == 44 && offset != 0;
            kind = head[0];
            if later && extension(kind) {
                return Err(DropReason::Frag);
            }
            if later {
                let bad = overwrites(kind, offset);
                return if bad {
                    Err(DropReason::Malformed)
                } else {
                    Ok((kind, at, true))
                };
            }
        }
        if extension(kind) {
            return Err(DropReason::Malformed);
        }
        Ok((kind, at, false))
    }
}

/// Whether a fragment that begins so many times eight bytes in writes over the ports of the first (RFC 3128).
fn overwrites(protocol: u8, offset: u16) -> bool {
    protocol == 6 && offset == 1
}

/// The options in the first `length` bytes: well formed, and none that names a route (RFC 791 section 3.1).
fn check_options(bytes: &[u8], length: usize) -> Result<(), DropReason> {
    let mut rest = bytes;
    let mut left = length;
    while left > 0 {
        let size = match *rest.first().ok_or(DropReason::Malformed)? {
            0 => return Ok(()),
            1 => 1,
            131 | 137 => return Err(DropReason::SourceRoute),
            _ => match *rest.get(1).ok_or(DropReason::Malformed)? {
                0 | 1 => return Err(DropReason::Malformed),
                told => usize::from(told),
            },
        };
        left = left.checked_sub(size).ok_or(DropReason::Malformed)?;
        rest = rest.get(size..).unwrap_or_default();
    }
    Ok(())
}

/// What the packet has from `at` on; its own length bounds it where it gives one.
fn within(body: &[u8], at: usize, total: usize) -> &[u8] {
    let end = if total == 0 {
        body.len()
    } else {
        total.min(body.len())
    };
    body.get(at..end).unwrap_or_default()
}

impl Internet<'_> {
    /// `None`: it asks for no neighbour.
    pub fn solicitation(&self) -> Option<Result<Solicitation, DropReason>> {
        let (IpAddr::V6(sender), 58, false) = (self.source, self.protocol, self.later) else {
            return None;
        };
        if self.transport.first() != Some(&135) {
            return None;
        }
        // Behind extension headers it may be a fragment (RFC 6980 section 5).
        let target = array::<16>(self.transport, 8).filter(|_| !self.extended);
        let asked = target.map(|target| Solicitation {
            sender,
            target: Ipv6Addr::from(target),
        });
        Some(asked.ok_or(DropReason::Malformed))
    }

    /// No error about an error, nor about a later fragment (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
    pub fn may_be_answered(&self) -> bool {
        let kind = self.transport.first().copied().unwrap_or(0);
        let error = match self.protocol {
            1 => kind != 0 && kind != 8,
            58 => kind < 128,
            _ => false,
        };
        !self.later && !error
    }
}
