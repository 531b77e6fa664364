//! Names of things, checked when they are made: `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?` (RFC 1123 label).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name or a reference that is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not an RFC 1123 label.
    #[error(
        "{kind} name {text:?} is not valid: use 1 to 63 of a-z, 0-9 and '-', not first or last"
    )]
    Label {
        /// What was being named.
        kind: &'static str,
        /// What was given.
        text: String,
    },
    /// Not `tenant/name` or `tenant/network/name`.
    #[error("{kind} {text:?} is not valid: write it as {form}")]
    Reference {
        /// What was referred to.
        kind: &'static str,
        /// What was given.
        text: String,
        /// How it is written.
        form: &'static str,
    },
}

fn is_label(text: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!(bytes.len(), 1..=63)
        && edge(bytes[0])
        && edge(bytes[bytes.len() - 1])
        && bytes.iter().all(|&b| edge(b) || b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_label(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError::Label { kind: $kind, text: text.to_owned() })
                }
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(/// A tenant.
    TenantName, "tenant");
name!(/// A network inside a tenant.
    NetworkName, "network");
name!(/// A container inside a tenant.
    ContainerName, "container");
name!(/// An endpoint inside a network.
    EndpointName, "endpoint");
name!(/// A chain inside a tenant.
    ChainName, "chain");
name!(/// A node of the cluster.
    NodeName, "node");

/// A network interface inside a container, e.g. `eth0` (kernel: 1 to 15 bytes, no '/', no space).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// `eth<place>`.
    pub fn numbered(place: u16) -> InterfaceName {
        InterfaceName(format!("eth{place}"))
    }
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for InterfaceName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = matches!(text.len(), 1..=15)
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && text != "."
            && text != "..";
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Label {
                kind: "interface",
                text: text.to_owned(),
            })
        }
    }
}
impl TryFrom<String> for InterfaceName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> String {
        name.0
    }
}
impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! reference {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $form:literal, $($field:ident: $part:ty),+) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type {
            $(
                #[allow(missing_docs, reason = "the field is the part of that name")]
                pub $field: $part,
            )+
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let bad = || NameError::Reference { kind: $kind, text: text.to_owned(), form: $form };
                let mut parts = text.split('/');
                let made = Self { $($field: parts.next().ok_or_else(bad)?.parse()?),+ };
                if parts.next().is_some() { Err(bad()) } else { Ok(made) }
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(reference: $type) -> String {
                reference.to_string()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let parts: &[&str] = &[$(self.$field.as_str()),+];
                f.write_str(&parts.join("/"))
            }
        }
    };
}

reference!(/// A network, `red/front`.
    NetworkRef, "network", "TENANT/NETWORK", tenant: TenantName, network: NetworkName);
reference!(/// A container, `red/web1`.
    ContainerRef, "container", "TENANT/NAME", tenant: TenantName, container: ContainerName);
reference!(/// An endpoint, `red/front/web1`.
    EndpointRef, "endpoint", "TENANT/NETWORK/NAME", tenant: TenantName, network: NetworkName, endpoint: EndpointName);
