//! Traffic as it is written everywhere: `tcp/80`, `udp/53`, `tcp/8000-8100`, `icmp`; also `tcp` and
//! `udp` for all ports, and `any`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// IANA protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IANA protocol number of TCP.
pub const TCP: u8 = 6;
/// IANA protocol number of UDP.
pub const UDP: u8 = 17;
/// IANA protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// A protocol, as far as traffic names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Every protocol.
    Any,
    /// ICMP for IPv4 and ICMPv6 for IPv6.
    Icmp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Some traffic: a protocol, and for TCP and UDP a range of destination ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Traffic {
    protocol: Protocol,
    lo: u16,
    hi: u16,
}

/// Text that is no traffic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not traffic: {cause}")]
pub struct TrafficError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub cause: String,
}

/// How traffic is written, for help texts.
pub const FORM: &str = "write it as tcp/80, udp/53, tcp/8000-8100, tcp, udp, icmp or any";

impl Traffic {
    /// Every packet.
    pub const ANY: Traffic = Traffic {
        protocol: Protocol::Any,
        lo: 0,
        hi: u16::MAX,
    };
    /// ICMP and ICMPv6.
    pub const ICMP: Traffic = Traffic {
        protocol: Protocol::Icmp,
        lo: 0,
        hi: u16::MAX,
    };

    /// TCP to one port.
    pub fn tcp(port: u16) -> Traffic {
        Traffic {
            protocol: Protocol::Tcp,
            lo: port,
            hi: port,
        }
    }
    /// UDP to one port.
    pub fn udp(port: u16) -> Traffic {
        Traffic {
            protocol: Protocol::Udp,
            lo: port,
            hi: port,
        }
    }
    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
    /// First and last port, 0 and 65535 where ports do not matter.
    pub fn ports(&self) -> (u16, u16) {
        (self.lo, self.hi)
    }
    /// The one port, if it is exactly one.
    pub fn port(&self) -> Option<u16> {
        let with_ports = matches!(self.protocol, Protocol::Tcp | Protocol::Udp);
        (with_ports && self.lo == self.hi).then_some(self.lo)
    }
    /// IP protocol numbers that it covers; 0 = any.
    pub fn numbers(&self) -> &'static [u8] {
        match self.protocol {
            Protocol::Any => &[0],
            Protocol::Icmp => &[ICMP, ICMPV6],
            Protocol::Tcp => &[TCP],
            Protocol::Udp => &[UDP],
        }
    }
    /// Whether a packet of IP protocol `number` to `port` is of this traffic.
    pub fn matches(&self, number: u8, port: u16) -> bool {
        match self.protocol {
            Protocol::Any => true,
            Protocol::Icmp => number == ICMP || number == ICMPV6,
            Protocol::Tcp => number == TCP && (self.lo..=self.hi).contains(&port),
            Protocol::Udp => number == UDP && (self.lo..=self.hi).contains(&port),
        }
    }
    /// Whether everything of `other` is of this traffic.
    pub fn covers(&self, other: &Traffic) -> bool {
        self.protocol == Protocol::Any
            || self.protocol == other.protocol && self.lo <= other.lo && other.hi <= self.hi
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a port, 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

impl FromStr for Traffic {
    type Err = TrafficError;
    fn from_str(text: &str) -> Result<Self, TrafficError> {
        let bad = |cause: String| TrafficError {
            text: text.to_owned(),
            cause,
        };
        let (name, ports) = match text.split_once('/') {
            Some((name, ports)) => (name, Some(ports)),
            None => (text, None),
        };
        let protocol = match name {
            "any" => Protocol::Any,
            "icmp" => Protocol::Icmp,
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(bad(format!("unknown protocol {name:?}"))),
        };
        let Some(ports) = ports else {
            return Ok(Traffic {
                protocol,
                lo: 0,
                hi: u16::MAX,
            });
        };
        if !matches!(protocol, Protocol::Tcp | Protocol::Udp) {
            return Err(bad(format!("{name} has no ports")));
        }
        let (lo, hi) = match ports.split_once('-') {
            Some((lo, hi)) => (port(lo).map_err(bad)?, port(hi).map_err(bad)?),
            None => {
                let one = port(ports).map_err(bad)?;
                (one, one)
            }
        };
        if lo > hi {
            return Err(bad(format!("the range {lo}-{hi} is empty")));
        }
        Ok(Traffic { protocol, lo, hi })
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            Protocol::Any => return f.write_str("any"),
            Protocol::Icmp => return f.write_str("icmp"),
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        match (self.lo, self.hi) {
            (0, u16::MAX) => f.write_str(name),
            (lo, hi) if lo == hi => write!(f, "{name}/{lo}"),
            (lo, hi) => write!(f, "{name}/{lo}-{hi}"),
        }
    }
}

impl TryFrom<String> for Traffic {
    type Error = TrafficError;
    fn try_from(text: String) -> Result<Self, TrafficError> {
        text.parse()
    }
}
impl From<Traffic> for String {
    fn from(traffic: Traffic) -> String {
        traffic.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept() {
        for text in ["tcp/80", "udp/53", "tcp/8000-8100", "icmp", "tcp", "any"] {
            assert_eq!(text.parse::<Traffic>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "tcp/",
            "tcp/0",
            "tcp/70000",
            "tcp/9-8",
            "icmp/8",
            "sctp/1",
            "tcp/80/1",
            "TCP/80",
        ] {
            assert!(text.parse::<Traffic>().is_err(), "{text}");
        }
    }

    #[test]
    fn covering_is_containing() {
        let of = |text: &str| text.parse::<Traffic>().expect(text);
        assert!(of("tcp").covers(&of("tcp/80")));
        assert!(of("any").covers(&of("icmp")));
        assert!(!of("tcp/80-90").covers(&of("tcp/85-91")));
        assert!(!of("tcp").covers(&of("any")));
    }
}
