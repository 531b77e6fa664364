//! How large a packet fits: the underlay's MTU less the encapsulation.

use std::net::IpAddr;

use crate::documents::NetworkSpec;

/// Inner Ethernet 14 + VXLAN 8 + UDP 8 + IPv4 20 bytes (RFC 7348 section 5).
pub const VXLAN4: u32 = 50;
/// Inner Ethernet 14 + VXLAN 8 + UDP 8 + IPv6 40 bytes.
pub const VXLAN6: u32 = 70;

/// The largest MTU of a network's interfaces over an underlay of MTU `underlay` between VTEPs of the
/// family of `vtep`.
pub fn overlay_mtu(underlay: u32, vtep: IpAddr) -> u16 {
    let overhead = if vtep.is_ipv4() { VXLAN4 } else { VXLAN6 };
    u16::try_from(underlay.saturating_sub(overhead)).unwrap_or(u16::MAX)
}

/// The MTU of a network's interfaces: what its document asks for, but never more than fits.
pub fn network_mtu(spec: &NetworkSpec, underlay: u32, vtep: IpAddr) -> u16 {
    let most = overlay_mtu(underlay, vtep);
    spec.mtu.map_or(most, |mtu| mtu.min(most))
}
