//! Where probes leave a node: an ordinary socket, so that they pass what tunnelled packets pass on their way out of the
//! node, its own packet filter too. They are never fragmented, and no smaller for what is remembered of the way.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use weft_ebpf_abi::{ETH_P_PROBE, PROBE_ANSWER_LEN, PROBE_ASKED, PROBE_MAC, PROBE_VNI};

use crate::underlay::Refused;

/// VXLAN header, RFC 7348 section 5.
const VXLAN: u32 = 8;
/// UDP header.
const UDP: u32 = 8;
/// VXLAN's flag that a VNI is given.
const HAS_VNI: u8 = 0x08;

/// A way to a VTEP.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    /// Outer IP and UDP header, bytes.
    around: u32,
}

impl Socket {
    /// From one VTEP to another.
    pub fn open(from: IpAddr, to: IpAddr, port: u16) -> io::Result<Socket> {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
        if to.is_ipv4() {
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        } else {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
        }
        socket.connect(SocketAddr::new(to, port))?;
        socket.set_nonblocking(true)?;
        let ip = if to.is_ipv4() { 20 } else { 40 };
        Ok(Socket {
            socket,
            around: ip + UDP,
        })
    }

    /// The smallest probe, bytes of outer IP packet.
    pub fn least(&self) -> u32 {
        self.around + VXLAN + PROBE_ANSWER_LEN
    }

    /// Sends a probe that is so large. What came back for an earlier one is told by the next, which is then sent again.
    pub fn send(&self, number: u64, size: u32) -> Result<(), Refused> {
        let datagram = datagram(number, size.max(self.least()) - self.around);
        let told = self.socket.send(&datagram);
        match told.and_then(|_| self.socket.take_error()) {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => match refused(&error) {
                Some(Refused::Filter) => Err(Refused::Filter),
                other => {
                    // Whatever it was, this one may not have been sent.
                    let again = self.socket.send(&datagram);
                    match (other, again) {
                        (Some(other), _) => Err(other),
                        (None, Ok(_)) => Ok(()),
                        (None, Err(error)) => refused(&error).map_or(Ok(()), Err),
                    }
                }
            },
        }
    }
}

/// Why no probe can be sent at all.
pub fn why(error: &io::Error) -> Refused {
    refused(error).unwrap_or_else(|| Refused::Other(error.to_string()))
}

/// What an error says of the way; nothing where it only says that a packet is too large, or that there is no room now.
fn refused(error: &io::Error) -> Option<Refused> {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => Some(Refused::Filter),
        Some(Errno::CONNREFUSED) => Some(Refused::Port),
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH) => Some(Refused::Route),
        Some(Errno::MSGSIZE | Errno::AGAIN | Errno::NOBUFS) => None,
        _ => Some(Refused::Other(error.to_string())),
    }
}

/// VXLAN, Ethernet, the probe, and zeros up to `len` bytes.
fn datagram(number: u64, len: u32) -> Vec<u8> {
    let [_, a, b, c] = PROBE_VNI.to_be_bytes();
    let mut bytes = vec![HAS_VNI, 0, 0, 0, a, b, c, 0];
    bytes.extend([PROBE_MAC, PROBE_MAC].concat());
    bytes.extend(ETH_P_PROBE.to_be_bytes());
    bytes.extend(PROBE_ASKED.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(number.to_ne_bytes());
    bytes.resize(bytes.len().max(len as usize), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn sizes_are_those_of_the_outer_packet() {
        let there = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = there.local_addr().unwrap();
        let socket = Socket::open(to.ip(), to.ip(), to.port()).unwrap();
        let mut room = [0; 2000];
        for (size, expected) in [(1500, 1472), (0, 68), (socket.least(), 68)] {
            assert_eq!(socket.send(7, size), Ok(()));
            assert_eq!(there.recv(&mut room).unwrap(), expected);
        }
        assert_eq!(room[..8], [8, 0, 0, 0, 0xff, 0xff, 0xff, 0]);
        assert_eq!(room[20..26], [0x88, 0xb5, 0, 0, 0, 1]);
        // The loopback takes 65,536 bytes; IPv4 itself no more than 65,535.
        assert_eq!(socket.send(7, 70_000), Ok(()), "too large is no refusal");
    }

    #[test]
    fn a_port_that_nobody_has_is_told() {
        let closed = {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.local_addr().unwrap()
        };
        let socket = Socket::open(closed.ip(), closed.ip(), closed.port()).unwrap();
        let told = [socket.send(1, 0), socket.send(2, 0)];
        assert!(told.contains(&Err(Refused::Port)), "{told:?}");
    }
}
