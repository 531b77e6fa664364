//! Why a network cannot be made as written, and what to write instead.

use ipnet::IpNet;

use super::default_subnet_len;
use crate::ids::Vni;
use crate::names::NetworkRef;

/// A network that cannot be made as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the numbers that the message shows")]
pub enum NetworkError {
    /// Neither family.
    #[error("network {network} has no addresses: neither `cidr` nor `cidr6` is given")]
    NoRange { network: NetworkRef },
    /// Fewer addresses than two nodes need.
    #[error(
        "network {network}: {cidr} is too small: it holds {addresses} addresses, and the smallest range is a /{longest}"
    )]
    TooSmall {
        network: NetworkRef,
        cidr: IpNet,
        addresses: u128,
        longest: u8,
    },
    /// The address is not the first of its range.
    #[error("network {network}: {given} is not a range: it begins at {begins}")]
    HostBits {
        network: NetworkRef,
        given: IpNet,
        begins: IpNet,
    },
    /// Multicast, loopback, link-local, unspecified.
    #[error("network {network}: {cidr} cannot be used: it lies in {what}")]
    Reserved {
        network: NetworkRef,
        cidr: IpNet,
        what: &'static str,
    },
    /// A subnet length that does not cut the range.
    #[error(
        "network {network}: subnets of /{len} do not fit {cidr}: the length must be {shortest} to {longest}"
    )]
    SubnetLen {
        network: NetworkRef,
        cidr: IpNet,
        len: u8,
        shortest: u8,
        longest: u8,
    },
    /// A subnet length without its range.
    #[error("network {network}: `{key}` is given without `{range}`")]
    SubnetLenAlone {
        network: NetworkRef,
        key: &'static str,
        range: &'static str,
    },
    /// Another network has the VNI.
    #[error("network {network}: VNI {vni} is taken by another network")]
    VniTaken { network: NetworkRef, vni: Vni },
    /// No VNI is left.
    #[error("network {network}: all {} VNIs are taken", Vni::LAST)]
    VnisExhausted { network: NetworkRef },
    /// Too small for the protocol.
    #[error("network {network}: MTU {mtu} is too small: {protocol} needs {least}")]
    Mtu {
        network: NetworkRef,
        mtu: u16,
        protocol: &'static str,
        least: u16,
    },
    /// What cannot change while a network exists.
    #[error("network {network} exists with {what} {present}: it cannot become {wanted}")]
    Fixed {
        network: NetworkRef,
        what: &'static str,
        present: String,
        wanted: String,
    },
}

impl NetworkError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::NoRange { .. } => {
                "add `cidr = \"10.10.0.0/16\"` or `cidr6 = \"fd00:10::/48\"`".into()
            }
            Self::TooSmall { cidr, longest, .. } => {
                let ideal = match cidr {
                    IpNet::V4(_) => "10.10.0.0/16: 1,024 nodes with 64 addresses each",
                    IpNet::V6(_) => "fd00:10::/48: 65,536 nodes with a /64 each",
                };
                format!("use a /{longest} or larger, for example {ideal}")
            }
            Self::HostBits { begins, .. } => format!("write {begins}"),
            Self::Reserved { .. } => {
                "use a private range: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fd00::/8".into()
            }
            Self::SubnetLen { cidr, .. } => format!(
                "leave the subnet length out (it would be {}), or use a larger range",
                default_subnet_len(cidr)
            ),
            Self::SubnetLenAlone { key, range, .. } => format!("add `{range}`, or remove `{key}`"),
            Self::VniTaken { .. } => "leave `vni` out: the lowest free one is taken".into(),
            Self::VnisExhausted { .. } => "delete networks that nobody uses".into(),
            Self::Mtu { least, .. } => {
                format!("use {least} or more, or leave `mtu` out: it follows the underlay")
            }
            Self::Fixed { .. } => {
                "delete the network and make it anew, or give the new one another name".into()
            }
        }
    }
}
