//! Priority, time to live and congestion marks on a real wire, by the kernel's tunnel.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use etherparse::PacketBuilder;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use weft_ebpf_abi::{GATEWAY_MAC, NETWORK_DSCP_UNIFORM, NETWORK_TTL_UNIFORM};

use super::bed::VNI;
use super::wire::*;
use crate::Hook;

const UNIFORM: u32 = NETWORK_DSCP_UNIFORM | NETWORK_TTL_UNIFORM;
/// Expedited forwarding (RFC 3246).
const PRIORITY: u8 = 46 << 2;
/// Congestion marks (RFC 3168 section 5).
const ECT0: u8 = 2;
const CE: u8 = 3;

fn uniform(node: &Node) {
    let id = node.id;
    node.with(move |datapath| {
        let mut tables = tables(id, index("w0"));
        let network = tables.networks.get_mut(&VNI).expect("it is carried");
        network.flags = UNIFORM;
        datapath.sync(&tables).expect("it syncs");
    });
}

/// The next UDP packet for a port that a namespace gets, from its IP header on.
fn next(space: &Space, port: u16) -> JoinHandle<Vec<u8>> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let seen = space.run(move || {
        let raw: OwnedFd = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::empty(),
            SockProtocol::Udp,
        )
        .expect("this test needs root");
        let patience = TimeVal::new(20, 0);
        setsockopt(&raw, sockopt::ReceiveTimeout, &patience).expect("a timeout");
        ready.send(()).expect("somebody waits");
        let mut packet = [0; 2048];
        loop {
            let length = recv(raw.as_raw_fd(), &mut packet, MsgFlags::empty());
            let packet = &packet[..length.expect("a packet comes")];
            if packet[22..24] == port.to_be_bytes() {
                return packet.to_vec();
            }
        }
    });
    is_ready.recv_timeout(PATIENCE).expect("the socket opens");
    seen
}

#[test]
fn a_uniform_network_s_packets_are_treated_on_the_underlay_as_what_they_are() {
    let nodes = pair(Hook::of_kernel());
    uniform(&nodes[0]);
    let seen = next(&nodes[1].space, 4789);
    let sent = nodes[0].container.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        let class = i32::from(PRIORITY | ECT0);
        setsockopt(&socket, sockopt::Ipv4Tos, &class).expect("a class");
        socket.set_ttl(17).expect("a time to live");
        socket.send_to(b"payload.", at(2, 9)).expect("it is sent");
    });
    sent.join().expect("no panic");
    let outer = seen.join().expect("no panic");
    assert_eq!((outer[1], outer[8]), (PRIORITY | ECT0, 17));
}

#[test]
fn congestion_on_the_underlay_reaches_the_endpoint_and_so_does_a_new_priority() {
    let nodes = pair(Hook::of_kernel());
    uniform(&nodes[1]);
    let seen = next(&nodes[1].container, 9);
    let sent = nodes[0].space.run(|| {
        let mut inner = Vec::new();
        let (from, to) = (container(1).octets(), container(2).octets());
        PacketBuilder::ethernet2(mac(1), GATEWAY_MAC)
            .ipv4(from, to, 17)
            .udp(4000, 9)
            .write(&mut inner, b"payload.")
            .expect("it fits");
        // As a sender marks it that hears of congestion; the checksum is what it was less the mark.
        inner[15] = PRIORITY | ECT0;
        let sum = u16::from_be_bytes([inner[24], inner[25]]) - u16::from(inner[15]);
        inner[24..26].copy_from_slice(&sum.to_be_bytes());
        let mut vxlan = vec![8, 0, 0, 0, 0, 0, VNI as u8, 0];
        vxlan.extend(inner);
        let socket = UdpSocket::bind((vtep(1), 0)).expect("a socket");
        let class = i32::from(8 << 2 | CE);
        setsockopt(&socket, sockopt::Ipv4Tos, &class).expect("a class");
        socket.set_ttl(9).expect("a time to live");
        socket.send_to(&vxlan, (vtep(2), 4789)).expect("it is sent");
    });
    sent.join().expect("no panic");
    let packet = seen.join().expect("no panic");
    assert_eq!((packet[1], packet[8]), (8 << 2 | CE, 9));
}
