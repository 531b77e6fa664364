//! The same ways out of a network that may reach outside and publishes a port, and those that only such a network has.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::frames::{TCP, UDP, syn, udp, vxlan};
use super::ways::{Cast, MARK, Way};

/// MARK with two words swapped, which changes no checksum: it may be seen on the way to the outside.
pub const SENT_OUT: &[u8] = b"rgfoed by mallory";

/// From a way out of a closed network to what it is in an open one: dropped for another reason, or let out to its own
/// gateway, which is `None`.
pub fn opened((way, reason, frame): Way) -> (&'static str, Option<&'static str>, Vec<u8>) {
    let reason = match way {
        "another network of the tenant"
        | "another network of the tenant, IPv6"
        | "the gateway itself"
        | "the IPv6 gateway itself" => None,
        "link-local services"
        | "a link-local IPv6 address"
        | "loopback"
        | "IPv6 loopback"
        | "limited broadcast to the gateway's MAC" => Some("node_address"),
        _ => Some(reason),
    };
    let frame = match reason {
        Some(_) => frame,
        None => sent_out(frame),
    };
    (way, reason, frame)
}

fn sent_out(mut frame: Vec<u8>) -> Vec<u8> {
    let at = frame.windows(MARK.len()).position(|seen| seen == MARK);
    let at = at.expect("every frame has the mark");
    frame[at..at + MARK.len()].copy_from_slice(SENT_OUT);
    frame
}

/// To what lies between the network and the outside.
pub fn between(c: &Cast) -> Vec<Way> {
    let near = "node_address";
    let transit = |last| Ipv4Addr::new(169, 254, 64, last);
    let transit6 = |last| Ipv6Addr::new(0xfd77, 0x6566, 0x7400, 0, 0, 0, 0, last);
    let from = |to| c.to(to, UDP, &udp(9000, MARK));
    let inner = std::net::IpAddr::V4(c.far);
    vec![
        ("the node behind the gateway", near, from(transit(0))),
        ("the gateway's other side", near, from(transit(1))),
        (
            "the node behind another tenant's gateway",
            near,
            from(transit(2)),
        ),
        (
            "another tenant's gateway",
            near,
            c.to(transit(3), TCP, &syn(8081, MARK)),
        ),
        (
            "VXLAN behind the gateway",
            near,
            c.to(transit(0), UDP, &vxlan(3, inner, MARK)),
        ),
        (
            "the node behind the gateway, IPv6",
            near,
            c.says6_own(transit6(2)),
        ),
        (
            "another tenant's gateway, IPv6",
            near,
            c.says6_own(transit6(5)),
        ),
        (
            "another tenant's published port",
            near,
            c.to_node(1, TCP, &syn(8081, MARK)),
        ),
        (
            "the own published port",
            near,
            c.to_node(1, TCP, &syn(8080, MARK)),
        ),
        ("no host", near, from(Ipv4Addr::UNSPECIFIED)),
        (
            "several hosts by the gateway's MAC",
            near,
            from(Ipv4Addr::new(224, 0, 0, 1)),
        ),
        (
            "the reserved range",
            near,
            from(Ipv4Addr::new(240, 0, 0, 1)),
        ),
        (
            "several hosts by the gateway's MAC, IPv6",
            near,
            c.says6_own("ff0e::1".parse().expect("it")),
        ),
        (
            "the outside in another's name",
            "spoofed_address",
            c.says(
                Ipv4Addr::new(198, 51, 100, 7),
                Ipv4Addr::new(198, 51, 100, 8),
            ),
        ),
        (
            "the outside in the gateway's name",
            "spoofed_address",
            c.says(Ipv4Addr::new(10, 10, 0, 1), Ipv4Addr::new(198, 51, 100, 8)),
        ),
    ]
}
