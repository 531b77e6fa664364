//! Packets larger than the way to another node: dropped, counted, and their sender told; segments count, not
//! what is to be segmented.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use etherparse::{
    Icmpv4Type, Icmpv6Type, LaxPacketHeaders, NetHeaders, PacketBuilder, TransportHeader, icmpv4,
};
use std::io::{Read, Write};
use weft_ebpf_abi::*;

use super::bed::*;
use super::wire;
use crate::Hook;

const ETH: ([u8; 6], [u8; 6]) = (CLIENT_MAC, GATEWAY_MAC);
const TOO_BIG: u32 = DropReason::TooBig as u32;

/// A UDP datagram in an IP packet of `size` bytes.
fn datagram(size: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ETH.0, ETH.1)
        .ipv4(CLIENT.octets(), REMOTE.octets(), 64)
        .udp(4000, 53);
    let mut packet = Vec::new();
    builder.write(&mut packet, &vec![7; size - 28]).unwrap();
    packet
}

/// The network over a way of 1400 bytes to node 2.
fn bed() -> Bed {
    let mut bed = Bed::new();
    bed.tables.nodes.get_mut(&2).unwrap().mtu = 1400;
    bed.sync();
    bed
}

fn dropped(bed: &mut Bed) -> u64 {
    let drops = bed.datapath.drops().unwrap();
    drops.get(&DropReason::TooBig).copied().unwrap_or(0)
}

#[test]
fn what_fits_goes_and_what_does_not_is_answered() {
    let mut bed = bed();
    assert_eq!(bed.send(&datagram(1400)).0.action, ACTION_TUNNEL);
    assert_eq!(dropped(&mut bed), 0);
    let sent = datagram(1401);
    let (decision, out) = bed.send(&sent);
    assert_eq!((decision.action, decision.target), (ACTION_ANSWER, LO));
    assert_eq!(decision.reason, TOO_BIG);
    assert_eq!(dropped(&mut bed), 1);
    let answer = LaxPacketHeaders::from_ethernet(&out).expect("whole headers");
    let link = answer.link.unwrap().ethernet2().unwrap();
    assert_eq!((link.destination, link.source), (CLIENT_MAC, GATEWAY_MAC));
    let Some(NetHeaders::Ipv4(ip, _)) = answer.net else {
        panic!("IPv4")
    };
    assert_eq!(ip.source, [10, 10, 0, 1], "the gateway says so");
    assert_eq!(ip.destination, CLIENT.octets());
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    let Some(TransportHeader::Icmpv4(icmp)) = answer.transport else {
        panic!("ICMP")
    };
    let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
    assert_eq!(icmp.icmp_type, Icmpv4Type::DestinationUnreachable(needed));
    let quote = &out[14 + 28..];
    assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(quote));
    assert_eq!(
        quote,
        &sent[14..14 + quote.len()],
        "of the packet it is about"
    );
}

#[test]
fn the_networks_own_size_holds_where_the_way_has_none() {
    let mut bed = Bed::new();
    assert_eq!(bed.send(&datagram(1450)).0.action, ACTION_TUNNEL);
    assert_eq!(bed.send(&datagram(1451)).0.reason, TOO_BIG);
}

#[test]
fn ipv6_is_answered_by_its_own_error() {
    let mut bed = bed();
    let client = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 11).octets();
    let remote = Ipv6Addr::new(0xfd00, 7, 0, 1, 0, 0, 0, 5).octets();
    let network = bed.tables.networks.get_mut(&VNI).unwrap();
    network.net6 = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 0).octets();
    (network.len6, network.subnet_len6) = (48, 64);
    let own = bed.tables.endpoints[&EndpointKey {
        vni: VNI,
        addr: addr(CLIENT),
    }];
    let key = |addr| EndpointKey { vni: VNI, addr };
    bed.tables.endpoints.insert(key(client), own);
    let there = Endpoint {
        node: 2,
        ..Endpoint::default()
    };
    bed.tables.endpoints.insert(key(remote), there);
    bed.sync();
    let builder = PacketBuilder::ethernet2(ETH.0, ETH.1)
        .ipv6(client, remote, 64)
        .udp(4000, 53);
    let mut sent = Vec::new();
    builder.write(&mut sent, &[7; 1400]).unwrap();
    let (decision, out) = bed.send(&sent);
    assert_eq!((decision.action, decision.reason), (ACTION_ANSWER, TOO_BIG));
    let answer = LaxPacketHeaders::from_ethernet(&out).expect("whole headers");
    let Some(NetHeaders::Ipv6(ip, _)) = answer.net else {
        panic!("IPv6")
    };
    assert_eq!(ip.destination, client);
    let Some(TransportHeader::Icmpv6(icmp)) = answer.transport else {
        panic!("ICMPv6")
    };
    assert_eq!(icmp.icmp_type, Icmpv6Type::PacketTooBig { mtu: 1400 });
    let quote = &out[14 + 48..];
    let check = icmp.icmp_type.calc_checksum(ip.source, client, quote);
    assert_eq!(icmp.checksum, check.unwrap());
    assert_eq!(quote, &sent[14..14 + quote.len()]);
}

#[test]
fn the_segments_count_and_not_the_whole() {
    let mut bed = bed();
    let builder = PacketBuilder::ethernet2(ETH.0, ETH.1)
        .ipv4(CLIENT.octets(), REMOTE.octets(), 64)
        .tcp(4000, 80, 1000, 65535);
    let mut packet = Vec::new();
    builder.write(&mut packet, &[7; 3000]).unwrap();
    assert_eq!(bed.send_segmented(&packet, 1360).0.action, ACTION_TUNNEL);
    let (decision, out) = bed.send_segmented(&packet, 1361);
    assert_eq!((decision.action, decision.reason), (ACTION_ANSWER, TOO_BIG));
    assert_eq!(out.len(), 14 + 28 + 68);
}

#[test]
fn neither_errors_nor_fragments_nor_hops_are_answered() {
    let mut bed = bed();
    let mut fragment = datagram(1401);
    fragment[21] = 100;
    assert_eq!(bed.send(&fragment).0.action, ACTION_DROP);
    let mut error = datagram(1401);
    (error[23], error[34]) = (1, 3); // ICMP: unreachable
    assert_eq!(bed.send(&error).0.action, ACTION_DROP);
    super::chain::with_chain(&mut bed, 1);
    bed.enter_at(hop_port(22));
    let mut forwarded = datagram(1401);
    forwarded[..6].copy_from_slice(&steer_mac(super::chain::FORWARD));
    forwarded[6..12].copy_from_slice(&port_mac(11));
    let (decision, _) = bed.send(&forwarded);
    assert_eq!((decision.action, decision.reason), (ACTION_DROP, TOO_BIG));
    assert_eq!(dropped(&mut bed), 3);
}

/// Two nodes with a way of 1300 bytes between them, of which the containers do not know.
fn narrow() -> [wire::Node; 2] {
    let nodes = wire::pair(Hook::of_kernel());
    for node in &nodes {
        let id = node.id;
        node.with(move |datapath| {
            let mut tables = wire::tables(id, wire::index("w0"));
            tables.nodes.values_mut().for_each(|n| n.mtu = 1300);
            datapath.sync(&tables).expect("it syncs");
        });
    }
    nodes
}

#[test]
fn a_datagrams_sender_learns_the_size_of_the_way() {
    let nodes = narrow();
    let learnt = nodes[0].container.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        socket.connect(wire::at(2, 9)).expect("a route");
        let option = |name, value: Option<libc::c_int>| {
            let mut number = value.unwrap_or(0);
            let mut length = size_of::<libc::c_int>() as libc::socklen_t;
            let (fd, level) = (socket.as_raw_fd(), libc::IPPROTO_IP);
            let pointer = std::ptr::from_mut(&mut number).cast();
            // SAFETY: an integer of this frame with its length; the socket is open.
            let result = unsafe {
                match value {
                    Some(_) => libc::setsockopt(fd, level, name, pointer, length),
                    None => libc::getsockopt(fd, level, name, pointer, &mut length),
                }
            };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            number
        };
        option(libc::IP_MTU_DISCOVER, Some(libc::IP_PMTUDISC_DO));
        assert_eq!(option(libc::IP_MTU, None), 1450);
        let deadline = std::time::Instant::now() + wire::PATIENCE;
        while option(libc::IP_MTU, None) == 1450 {
            // The error of the one before is told here, and is what is waited for.
            let _told = socket.send(&[1; 1400]);
            assert!(std::time::Instant::now() < deadline, "nobody is told");
        }
        option(libc::IP_MTU, None)
    });
    assert_eq!(learnt.join().expect("no panic"), 1300);
}

#[test]
fn tcp_makes_its_segments_fit() {
    let nodes = narrow();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let receiver = nodes[1].container.run(move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("a free port");
        ready.send(()).expect("somebody waits");
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut data = Vec::new();
        stream.read_to_end(&mut data).expect("data");
        data.len()
    });
    is_ready.recv_timeout(wire::PATIENCE).expect("it listens");
    let sender = nodes[0].container.run(|| {
        let to = wire::at(2, 80).into();
        let mut stream = TcpStream::connect_timeout(&to, wire::PATIENCE).expect("it connects");
        stream.write_all(&vec![1; 4 << 20]).expect("it sends");
    });
    sender.join().expect("no panic");
    assert_eq!(receiver.join().expect("no panic"), 4 << 20);
    let drops = nodes[0].with(|datapath| datapath.drops().expect("they are read"));
    assert!(drops[&DropReason::TooBig] > 0, "the first were too big");
}
