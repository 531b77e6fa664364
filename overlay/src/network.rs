//! From what a person wrote to a network's document: ranges, subnet lengths, gateway, VNI, MTU.
//!
//! Owns: every rule about what a network's numbers may be. Never: decides which node has which part
//! (see `leases`), never reads the store: used VNIs and the present document come in as arguments.

mod error;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use error::NetworkError;

use crate::allocate::lowest_free_vni;
use crate::documents::NetworkSpec;
use crate::ids::Vni;
use crate::names::NetworkRef;
use crate::site;

/// The IPv6 gateway of every network, on every node.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// How many subnets a range is cut into at least, where it is large enough: 2^10 = 1,024.
pub const SUBNET_BITS: u8 = 10;
/// Longest IPv4 subnet that is given to a node without being asked for: 8 addresses.
pub const LONGEST_DEFAULT4: u8 = 29;
/// Longest IPv6 subnet that is given to a node without being asked for: 256 addresses.
pub const LONGEST_DEFAULT6: u8 = 120;
/// Smallest IPv4 range of a network: two nodes with 8 addresses each.
pub const LONGEST_CIDR4: u8 = 28;
/// Smallest IPv6 range of a network: two nodes with 256 addresses each.
pub const LONGEST_CIDR6: u8 = 119;
/// Longest IPv4 subnet that may be asked for: 2 addresses.
pub const LONGEST_SUBNET4: u8 = 31;
/// Longest IPv6 subnet that may be asked for: 4 addresses.
pub const LONGEST_SUBNET6: u8 = 126;
/// Smallest MTU of IPv4 (RFC 791 section 3.2: every host takes 576 bytes).
pub const MIN_MTU4: u16 = 576;
/// Smallest MTU of IPv6 (RFC 8200 section 5).
pub const MIN_MTU6: u16 = 1280;

/// The subnet length of nodes in `cidr` when none was asked for: at least 1,024 subnets where the
/// prefix allows, but no subnet so small that a node could hold only a handful of containers. IPv6
/// lengths are rounded up to a multiple of 16, not under 64, because people read them.
pub fn default_subnet_len(cidr: &IpNet) -> u8 {
    let prefix = cidr.prefix_len();
    match cidr {
        IpNet::V4(_) => (prefix + SUBNET_BITS).min(LONGEST_DEFAULT4).max(prefix),
        IpNet::V6(_) => (prefix + SUBNET_BITS)
            .next_multiple_of(16)
            .clamp(64, LONGEST_DEFAULT6)
            .max(prefix),
    }
}

/// The IPv4 gateway of a network: the first address that a host could have.
pub fn gateway4(cidr: &Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()).wrapping_add(1))
}

/// Whether `address` may never be an endpoint's: the range's own, the gateway's, the broadcast
/// address; in IPv6 the subnet-router anycast address (RFC 4291 section 2.6.1) and the first one, so
/// that both families look alike.
pub fn is_reserved(spec: &NetworkSpec, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => spec
            .cidr4
            .is_some_and(|c| a == c.network() || a == c.broadcast() || a == gateway4(&c)),
        IpAddr::V6(a) => spec.cidr6.is_some_and(|c| {
            let first = u128::from(c.network());
            u128::from(a) == first || u128::from(a) == first + 1
        }),
    }
}

/// The ranges of a network with their subnet lengths, IPv4 first.
pub fn ranges(spec: &NetworkSpec) -> Vec<(IpNet, u8)> {
    let four = spec.cidr4.map(|c| (IpNet::V4(c), spec.subnet_len4));
    let six = spec.cidr6.map(|c| (IpNet::V6(c), spec.subnet_len6));
    four.into_iter()
        .chain(six)
        .map(|(cidr, len)| (cidr, len.unwrap_or_else(|| default_subnet_len(&cidr))))
        .collect()
}

/// The document for what was written. `present` is the network's document if it exists: what its
/// endpoints already rely on (VNI, ranges, subnet lengths, datapath) stays. `used` are all VNIs that are taken.
pub fn network_spec(
    wanted: &site::Network,
    present: Option<&NetworkSpec>,
    used: &BTreeSet<Vni>,
) -> Result<NetworkSpec, NetworkError> {
    let network = &wanted.name;
    if wanted.cidr.is_none() && wanted.cidr6.is_none() {
        return Err(NetworkError::NoRange {
            network: network.clone(),
        });
    }
    let len4 = subnet_len(
        network,
        wanted.cidr.map(IpNet::V4),
        wanted.subnet_len,
        ("subnet_len", "cidr"),
    )?;
    let len6 = subnet_len(
        network,
        wanted.cidr6.map(IpNet::V6),
        wanted.subnet_len6,
        ("subnet_len6", "cidr6"),
    )?;
    check_mtu(wanted)?;
    let vni = match (present, wanted.vni) {
        (Some(p), Some(vni)) if vni != p.vni => {
            return Err(fixed(network, "VNI", p.vni, vni));
        }
        (Some(p), _) => p.vni,
        (None, Some(vni)) if used.contains(&vni) => {
            return Err(NetworkError::VniTaken {
                network: network.clone(),
                vni,
            });
        }
        (None, Some(vni)) => vni,
        (None, None) => lowest_free_vni(used).ok_or_else(|| NetworkError::VnisExhausted {
            network: network.clone(),
        })?,
    };
    let spec = NetworkSpec {
        vni,
        cidr4: wanted.cidr,
        cidr6: wanted.cidr6,
        subnet_len4: len4,
        subnet_len6: len6,
        mtu: wanted.mtu,
        datapath: wanted.datapath,
        egress: wanted.egress,
        dscp: wanted.dscp,
        ttl: wanted.ttl,
        labels: wanted.labels.clone(),
    };
    if let Some(present) = present {
        check_fixed(network, present, &spec)?;
    }
    Ok(spec)
}

fn subnet_len(
    network: &NetworkRef,
    cidr: Option<IpNet>,
    asked: Option<u8>,
    (key, range): (&'static str, &'static str),
) -> Result<Option<u8>, NetworkError> {
    let Some(cidr) = cidr else {
        return match asked {
            Some(_) => Err(NetworkError::SubnetLenAlone {
                network: network.clone(),
                key,
                range,
            }),
            None => Ok(None),
        };
    };
    check_range(network, cidr)?;
    let len = asked.unwrap_or_else(|| default_subnet_len(&cidr));
    let (shortest, longest) = match cidr {
        IpNet::V4(_) => (cidr.prefix_len(), LONGEST_SUBNET4),
        IpNet::V6(_) => (cidr.prefix_len(), LONGEST_SUBNET6),
    };
    if len < shortest || len > longest {
        return Err(NetworkError::SubnetLen {
            network: network.clone(),
            cidr,
            len,
            shortest,
            longest,
        });
    }
    Ok(Some(len))
}

fn check_range(network: &NetworkRef, cidr: IpNet) -> Result<(), NetworkError> {
    let network = network.clone();
    if cidr.trunc() != cidr {
        return Err(NetworkError::HostBits {
            network,
            given: cidr,
            begins: cidr.trunc(),
        });
    }
    let longest = match cidr {
        IpNet::V4(_) => LONGEST_CIDR4,
        IpNet::V6(_) => LONGEST_CIDR6,
    };
    if cidr.prefix_len() > longest {
        let addresses = 1u128 << (cidr.max_prefix_len() - cidr.prefix_len());
        return Err(NetworkError::TooSmall {
            network,
            cidr,
            addresses,
            longest,
        });
    }
    match reserved_range(&cidr) {
        Some(what) => Err(NetworkError::Reserved {
            network,
            cidr,
            what,
        }),
        None => Ok(()),
    }
}

/// Ranges that no endpoint can use (IANA special-purpose registries, RFC 6890).
fn reserved_range(cidr: &IpNet) -> Option<&'static str> {
    let four = |a, b, len| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), len));
    let six = |a, len| {
        IpNet::V6(Ipv6Net::new_assert(
            Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, 0),
            len,
        ))
    };
    let list = [
        (four(0, 0, 8), "the unspecified range 0.0.0.0/8"),
        (four(127, 0, 8), "loopback 127.0.0.0/8"),
        (four(169, 254, 16), "link-local 169.254.0.0/16"),
        (four(224, 0, 4), "multicast 224.0.0.0/4"),
        (four(240, 0, 4), "the reserved range 240.0.0.0/4"),
        (six(0, 8), "the unspecified and mapped range ::/8"),
        (six(0xfe80, 10), "link-local fe80::/10"),
        (six(0xff00, 8), "multicast ff00::/8"),
    ];
    list.iter()
        .find(|(range, _)| range.contains(cidr) || cidr.contains(range))
        .map(|(_, what)| *what)
}

fn check_mtu(wanted: &site::Network) -> Result<(), NetworkError> {
    let Some(mtu) = wanted.mtu else { return Ok(()) };
    let (protocol, least) = match wanted.cidr6 {
        Some(_) => ("IPv6", MIN_MTU6),
        None => ("IPv4", MIN_MTU4),
    };
    if mtu < least {
        return Err(NetworkError::Mtu {
            network: wanted.name.clone(),
            mtu,
            protocol,
            least,
        });
    }
    Ok(())
}

fn check_fixed(
    network: &NetworkRef,
    present: &NetworkSpec,
    wanted: &NetworkSpec,
) -> Result<(), NetworkError> {
    let text4 = |c: Option<Ipv4Net>| c.map_or("none".to_owned(), |c| c.to_string());
    let text6 = |c: Option<Ipv6Net>| c.map_or("none".to_owned(), |c| c.to_string());
    if present.cidr4 != wanted.cidr4 {
        return Err(fixed(
            network,
            "cidr",
            text4(present.cidr4),
            text4(wanted.cidr4),
        ));
    }
    if present.cidr6 != wanted.cidr6 {
        return Err(fixed(
            network,
            "cidr6",
            text6(present.cidr6),
            text6(wanted.cidr6),
        ));
    }
    for ((_, had), (cidr, wants)) in ranges(present).into_iter().zip(ranges(wanted)) {
        if had != wants {
            return Err(fixed(
                network,
                "subnet length",
                format!("/{had} of {cidr}"),
                format!("/{wants}"),
            ));
        }
    }
    if present.datapath != wanted.datapath {
        let text = |d| format!("{d:?}").to_lowercase();
        return Err(fixed(
            network,
            "datapath",
            text(present.datapath),
            text(wanted.datapath),
        ));
    }
    Ok(())
}

fn fixed(
    network: &NetworkRef,
    what: &'static str,
    present: impl ToString,
    wanted: impl ToString,
) -> NetworkError {
    NetworkError::Fixed {
        network: network.clone(),
        what,
        present: present.to_string(),
        wanted: wanted.to_string(),
    }
}
