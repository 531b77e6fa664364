//! Lets some traffic through and denies the rest. Keeps no flows: an answer is known by the allowed
//! port as its source, coming the other way, and it opens no connection.
//!
//! `deny` is asked first, then `allow`; then everything is denied if anything is allowed by name, else
//! everything is allowed. Later fragments have no ports and go through: without their first fragment,
//! which is judged, nobody can use them. An ICMP error goes through when the packet that it speaks of
//! may have come the other way. ARP and whatever else is no IP goes through.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::FunctionError;
use super::bridge::{self, Judge};
use super::status::Status;
use crate::traffic::{ICMP, ICMPV6, TCP, Traffic, UDP};

pub use super::bridge::Direction;

/// How a firewall is set up.
#[derive(Clone, Debug)]
pub struct FirewallArgs {
    /// First interface, `in0`.
    pub input: String,
    /// Second interface, `out0`.
    pub output: String,
    /// What is let through.
    pub allow: Vec<Traffic>,
    /// What is not, whatever is allowed.
    pub deny: Vec<Traffic>,
    /// Where the status goes.
    pub status: PathBuf,
}

impl Default for FirewallArgs {
    fn default() -> Self {
        FirewallArgs {
            input: "in0".into(),
            output: "out0".into(),
            allow: Vec::new(),
            deny: Vec::new(),
            status: super::DEFAULT_STATUS.into(),
        }
    }
}

/// What decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No IP packet: through.
    Other,
    /// A later fragment: through.
    Fragment,
    /// Let through by this entry of `allow`, or by the default.
    Allow(Option<usize>),
    /// Denied by this entry of `deny`, or by the default.
    Deny(Option<usize>),
}

/// The rules of a firewall.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What is let through.
    pub allow: Vec<Traffic>,
    /// What is not.
    pub deny: Vec<Traffic>,
}

/// What the rules look at.
#[derive(Clone, Copy, Debug)]
struct Facts {
    protocol: u8,
    source: u16,
    destination: u16,
    /// TCP that opens a connection: SYN without ACK.
    opens: bool,
}

fn facts(packet: &LaxSlicedPacket<'_>) -> Option<Facts> {
    let plain = |protocol| Facts {
        protocol,
        source: 0,
        destination: 0,
        opens: false,
    };
    Some(match packet.transport.as_ref()? {
        TransportSlice::Tcp(tcp) => Facts {
            protocol: TCP,
            source: tcp.source_port(),
            destination: tcp.destination_port(),
            opens: tcp.syn() && !tcp.ack(),
        },
        TransportSlice::Udp(udp) => Facts {
            protocol: UDP,
            source: udp.source_port(),
            destination: udp.destination_port(),
            opens: false,
        },
        TransportSlice::Icmpv4(_) => plain(ICMP),
        TransportSlice::Icmpv6(_) => plain(ICMPV6),
        TransportSlice::Igmp(_) => plain(2),
    })
}

/// The packet that an ICMP error speaks of (RFC 792; RFC 4443 section 3).
fn embedded<'a>(packet: &LaxSlicedPacket<'a>) -> Option<LaxSlicedPacket<'a>> {
    let (kind, payload) = match packet.transport.as_ref()? {
        TransportSlice::Icmpv4(icmp) => (icmp.type_u8(), icmp.slice().get(8..)?),
        TransportSlice::Icmpv6(icmp) => (icmp.type_u8(), icmp.slice().get(8..)?),
        _ => return None,
    };
    let is_error = match packet.transport.as_ref()? {
        // Destination unreachable, time exceeded, parameter problem.
        TransportSlice::Icmpv4(_) => matches!(kind, 3 | 11 | 12),
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        _ => matches!(kind, 1..=4),
    };
    is_error
        .then(|| LaxSlicedPacket::from_ip(payload).ok())
        .flatten()
}

/// The same from the first bytes of what IP carries, at least `tcp` bytes of TCP and 8 of UDP: the
/// parser leaves the first of several fragments alone, and an ICMP error need carry no more than 8
/// bytes (RFC 792).
fn raw_facts(packet: &LaxSlicedPacket<'_>, tcp: usize) -> Option<Facts> {
    let ip = packet.ip_payload()?;
    let (protocol, bytes) = (ip.ip_number.0, ip.payload);
    let port = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let shortest = match protocol {
        TCP => tcp,
        UDP => 8,
        _ => {
            return Some(Facts {
                protocol,
                source: 0,
                destination: 0,
                opens: false,
            });
        }
    };
    if bytes.len() < shortest {
        return None;
    }
    // SYN without ACK (RFC 9293 section 3.1: bits 2 and 16 of byte 13).
    let opens = protocol == TCP && bytes.get(13).is_some_and(|flags| flags & 0x12 == 0x02);
    Some(Facts {
        protocol,
        source: port(0)?,
        destination: port(2)?,
        opens,
    })
}

/// Ports of the packet in an ICMP error; what it opened does not matter any more.
fn embedded_facts(packet: &LaxSlicedPacket<'_>) -> Option<Facts> {
    let later = packet.net.as_ref().is_some_and(is_later_fragment);
    let known = facts(packet).or_else(|| raw_facts(packet, 8).filter(|_| !later))?;
    Some(Facts {
        opens: false,
        ..known
    })
}

/// Whether the fragment is a later one: its offset is not 0.
fn is_later_fragment(net: &LaxNetSlice<'_>) -> bool {
    match net {
        LaxNetSlice::Ipv4(v4) => v4.header().fragments_offset().value() != 0,
        LaxNetSlice::Ipv6(v6) => {
            v6.is_payload_fragmented() && {
                use etherparse::Ipv6ExtensionSlice::Fragment;
                let mut extensions = v6.extensions().clone().into_iter();
                extensions.any(|e| matches!(e, Fragment(f) if f.fragment_offset().value() != 0))
            }
        }
        LaxNetSlice::Arp(_) => false,
    }
}

impl Rules {
    /// What happens to an Ethernet frame.
    pub fn judge(&self, frame: &[u8], direction: Direction) -> Verdict {
        let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
            return Verdict::Other;
        };
        match &packet.net {
            Some(LaxNetSlice::Arp(_)) => return Verdict::Other,
            // An IP packet whose header cannot be read is not let through as "other".
            None if is_ip(frame) => return self.by_default(),
            None => return Verdict::Other,
            Some(net) if is_later_fragment(net) => return Verdict::Fragment,
            Some(_) => {}
        }
        if let Some(inner) = embedded(&packet).as_ref().and_then(embedded_facts)
            && let Verdict::Allow(rule) = self.facts(inner, direction.back())
        {
            return Verdict::Allow(rule);
        }
        // A first fragment too short for its header cannot be judged (RFC 1858 section 3), and is
        // treated as what opens a connection to no port.
        let known = facts(&packet)
            .or_else(|| raw_facts(&packet, 20))
            .unwrap_or_else(|| Facts {
                protocol: packet.ip_payload().map_or(0, |p| p.ip_number.0),
                source: 0,
                destination: 0,
                opens: true,
            });
        self.facts(known, direction)
    }

    fn facts(&self, facts: Facts, direction: Direction) -> Verdict {
        let port = match direction {
            Direction::Forward => facts.destination,
            Direction::Reverse => facts.source,
        };
        let find = |rules: &[Traffic]| rules.iter().position(|t| t.matches(facts.protocol, port));
        if let Some(rule) = find(&self.deny) {
            return Verdict::Deny(Some(rule));
        }
        let answers = direction == Direction::Forward || !facts.opens;
        match find(&self.allow).filter(|_| answers) {
            Some(rule) => Verdict::Allow(Some(rule)),
            None => self.by_default(),
        }
    }

    fn by_default(&self) -> Verdict {
        match self.allow.is_empty() {
            true => Verdict::Allow(None),
            false => Verdict::Deny(None),
        }
    }
}

impl Direction {
    fn back(self) -> Direction {
        match self {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        }
    }
}

/// Whether the frame says it holds IPv4 or IPv6 (IEEE 802 numbers 0x0800, 0x86dd).
fn is_ip(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]))
}

/// A packet's protocol, to count by.
pub(super) fn kind_of(frame: &[u8]) -> &'static str {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok();
    match packet.as_ref().and_then(|p| p.transport.as_ref()) {
        Some(TransportSlice::Tcp(_)) => "tcp",
        Some(TransportSlice::Udp(_)) => "udp",
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => "icmp",
        _ if is_ip(frame) => "ip",
        _ => "other",
    }
}

/// Denials that are logged each second; the rest is counted.
const LOG_LINES: u32 = 5;

struct Firewall {
    rules: Rules,
    allow_names: Vec<String>,
    deny_names: Vec<String>,
    since: Instant,
    logged: u32,
    unlogged: u32,
}

fn count(status: &mut Status, name: &str) {
    match status.by_rule.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(status.by_rule.insert(name.to_owned(), 1)),
    }
}

impl Firewall {
    fn log(&mut self, frame: &[u8], direction: Direction, why: Option<usize>) {
        if self.logged >= LOG_LINES {
            self.unlogged += 1;
            return;
        }
        self.logged += 1;
        let by = why.map_or("default", |rule| &self.deny_names[rule]);
        eprintln!("denied by {by} ({}): {}", way(direction), describe(frame));
    }
}

impl Judge for Firewall {
    fn passes(&mut self, frame: &[u8], direction: Direction, status: &mut Status) -> bool {
        match self.rules.judge(frame, direction) {
            Verdict::Other => status.other += 1,
            Verdict::Fragment => {
                status.allowed += 1;
                count(status, "later fragment");
            }
            Verdict::Allow(rule) => {
                status.allowed += 1;
                count(
                    status,
                    rule.map_or("default", |rule| &self.allow_names[rule]),
                );
            }
            Verdict::Deny(rule) => {
                status.denied += 1;
                count(
                    status,
                    rule.map_or("default", |rule| &self.deny_names[rule]),
                );
                self.log(frame, direction, rule);
                return false;
            }
        }
        true
    }

    fn pause(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) < Duration::from_secs(1) {
            return;
        }
        if self.unlogged > 0 {
            eprintln!("denied {} more", self.unlogged);
        }
        (self.since, self.logged, self.unlogged) = (now, 0, 0);
    }
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "in to out",
        Direction::Reverse => "out to in",
    }
}

/// A packet for the log.
fn describe(frame: &[u8]) -> String {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return format!("{} bytes", frame.len());
    };
    let (from, to) = match &packet.net {
        Some(LaxNetSlice::Ipv4(v4)) => (
            v4.header().source_addr().to_string(),
            v4.header().destination_addr().to_string(),
        ),
        Some(LaxNetSlice::Ipv6(v6)) => (
            format!("[{}]", v6.header().source_addr()),
            format!("[{}]", v6.header().destination_addr()),
        ),
        _ => return format!("{} bytes", frame.len()),
    };
    match facts(&packet) {
        Some(f) if f.protocol == TCP || f.protocol == UDP => {
            format!(
                "{} {from}:{} > {to}:{}",
                kind_of(frame),
                f.source,
                f.destination
            )
        }
        _ => format!("{} {from} > {to}", kind_of(frame)),
    }
}

/// Runs until it is told to stop.
pub(super) fn run(args: &FirewallArgs) -> Result<(), FunctionError> {
    let names =
        |what: &str, rules: &[Traffic]| rules.iter().map(|t| format!("{what} {t}")).collect();
    let mut firewall = Firewall {
        rules: Rules {
            allow: args.allow.clone(),
            deny: args.deny.clone(),
        },
        allow_names: names("allow", &args.allow),
        deny_names: names("deny", &args.deny),
        since: Instant::now(),
        logged: 0,
        unlogged: 0,
    };
    bridge::run(
        "firewall",
        [&args.input, &args.output],
        &args.status,
        &mut firewall,
    )
}

#[cfg(test)]
mod tests;
