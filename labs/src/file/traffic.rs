//! What a step sends: one protocol and port.

use std::fmt;
use std::str::FromStr;

/// `tcp/80`, `udp/53` or `icmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection to this port.
    Tcp(u16),
    /// A datagram to this port.
    Udp(u16),
    /// An echo request.
    Icmp,
}

impl FromStr for Probe {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let port = |number: &str| match number.parse::<u16>() {
            Ok(0) | Err(_) => Err(format!(
                "{number:?} in {text:?} is not a port from 1 to 65535"
            )),
            Ok(port) => Ok(port),
        };
        match text.split_once('/') {
            Some(("tcp", number)) => port(number).map(Probe::Tcp),
            Some(("udp", number)) => port(number).map(Probe::Udp),
            None if text == "icmp" => Ok(Probe::Icmp),
            _ => Err(format!("{text:?} is not traffic that a step can send")),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp(port) => write!(f, "tcp/{port}"),
            Probe::Udp(port) => write!(f, "udp/{port}"),
            Probe::Icmp => f.write_str("icmp"),
        }
    }
}
