//! Network sysctls, written from a thread inside the namespace: /proc/sys/net is the reader's.

use std::io;
use std::os::fd::AsFd;

use super::LinkError;
use crate::netns;

/// Writes sysctls of a namespace: `("net/ipv4/ip_forward", "1")`. Stops at the first that fails.
pub fn write(netns: impl AsFd, values: &[(String, &str)]) -> Result<(), LinkError> {
    netns::run_in_netns(netns, || {
        values
            .iter()
            .try_for_each(|(key, value)| write_here(key, value))
    })?
}

/// Reads a sysctl of a namespace.
pub fn read(netns: impl AsFd, key: &str) -> Result<String, LinkError> {
    let path = format!("/proc/sys/{key}");
    let text = netns::run_in_netns(netns, || std::fs::read_to_string(&path))?;
    match text {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(LinkError::Sysctl {
            path,
            value: "nothing (read)".into(),
            source,
        }),
    }
}

fn write_here(key: &str, value: &str) -> Result<(), LinkError> {
    let path = format!("/proc/sys/{key}");
    // Written only when it differs: /proc/sys may be read-only where nothing is to be changed.
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    match std::fs::write(&path, value) {
        Ok(()) => Ok(()),
        // A kernel booted without IPv6 has it off everywhere.
        Err(e) if e.kind() == io::ErrorKind::NotFound && no_ipv6(key) => Ok(()),
        // Nor has a link of less than 1,280 bytes any (RFC 8200 section 5): what is to be off is.
        Err(e) if e.kind() == io::ErrorKind::NotFound && is_off(key, value) => Ok(()),
        Err(source) => Err(LinkError::Sysctl {
            path,
            value: value.to_owned(),
            source,
        }),
    }
}

fn is_off(key: &str, value: &str) -> bool {
    key.starts_with("net/ipv6/conf/") && key.ends_with("/disable_ipv6") && value == "1"
}

fn no_ipv6(key: &str) -> bool {
    key.starts_with("net/ipv6/") && !std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// No IPv6 on a link: no router solicitations, no multicast reports, no link-local address.
pub fn without_ipv6(link: &str) -> Vec<(String, &'static str)> {
    vec![(format!("net/ipv6/conf/{link}/disable_ipv6"), "1")]
}

/// IPv6 on a link with the given addresses only: no duplicate detection (it costs 1.1 s), no
/// link-local address, no router advertisements.
pub fn static_ipv6(link: &str) -> Vec<(String, &'static str)> {
    let of = |name: &str| format!("net/ipv6/conf/{link}/{name}");
    vec![
        (of("disable_ipv6"), "0"),
        (of("accept_dad"), "0"),
        (of("accept_ra"), "0"),
        (of("autoconf"), "0"),
        (of("router_solicitations"), "0"),
        (of("addr_gen_mode"), "1"),
    ]
}
