//! Where an endpoint is that no container of weft has: in a network namespace that somebody else made, or behind a
//! tap device, whose other end is a virtual machine.

use std::fmt;
use std::path::PathBuf;

use crate::names::InterfaceName;

/// A place for interfaces. Written where a container's image is: `netns:/run/netns/blue`, `tap:vm1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The namespace at this path.
    Netns(PathBuf),
    /// The tap device of this name on the node.
    Tap(InterfaceName),
}

/// Why it is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// A path that depends on who reads it.
    #[error("{0:?} is not an absolute path")]
    Relative(String),
    /// No name of a device.
    #[error("{0:?} is not a name for a tap device: {1}")]
    Device(String, String),
    /// A name that is weft's own.
    #[error("{0} is a name of weft's own devices")]
    Reserved(InterfaceName),
}

impl ForeignError {
    /// What to do.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Relative(_) => "write it like /run/netns/NAME or /proc/PID/ns/net",
            Self::Device(..) | Self::Reserved(_) => "write a name like tap0",
        }
    }
}

impl Foreign {
    /// The place that an image's text names; `None`: it names an image.
    ///
    /// # Errors
    /// It begins like a place and is none.
    pub fn of(image: &str) -> Result<Option<Foreign>, ForeignError> {
        if let Some(path) = image.strip_prefix("netns:") {
            let relative = !path.starts_with('/');
            return match relative {
                true => Err(ForeignError::Relative(path.to_owned())),
                false => Ok(Some(Foreign::Netns(path.into()))),
            };
        }
        let Some(name) = image.strip_prefix("tap:") else {
            return Ok(None);
        };
        let device: InterfaceName = name
            .parse()
            .map_err(|e| ForeignError::Device(name.to_owned(), format!("{e}")))?;
        let ours = ["wv", "weft"].iter().any(|p| name.starts_with(p));
        if ours || name == "lo" {
            return Err(ForeignError::Reserved(device));
        }
        Ok(Some(Foreign::Tap(device)))
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netns(path) => write!(f, "netns:{}", path.display()),
            Self::Tap(name) => write!(f, "tap:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_from_images() {
        assert_eq!(Foreign::of("host"), Ok(None));
        assert_eq!(Foreign::of("oci:/srv/web"), Ok(None));
        for text in ["netns:/run/netns/blue", "tap:vm1"] {
            assert_eq!(Foreign::of(text).unwrap().unwrap().to_string(), text);
        }
        for text in [
            "netns:blue",
            "netns:",
            "tap:",
            "tap:a/b",
            "tap:wv000001",
            "tap:weft-vxlan",
            "tap:lo",
        ] {
            assert!(Foreign::of(text).is_err(), "{text}");
        }
    }
}
