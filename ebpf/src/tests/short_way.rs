//! The short way in takes what would be delivered, says the same of it, and leaves everything else to the kernel.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use etherparse::PacketBuilder;
use weft_ebpf_abi::{
    ACTION_LOCAL, GATEWAY_MAC, NETWORK_DSCP_UNIFORM, NETWORK_TTL_UNIFORM, STEER_PREFIX, port_mac,
    steer_mac,
};

use super::bed::*;
use super::wire;
use crate::Hook;
use crate::judge::Entry;

const NODE_1: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const NODE_2: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
const MACS: ([u8; 6], [u8; 6]) = ([2; 6], GATEWAY_MAC);
/// Where in a wrapped frame the outer traffic class, fragment field, time to live and VNI are, and the inner frame.
const CLASS: usize = 15;
const FRAGMENT: usize = 20;
const FLAGS: usize = 42;
const INNER: usize = 50;

fn wrap(from: Ipv4Addr, to: Ipv4Addr, port: u16, inner: &[u8]) -> Vec<u8> {
    let mut vxlan = vec![8, 0, 0, 0, 0, 0, VNI as u8, 0];
    vxlan.extend(inner);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [0; 6])
        .ipv4(from.octets(), to.octets(), 64)
        .udp(49152, port)
        .write(&mut frame, &vxlan)
        .expect("it fits");
    frame
}

fn short(bed: &mut Bed, frame: &[u8], segment: u32) -> Option<Vec<u8>> {
    let entry = Entry {
        ifindex: LO,
        segment,
        ..Entry::default()
    };
    let (decision, out) = bed.datapath.short_way(frame, entry)?;
    assert_eq!((decision.action, decision.target), (ACTION_LOCAL, 312));
    Some(out)
}

#[test]
fn a_datagram_for_an_endpoint_here_is_delivered() {
    let mut bed = Bed::new();
    let inner = udp(MACS, (REMOTE, OTHER), (4000, 53));
    let frame = wrap(NODE_2, NODE_1, 4789, &inner);
    let out = short(&mut bed, &frame, 0).expect("it is taken");
    assert_eq!((&out[..6], &out[6..12]), (&OTHER_MAC[..], &GATEWAY_MAC[..]));
    assert_eq!(out[12..], inner[12..]);
    let stats = bed.datapath.port_stats().expect("they are read");
    assert_eq!(stats[&12].rx_packets, 1);
    assert_eq!(stats[&12].rx_bytes, inner.len() as u64);
}

#[test]
fn a_uniform_network_has_its_marks_from_outside() {
    let mut bed = Bed::new();
    let network = bed.tables.networks.get_mut(&VNI).expect("the bed has it");
    network.flags = NETWORK_DSCP_UNIFORM | NETWORK_TTL_UNIFORM;
    bed.sync();
    let inner = udp(MACS, (REMOTE, OTHER), (4000, 53));
    let mut frame = wrap(NODE_2, NODE_1, 4789, &inner);
    (frame[CLASS], frame[22]) = (46 << 2, 9);
    let out = short(&mut bed, &frame, 0).expect("it is taken");
    assert_eq!((out[15], out[22]), (46 << 2, 9));
}

#[test]
fn everything_else_goes_on_to_the_kernel_as_it_is() {
    let mut bed = Bed::new();
    let inner = udp(MACS, (REMOTE, OTHER), (4000, 53));
    let good = wrap(NODE_2, NODE_1, 4789, &inner);
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    let inside = |inner: &[u8]| wrap(NODE_2, NODE_1, 4789, inner);
    let mut steered = inner.clone();
    steered[..6].copy_from_slice(&steer_mac(80));
    steered[6..12].copy_from_slice(&port_mac(3));
    assert_eq!(steered[..3], STEER_PREFIX);
    let cases = [
        ("another port", wrap(NODE_2, NODE_1, 4790, &inner)),
        ("another node's", wrap(NODE_2, NODE_2, 4789, &inner)),
        ("a stranger", wrap(OTHER, NODE_1, 4789, &inner)),
        ("another card's", with(0, 2)),
        ("outer options", with(14, 0x46)),
        ("an outer fragment", with(FRAGMENT, 0x20)),
        ("congestion", with(CLASS, 3)),
        ("ECT(1)", with(CLASS, 1)),
        ("no VNI", with(FLAGS, 0)),
        ("another VXLAN", with(FLAGS + 3, 1)),
        ("another network", with(FLAGS + 6, 99)),
        ("a stream", inside(&tcp(MACS, (REMOTE, OTHER), (4000, 80)))),
        ("nobody's", inside(&udp(MACS, (OTHER, REMOTE), (4000, 53)))),
        ("inner options", with(INNER + 14, 0x46)),
        ("an inner fragment", with(INNER + 20, 0x20)),
        ("too short for its ports", with(INNER + 17, 27)),
        ("ARP", with(INNER + 13, 6)),
        ("a position", inside(&steered)),
        ("cut off", good[..90].to_vec()),
    ];
    for (what, frame) in cases {
        assert!(short(&mut bed, &frame, 0).is_none(), "{what}");
    }
    assert!(short(&mut bed, &good, 0).is_some());
    assert!(short(&mut bed, &good, 8).is_none(), "to be segmented");
}

/// Packets that the VXLAN device of the namespace has received.
fn by_device(node: &wire::Node) -> u64 {
    let read = node.space.run(|| {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("it is there");
        let line = text.lines().find_map(|l| l.trim().strip_prefix("vxlan0:"));
        let line = line.expect("the device is there").to_owned();
        let packets = line.split_whitespace().nth(1).expect("a number");
        packets.parse().expect("a number")
    });
    read.join().expect("no panic")
}

fn shorten(hook: Hook) {
    let nodes = wire::pair(hook);
    for node in &nodes {
        let attach = |datapath: &mut crate::Datapath| {
            datapath
                .attach_underlay(wire::index("u0"))
                .expect("it attaches");
            assert!(datapath.attached().contains(&wire::index("u0")));
        };
        node.with(attach);
    }
    let echoing = wire::echo(&nodes[1]);
    let asked = nodes[0].container.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        socket
            .set_read_timeout(Some(wire::PATIENCE))
            .expect("a timeout");
        let mut buffer = [0; 2048];
        for size in [1, 64, 1400] {
            socket
                .send_to(&[7; 1400][..size], wire::at(2, 7))
                .expect("it is sent");
            assert_eq!(socket.recv(&mut buffer).expect("an answer"), size);
            assert!(buffer[..size].iter().all(|byte| *byte == 7));
        }
        socket.send_to(b"end", wire::at(2, 7)).expect("it is sent");
        socket.recv(&mut buffer).expect("an answer");
    });
    asked.join().expect("no panic");
    echoing.join().expect("no panic");
    assert_eq!(by_device(&nodes[0]) + by_device(&nodes[1]), 0);
    let listening = nodes[1].container.run(|| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("a free port");
        let connecting = listener.accept().expect("a connection");
        drop(connecting);
    });
    let connected = nodes[0].container.run(|| {
        let begin = std::time::Instant::now();
        while TcpStream::connect(wire::at(2, 80)).is_err() {
            assert!(begin.elapsed() < wire::PATIENCE, "nobody listens");
            std::thread::yield_now();
        }
    });
    connected.join().expect("no panic");
    listening.join().expect("no panic");
    assert!(by_device(&nodes[1]) > 0, "streams come by the device");
}

#[test]
fn datagrams_come_by_the_short_way_and_streams_do_not() {
    shorten(Hook::of_kernel());
}

#[test]
fn the_same_by_filters() {
    shorten(Hook::Clsact);
}
