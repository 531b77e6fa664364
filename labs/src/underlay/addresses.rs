//! Where nodes are on the underlay: 192.0.2.0/24 (RFC 5737), or 2001:db8::/64 of the range for documentation (RFC 3849).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::file::Family;

/// The first node's last byte; later ones follow.
const FIRST: u8 = 11;

/// The address of the node with this index.
pub(crate) fn address(family: Family, index: usize) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(192, 0, 2, FIRST + index as u8).into(),
        Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last(index)).into(),
    }
}

/// Who a node is to the others at a link. IPv4's neighbours are asked for any address that a node has; IPv6's only for one
/// of the device on which the question comes in (RFC 4861, 7.2.3), and that cannot be the one that all devices share.
pub(super) fn neighbour(address: IpAddr, index: usize) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(_) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last(index)).into(),
    }
}

/// With the prefix length of a segment.
pub(super) fn on_segment(address: IpAddr) -> IpNet {
    let len = if address.is_ipv4() { 24 } else { 64 };
    // Shorter than either family's addresses.
    IpNet::new_assert(address, len)
}

/// `http://`, also where the address needs brackets.
pub(crate) fn url(address: IpAddr, port: u16) -> String {
    format!("http://{}", SocketAddr::new(address, port))
}

/// Reads as the last byte of an IPv4 address does: its decimal digits are the hexadecimal ones.
fn last(index: usize) -> u16 {
    let number = index as u16 + u16::from(FIRST);
    let digits = [1000, 100, 10, 1].map(|place| number / place % 10);
    digits.iter().fold(0, |all, digit| all << 4 | digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_number_nodes_alike() {
        let text = |family, index| address(family, index).to_string();
        assert_eq!(text(Family::Ipv4, 99), "192.0.2.110");
        assert_eq!(text(Family::Ipv6, 0), "2001:db8::11");
        assert_eq!(text(Family::Ipv6, 99), "2001:db8::110");
        assert_eq!(
            url(address(Family::Ipv6, 0), 2379),
            "http://[2001:db8::11]:2379"
        );
    }
}
