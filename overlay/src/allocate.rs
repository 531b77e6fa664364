//! Which number is next: VNIs, steering blocks, addresses, Ethernet addresses. Pure; what is taken
//! comes in, and the caller makes the choice true in one transaction whose compares fence it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::documents::NetworkSpec;
use crate::ids::{Mac, Vni};
use crate::network;

/// The lowest VNI that is not in `used`; `None` if all are.
pub fn lowest_free_vni(used: &BTreeSet<Vni>) -> Option<Vni> {
    let used = used.iter().map(|v| v.get());
    lowest_gap(Vni::FIRST, 1, used).and_then(Vni::new)
}

/// The lowest free steering block: a multiple of 4, never 0, of 24 bits; `None` if all are taken.
pub fn lowest_free_block(used: &BTreeSet<u32>) -> Option<u32> {
    lowest_gap(4, 4, used.iter().copied()).filter(|&b| b <= weft_ebpf_abi::STEER_ID_MAX - 3)
}

/// The first of `first`, `first + step`, ... that the ascending `used` lacks.
fn lowest_gap(first: u32, step: u32, used: impl Iterator<Item = u32>) -> Option<u32> {
    let mut next = first;
    for taken in used.skip_while(|&t| t < first) {
        match taken.cmp(&next) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => next = next.checked_add(step)?,
            std::cmp::Ordering::Greater => break,
        }
    }
    Some(next)
}

/// An endpoint's Ethernet address: locally administered, `0a:58` and its first IPv4 address; without
/// one, four random bytes that the caller drew.
pub fn endpoint_mac(addresses: &[IpAddr], random: [u8; 4]) -> Mac {
    let four = addresses.iter().find_map(|a| match a {
        IpAddr::V4(a) => Some(a.octets()),
        IpAddr::V6(_) => None,
    });
    let [a, b, c, d] = four.unwrap_or(random);
    Mac([0x0a, 0x58, a, b, c, d])
}

/// Where addresses come from and which are not to be given.
#[derive(Clone, Copy, Debug)]
pub struct AddressPool<'a> {
    /// The network.
    pub spec: &'a NetworkSpec,
    /// The node's own subnets of it, not held.
    pub own: &'a BTreeSet<IpNet>,
    /// Addresses of endpoints, of any node.
    pub used: &'a BTreeSet<IpAddr>,
    /// Addresses claimed by a key of their own.
    pub claimed: &'a BTreeSet<IpAddr>,
}

/// Where a fixed address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixedAddress {
    /// In one of the node's own subnets: no claim needed.
    Own(IpNet),
    /// Outside: to be claimed by a key.
    Claim,
}

/// A fixed address that cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of the network.
    #[error("address {address} is not in the network's range {range}")]
    Outside {
        /// What was asked for.
        address: IpAddr,
        /// What the network has.
        range: String,
    },
    /// The network's own.
    #[error("address {0} is the network's own (range, gateway or broadcast address)")]
    Reserved(IpAddr),
    /// Another endpoint has it.
    #[error("address {0} is in use by another endpoint")]
    Taken(IpAddr),
}

impl AddressError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Outside { range, .. } => format!("choose one of {range}, or leave `address` out"),
            Self::Reserved(_) | Self::Taken(_) => {
                "choose another address, or leave `address` out: the node gives a free one".into()
            }
        }
    }
}

impl AddressPool<'_> {
    /// The next free address of one family, looking first behind `after` (the one given last, so
    /// that an address rests as long as possible before it is given again), then from the start.
    /// `None` if the node's subnets are full: lease another.
    pub fn pick(&self, ipv6: bool, after: Option<IpAddr>) -> Option<IpAddr> {
        let subnets = || {
            self.own
                .iter()
                .filter(|n| matches!(n, IpNet::V6(_)) == ipv6)
        };
        let after = after.filter(|a| a.is_ipv6() == ipv6).map(number);
        let behind =
            after.and_then(|a| subnets().find_map(|net| self.first_free(net, a.saturating_add(1))));
        behind.or_else(|| subnets().find_map(|net| self.first_free(net, 0)))
    }

    /// Whether an own subnet has no address left to give.
    pub fn is_full(&self, subnet: &IpNet) -> bool {
        self.first_free(subnet, 0).is_none()
    }

    /// Whether a fixed address can be given, and whether it must be claimed.
    pub fn fixed(&self, address: IpAddr) -> Result<FixedAddress, AddressError> {
        let ranges = network::ranges(self.spec);
        if !ranges.iter().any(|(cidr, _)| cidr.contains(&address)) {
            let range: Vec<String> = ranges.iter().map(|(c, _)| c.to_string()).collect();
            return Err(AddressError::Outside {
                address,
                range: range.join(" or "),
            });
        }
        if network::is_reserved(self.spec, address) {
            return Err(AddressError::Reserved(address));
        }
        if self.used.contains(&address) || self.claimed.contains(&address) {
            return Err(AddressError::Taken(address));
        }
        let own = self.own.iter().find(|net| net.contains(&address));
        Ok(own.map_or(FixedAddress::Claim, |net| FixedAddress::Own(*net)))
    }

    /// Steps over what is taken: at most as many steps as there are taken addresses, and three.
    fn first_free(&self, subnet: &IpNet, from: u128) -> Option<IpAddr> {
        let first = number(subnet.network()).max(from);
        let last = number(subnet.broadcast());
        let mut next = first;
        while next <= last {
            let address = address(next, matches!(subnet, IpNet::V6(_)));
            let taken = self.used.contains(&address)
                || self.claimed.contains(&address)
                || network::is_reserved(self.spec, address);
            if !taken {
                return Some(address);
            }
            next = next.checked_add(1)?;
        }
        None
    }
}

/// An address as the number that it is.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn address(number: u128, ipv6: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(four) if !ipv6 => IpAddr::V4(Ipv4Addr::from(four)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}
