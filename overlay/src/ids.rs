//! Numbers that are not interchangeable.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A VXLAN network identifier, 1..=2^24-1 (RFC 7348 section 5). 0xffffff is kept for liveness probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// First VNI that is given to a network.
    pub const FIRST: u32 = 1;
    /// Last VNI that is given to a network.
    pub const LAST: u32 = 0xff_fffe;
    /// The VNI, if it is one that a network may have.
    pub const fn new(vni: u32) -> Option<Vni> {
        if vni >= Self::FIRST && vni <= Self::LAST {
            Some(Vni(vni))
        } else {
            None
        }
    }
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}
impl TryFrom<u32> for Vni {
    type Error = String;
    fn try_from(vni: u32) -> Result<Self, String> {
        Vni::new(vni).ok_or_else(|| format!("VNI {vni} is not in {}..={}", Self::FIRST, Self::LAST))
    }
}
impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}
impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub u32);
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
number!(/// A node's number; never reused.
    NodeId);
number!(/// A port's number on its node, 1..=2^24-1; never reused there.
    PortId);

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Mac {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not an Ethernet address: write it as 0a:11:22:33:44:55");
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(Mac(bytes))
        }
    }
}
impl TryFrom<String> for Mac {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}
