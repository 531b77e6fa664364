//! `capture`: which frames came out of a link since the step before began. Judged by the link's own capture.

use std::fs::File;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;

use super::{Attempt, until};
use crate::cancel::Cancel;
use crate::engine::Running;
use crate::file::{Capture, Probe, ends};
use crate::relay::{Client, Request, process};
use crate::underlay;

/// pcapng, `epb_flags`: outbound, which in a relay's capture is what reached a node.
const OUT: u32 = 2;

pub(super) fn run(
    running: &Running,
    capture: &Capture,
    since: SystemTime,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    // What must not be there was there or was not: the time for it to come is the step before.
    let deadline = if capture.present {
        deadline
    } else {
        Instant::now()
    };
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    until(deadline, cancel, || {
        let seen = count(running, capture, since)?;
        judge(capture, seen)
    })
}

fn judge(capture: &Capture, seen: u64) -> Attempt {
    if (seen > 0) == capture.present {
        return Ok(format!("{seen} frames"));
    }
    let wanted = if capture.present { "some" } else { "no" };
    let filter = capture.filter;
    let to = capture.to.as_ref();
    let to = to.map(|node| format!(" to {node}")).unwrap_or_default();
    let link = ends(&capture.link);
    Err(format!(
        "expected: {wanted} frames of {filter} on link {link}{to}; seen: {seen}; \
         look at: the link's capture, tcpdump -n -i any on its nodes"
    ))
}

/// Frames that passed the link since then.
fn count(running: &Running, wanted: &Capture, since: Duration) -> Result<u64, String> {
    let mut links = running.lab.links.iter();
    let link = links.find(|link| link.joins(&wanted.link));
    let link = link.ok_or("expected: a link; seen: none")?;
    let file = underlay::capture_file(link, &running.place).ok_or("the link has no capture")?;
    let words = |cause: String| format!("{}: {cause}", file.display());
    // The relay writes out what it has when it is asked.
    let stats = Request::Stats {
        link: Some(link.name()),
    };
    Client::connect(&process::control(&running.place))
        .and_then(|mut relay| relay.ask(&stats))
        .map_err(|e| e.to_string())?;
    let opened = File::open(&file).map_err(|e| words(e.to_string()))?;
    let mut reader = PcapNgReader::new(opened).map_err(|e| words(e.to_string()))?;
    let end = wanted.to.as_ref();
    let end = end.and_then(|to| link.between.iter().position(|node| node == to));
    let mut seen = 0;
    while let Some(block) = reader.next_block() {
        // A frame that is being written meanwhile is for the next look.
        let Ok(block) = block else { break };
        let Some(frame) = block.into_enhanced_packet() else {
            continue;
        };
        let out = frame.options.contains(&EnhancedPacketOption::Flags(OUT));
        let there = end.is_none_or(|end| end as u32 == frame.interface_id);
        let late = frame.timestamp >= since;
        seen += u64::from(out && there && late && matches(wanted.filter, &frame.data));
    }
    Ok(seen)
}

/// Whether a frame is of this traffic, either way.
fn matches(filter: Probe, frame: &[u8]) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    let one_of = |port, ports: [u16; 2]| ports.contains(&port);
    match (filter, &packet.transport) {
        (Probe::Tcp(port), Some(TransportSlice::Tcp(tcp))) => {
            one_of(port, [tcp.source_port(), tcp.destination_port()])
        }
        (Probe::Udp(port), Some(TransportSlice::Udp(udp))) => {
            one_of(port, [udp.source_port(), udp.destination_port()])
        }
        (Probe::Icmp, Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_))) => {
            matches!(packet.net, Some(NetSlice::Ipv4(_) | NetSlice::Ipv6(_)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    #[test]
    fn frames_are_told_apart_by_protocol_and_port_of_either_side() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 11], [192, 0, 2, 12], 64)
            .udp(50_000, 4789)
            .write(&mut frame, b"x")
            .unwrap();
        for (filter, is) in [
            ("udp/4789", true),
            ("udp/50000", true),
            ("udp/53", false),
            ("tcp/4789", false),
            ("icmp", false),
        ] {
            assert_eq!(matches(filter.parse().unwrap(), &frame), is, "{filter}");
        }
        assert!(!matches(Probe::Udp(4789), &frame[..20]));
    }

    #[test]
    fn frames_that_are_missing_or_too_many_are_told() {
        let mut capture = Capture {
            link: vec!["n1".parse().unwrap(), "n2".parse().unwrap()],
            filter: Probe::Udp(4789),
            present: true,
            to: None,
        };
        assert!(judge(&capture, 3).is_ok());
        assert_eq!(
            judge(&capture, 0).unwrap_err(),
            "expected: some frames of udp/4789 on link n1 to n2; seen: 0; \
             look at: the link's capture, tcpdump -n -i any on its nodes"
        );
        capture.present = false;
        capture.to = Some("n2".parse().unwrap());
        assert!(judge(&capture, 0).is_ok());
        let told = judge(&capture, 3).unwrap_err();
        assert!(
            told.starts_with("expected: no frames of udp/4789 on link n1 to n2 to n2; seen: 3")
        );
    }
}
