//! Namespaces and links that the tests of this folder begin with. Not a test by itself.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use weft_overlay::link::{VethSpec, VxlanSpec};
use weft_overlay::{Mac, netns};

pub(crate) fn namespace() -> OwnedFd {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces: run it as root (sudo -E cargo test, or cargo xtask test)"
    );
    netns::create().expect("a network namespace")
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a range")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn vxlan(name: &str, port: u16) -> VxlanSpec {
    VxlanSpec {
        mac: Some(Mac([0x0a, 0x77, 0, 0, 0, 9])),
        ..VxlanSpec::over(name, port, 1500, ip("192.0.2.1"))
    }
}

pub(crate) fn veth(name: &str, peer: &str) -> VethSpec {
    VethSpec {
        name: name.into(),
        mac: Some(Mac([0x0a, 0x77, 0, 0, 0, 1])),
        peer_name: peer.into(),
        peer_mac: Some(Mac([0x0a, 0x58, 10, 10, 0, 2])),
        mtu: 1450,
    }
}
