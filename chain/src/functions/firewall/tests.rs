use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn rules(allow: &[&str], deny: &[&str]) -> Rules {
    let of = |texts: &[&str]| texts.iter().map(|t| t.parse().expect("traffic")).collect();
    Rules {
        allow: of(allow),
        deny: of(deny),
    }
}

fn tcp(source: u16, destination: u16, syn: bool, ack: bool) -> Vec<u8> {
    let mut build =
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(A, B, 64)
            .tcp(source, destination, 7, 1000);
    if syn {
        build = build.syn();
    }
    if ack {
        build = build.ack(1);
    }
    let mut frame = Vec::new();
    build.write(&mut frame, &[]).expect("written");
    frame
}

fn udp6(source: u16, destination: u16) -> Vec<u8> {
    let build = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv6([1; 16], [2; 16], 64)
        .udp(source, destination);
    let mut frame = Vec::new();
    build.write(&mut frame, b"text").expect("written");
    frame
}

fn echo() -> Vec<u8> {
    let build = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4(A, B, 64)
        .icmpv4_echo_request(1, 1);
    let mut frame = Vec::new();
    build.write(&mut frame, b"ping").expect("written");
    frame
}

/// "Destination unreachable" from B to A about `frame`, of which it carries `keep` bytes.
fn unreachable(frame: &[u8], keep: usize) -> Vec<u8> {
    use etherparse::{Icmpv4Type, icmpv4::DestUnreachableHeader};
    let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host);
    let build = PacketBuilder::ethernet2([2; 6], [1; 6])
        .ipv4(B, A, 64)
        .icmpv4(kind);
    let mut error = Vec::new();
    build
        .write(&mut error, &frame[14..(14 + keep).min(frame.len())])
        .expect("written");
    error
}

use Direction::{Forward, Reverse};

#[test]
fn allowed_traffic_and_its_answers_pass() {
    let web = rules(&["tcp/80"], &["tcp/23"]);
    assert_eq!(
        web.judge(&tcp(4000, 80, true, false), Forward),
        Verdict::Allow(Some(0))
    );
    assert_eq!(
        web.judge(&tcp(80, 4000, true, true), Reverse),
        Verdict::Allow(Some(0))
    );
    assert_eq!(
        web.judge(&tcp(4000, 23, true, false), Forward),
        Verdict::Deny(Some(0))
    );
    assert_eq!(
        web.judge(&tcp(4000, 22, true, false), Forward),
        Verdict::Deny(None)
    );
    assert_eq!(web.judge(&echo(), Forward), Verdict::Deny(None));
}

#[test]
fn an_answer_opens_no_connection() {
    let web = rules(&["tcp/80"], &[]);
    assert_eq!(
        web.judge(&tcp(80, 22, true, false), Reverse),
        Verdict::Deny(None)
    );
    assert_eq!(
        web.judge(&tcp(4000, 80, true, false), Reverse),
        Verdict::Deny(None)
    );
}

#[test]
fn deny_alone_allows_the_rest() {
    let open = rules(&[], &["udp/53"]);
    assert_eq!(open.judge(&udp6(4000, 53), Forward), Verdict::Deny(Some(0)));
    assert_eq!(open.judge(&udp6(53, 4000), Reverse), Verdict::Deny(Some(0)));
    assert_eq!(open.judge(&udp6(4000, 54), Forward), Verdict::Allow(None));
    assert_eq!(open.judge(&echo(), Reverse), Verdict::Allow(None));
}

#[test]
fn deny_wins_over_allow() {
    let both = rules(&["tcp"], &["tcp/23"]);
    assert_eq!(
        both.judge(&tcp(4000, 23, true, false), Forward),
        Verdict::Deny(Some(0))
    );
    assert_eq!(
        both.judge(&tcp(4000, 24, true, false), Forward),
        Verdict::Allow(Some(0))
    );
}

#[test]
fn errors_of_allowed_flows_pass_even_when_cut() {
    let web = rules(&["tcp/80"], &[]);
    let asked = tcp(4000, 80, true, false);
    assert_eq!(
        web.judge(&unreachable(&asked, 1500), Reverse),
        Verdict::Allow(Some(0))
    );
    assert_eq!(
        web.judge(&unreachable(&asked, 28), Reverse),
        Verdict::Allow(Some(0))
    );
    let other = tcp(4000, 22, true, false);
    assert_eq!(
        web.judge(&unreachable(&other, 28), Reverse),
        Verdict::Deny(None)
    );
}

#[test]
fn later_fragments_pass_and_cut_first_ones_do_not() {
    let web = rules(&["tcp/80"], &[]);
    let mut later = tcp(4000, 22, true, false);
    later[14 + 6..14 + 8].copy_from_slice(&0x00b9u16.to_be_bytes());
    assert_eq!(web.judge(&later, Forward), Verdict::Fragment);
    let mut first = tcp(4000, 80, true, false);
    first[14 + 6..14 + 8].copy_from_slice(&0x2000u16.to_be_bytes());
    assert_eq!(web.judge(&first, Forward), Verdict::Allow(Some(0)));
    assert_eq!(
        web.judge(&first[..14 + 20 + 8], Forward),
        Verdict::Deny(None)
    );
}

#[test]
fn what_is_no_ip_passes_and_broken_ip_does_not() {
    let web = rules(&["tcp/80"], &[]);
    let mut arp = vec![0xff; 12];
    arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([0; 20]);
    assert_eq!(web.judge(&arp, Forward), Verdict::Other);
    let mut broken = vec![0xff; 12];
    broken.extend([0x08, 0x00, 0x45, 0x00]);
    assert_eq!(web.judge(&broken, Forward), Verdict::Deny(None));
}

proptest! {
    #[test]
    fn no_bytes_break_it(frame in proptest::collection::vec(any::<u8>(), 0..200), reverse: bool) {
        let direction = if reverse { Reverse } else { Forward };
        rules(&["tcp/80", "icmp"], &["udp"]).judge(&frame, direction);
        describe(&frame);
    }

    #[test]
    fn only_named_ports_open_connections(port: u16, other: u16) {
        let web = rules(&["tcp/80", "tcp/8000-8100"], &[]);
        let named = port == 80 || (8000..=8100).contains(&port);
        let passes = |frame: Vec<u8>, way| matches!(web.judge(&frame, way), Verdict::Allow(_));
        prop_assert_eq!(passes(tcp(other, port, true, false), Forward), named);
        prop_assert!(!passes(tcp(port, other, true, false), Reverse));
        prop_assert_eq!(passes(tcp(port, other, false, true), Reverse), named);
    }
}
