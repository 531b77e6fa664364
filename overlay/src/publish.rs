//! Published ports: `8080:tcp/80` is port 80 of a container, reached by port 8080 of its node.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::filter::Transport;

/// A port of a container that its node offers to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// TCP or UDP.
    pub transport: Transport,
    /// The node's port.
    pub outside: NonZeroU16,
    /// The container's port.
    pub inside: NonZeroU16,
}

/// What is no published port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no published port: write NODE-PORT:tcp/PORT or NODE-PORT:udp/PORT, as 8080:tcp/80"
)]
pub struct PublishError {
    text: String,
}

impl FromStr for Publish {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Publish, PublishError> {
        let parsed = || {
            let (outside, rest) = text.split_once(':')?;
            let (transport, inside) = rest.split_once('/')?;
            let transport = match transport {
                "tcp" => Transport::Tcp,
                "udp" => Transport::Udp,
                _ => return None,
            };
            let port = |digits: &str| {
                let plain = digits.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| digits.parse::<NonZeroU16>().ok())?
            };
            Some(Publish {
                transport,
                outside: port(outside)?,
                inside: port(inside)?,
            })
        };
        parsed().ok_or_else(|| PublishError { text: text.into() })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}/{}",
            self.outside,
            self.transport.name(),
            self.inside
        )
    }
}

impl TryFrom<String> for Publish {
    type Error = PublishError;
    fn try_from(text: String) -> Result<Publish, PublishError> {
        text.parse()
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> String {
        publish.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        for text in ["8080:tcp/80", "53:udp/53", "1:tcp/65535"] {
            let read: Publish = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "",
            "80",
            "80:80",
            "0:tcp/80",
            "80:tcp/0",
            "80:icmp/8",
            "65536:tcp/1",
            "+80:tcp/80",
            "80:tcp/80 ",
        ] {
            let error = text.parse::<Publish>().unwrap_err().to_string();
            assert!(error.contains("8080:tcp/80"), "{text}: {error}");
        }
    }
}
