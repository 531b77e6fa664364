//! Real packets between two nodes: four network namespaces (two nodes, a container on each), an underlay
//! between the nodes, VXLAN over it. Needs root and `ip` (iproute2).

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use weft_ebpf_abi::*;

use super::bed::{VNI, addr, fill};
use crate::datapath::Build;
use crate::{Begun, Datapath, Hook, OpenConfig, Tables};

pub(super) fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    let done = done.expect("this test runs `ip`: install iproute2");
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {arguments}: {error}");
}

/// A named network namespace, gone when dropped.
pub(super) struct Space(pub(super) String);

impl Space {
    pub(super) fn new(what: &str) -> Space {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let space = Space(format!("weft-{what}-{}-{number}", std::process::id()));
        ip(&format!("netns add {}", space.0));
        ip(&format!("-n {} link set lo up", space.0));
        space
    }

    pub(super) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.0));
    }

    /// Runs in the namespace, on a thread of its own.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = format!("/run/netns/{}", self.0);
        thread::spawn(move || {
            let space = File::open(&path).expect("the namespace is there");
            setns(space, CloneFlags::CLONE_NEWNET).expect("this test needs root");
            work()
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // Best effort: its name is this process's own.
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

pub(super) struct Node {
    pub(super) space: Space,
    pub(super) container: Space,
    pub(super) id: u32,
    pub(super) bpf_dir: PathBuf,
    hook: Hook,
}

pub(super) fn vtep(id: u32) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, id as u8)
}

pub(super) fn container(id: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 10, id as u8, 9)
}

pub(super) fn mac(id: u32) -> [u8; 6] {
    [0x0a, 0x58, 10, 10, id as u8, 9]
}

impl Node {
    fn new(id: u32, hook: Hook) -> Node {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let (space, container_space) = (Space::new("node"), Space::new("box"));
        space.ip("link add vxlan0 type vxlan external dstport 4789 nolearning");
        space.ip("link set vxlan0 mtu 1450 up");
        let (node, inside) = (&space.0, &container_space.0);
        ip(&format!(
            "-n {node} link add w0 type veth peer name eth0 netns {inside}"
        ));
        space.ip("link set w0 mtu 1450 up");
        let [a, b, c, d, e, f] = mac(id);
        container_space.ip(&format!(
            "link set eth0 address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} mtu 1450 up"
        ));
        container_space.ip(&format!("addr add {}/32 dev eth0", container(id)));
        container_space.ip("route add 10.10.0.1 dev eth0 scope link");
        container_space.ip("route add default via 10.10.0.1 dev eth0 onlink");
        Node {
            bpf_dir: PathBuf::from(format!("/sys/fs/bpf/weft-test/{node}")),
            space,
            container: container_space,
            id,
            hook,
        }
    }

    /// What an agent does when it starts: open, fill, activate, attach. The datapath outlives it.
    pub(super) fn agent(&self) -> thread::JoinHandle<bool> {
        self.agent_of(Build::own())
    }

    pub(super) fn agent_of(&self, build: Build) -> thread::JoinHandle<bool> {
        let (id, bpf_dir, hook) = (self.id, self.bpf_dir.clone(), self.hook);
        self.space.run(move || {
            let node = config(id);
            let open = OpenConfig { bpf_dir, node };
            let mut datapath = Datapath::open_build(&open, hook, build).expect("it opens");
            let filled = fill(&mut datapath, &build, &tables(id, index("w0")));
            let filled = filled.expect("it syncs");
            datapath.activate(&filled).expect("it is activated");
            datapath.attach_port(index("w0")).expect("it attaches");
            datapath
                .attach_overlay(index("vxlan0"))
                .expect("it attaches");
            *datapath.begun() == Begun::TakenOver
        })
    }

    /// In the node's namespace, with its datapath open.
    pub(super) fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Datapath) -> T + Send + 'static,
    ) -> T {
        let (id, bpf_dir, hook) = (self.id, self.bpf_dir.clone(), self.hook);
        let done = self.space.run(move || {
            let node = config(id);
            let open = OpenConfig { bpf_dir, node };
            work(&mut Datapath::open_at(&open, hook).expect("it opens"))
        });
        done.join().expect("no panic")
    }

    fn drops(&self) -> std::collections::BTreeMap<DropReason, u64> {
        self.with(|datapath| datapath.drops().expect("they are read"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Best effort: the folder's name is this process's own.
        let _gone = std::fs::remove_dir_all(&self.bpf_dir);
    }
}

/// In the node's namespace.
pub(super) fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("it was made")
}

/// In the node's namespace.
pub(super) fn config(id: u32) -> NodeConfig {
    NodeConfig {
        node: id,
        vxlan_ifindex: index("vxlan0"),
        short_way_port: 4789,
        vtep: addr(vtep(id)),
        ..NodeConfig::default()
    }
}

pub(super) fn tables(own: u32, ifindex: u32) -> Tables {
    let mut t = Tables::default();
    let port = Port {
        port: 1,
        vni: VNI,
        flags: 0,
        mac: mac(own),
        pad: [0; 2],
        own: [[0; 16]; 2],
    };
    t.ports.insert(ifindex, port);
    let endpoint = Endpoint {
        node: own,
        ifindex,
        port: 1,
        mac: mac(own),
        flags: 0,
    };
    let key = EndpointKey {
        vni: VNI,
        addr: addr(container(own)),
    };
    t.endpoints.insert(key, endpoint);
    let network = Network {
        net4: mapped([10, 10, 0, 0]),
        len4: 16,
        subnet_len4: 24,
        gateway4: mapped([10, 10, 0, 1]),
        mtu: 1450,
        ..Network::default()
    };
    t.networks.insert(VNI, network);
    for id in [1, 2] {
        let key = SubnetKey {
            vni: VNI,
            addr: mapped([10, 10, id as u8, 0]),
        };
        t.subnets.insert(
            key,
            Subnet {
                node: id,
                ..Subnet::default()
            },
        );
        let node = weft_ebpf_abi::Node {
            vtep: addr(vtep(id)),
            ..weft_ebpf_abi::Node::default()
        };
        t.nodes.insert(id, node);
        let key = VtepKey {
            addr: addr(vtep(id)),
        };
        t.vteps.insert(key, id);
    }
    t
}

/// Two nodes that carry the network, joined by a wire.
pub(super) fn pair(hook: Hook) -> [Node; 2] {
    pair_of(hook, Build::own())
}

pub(super) fn pair_of(hook: Hook, build: Build) -> [Node; 2] {
    let nodes = [Node::new(1, hook), Node::new(2, hook)];
    let (a, b) = (&nodes[0].space.0, &nodes[1].space.0);
    ip(&format!(
        "-n {a} link add u0 type veth peer name u0 netns {b}"
    ));
    for node in &nodes {
        node.space.ip("link set u0 up");
        node.space
            .ip(&format!("addr add {}/24 dev u0", vtep(node.id)));
        assert!(
            !node.agent_of(build).join().expect("no panic"),
            "nothing was pinned"
        );
    }
    nodes
}

pub(super) fn at(id: u32, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(container(id), port)
}

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Echoes datagrams until one says "end".
pub(super) fn echo(node: &Node) -> thread::JoinHandle<()> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let echoing = node.container.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).expect("a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        ready.send(()).expect("somebody waits");
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).expect("datagrams come");
            socket.send_to(&buffer[..length], from).expect("it is sent");
            if &buffer[..length] == b"end" {
                return;
            }
        }
    });
    is_ready.recv_timeout(PATIENCE).expect("the echo starts");
    echoing
}

#[test]
fn tcp_at_full_speed_arrives_whole() {
    const LENGTH: usize = 32 << 20;
    let nodes = pair(Hook::of_kernel());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let receiver = nodes[1].container.run(move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).expect("a free port");
        ready.send(()).expect("somebody waits");
        let (mut stream, from) = listener.accept().expect("a connection");
        let mut data = Vec::new();
        stream.read_to_end(&mut data).expect("data");
        stream.write_all(b"done").expect("an answer");
        (from, data)
    });
    is_ready
        .recv_timeout(PATIENCE)
        .expect("the listener starts");
    let sender = nodes[0].container.run(|| {
        let mut stream =
            TcpStream::connect_timeout(&at(2, 80).into(), PATIENCE).expect("it connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let data: Vec<u8> = (0..LENGTH).map(|i| (i % 251) as u8).collect();
        stream.write_all(&data).expect("it sends");
        stream.shutdown(std::net::Shutdown::Write).expect("it ends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    });
    assert_eq!(sender.join().expect("no panic"), "done");
    let (from, data) = receiver.join().expect("no panic");
    assert_eq!(from.ip(), container(1), "addresses are not translated");
    assert_eq!(data.len(), LENGTH);
    assert!(
        data.iter()
            .enumerate()
            .all(|(i, byte)| *byte == (i % 251) as u8)
    );
}

#[test]
fn agents_that_restart_lose_no_packet() {
    let nodes = pair(Hook::of_kernel());
    let echoing = echo(&nodes[1]);
    let asking = nodes[0].container.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .expect("a timeout");
        let mut answered = 0;
        let mut buffer = [0; 2048];
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            socket.send_to(&[1; 1400], at(2, 7)).expect("it is sent");
            let length = socket.recv(&mut buffer).expect("no packet is lost");
            assert_eq!(length, 1400);
            answered += 1;
        }
        socket.send_to(b"end", at(2, 7)).expect("it is sent");
        answered
    });
    let mut restarts = 0;
    while !asking.is_finished() {
        for node in &nodes {
            assert!(
                node.agent().join().expect("no panic"),
                "pins are taken over"
            );
        }
        restarts += 1;
    }
    let answered = asking.join().expect("no packet is lost");
    echoing.join().expect("no panic");
    assert!(
        answered > 100 && restarts > 1,
        "{answered} answers, {restarts} restarts"
    );
}

#[test]
fn the_outer_packet_names_vtep_and_network_and_is_never_fragmented() {
    let nodes = pair(Hook::of_kernel());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let seen = nodes[1].space.run(move || {
        use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, recv, socket};
        let (family, kind) = (AddressFamily::Inet, SockType::Raw);
        let raw = socket(family, kind, SockFlag::empty(), SockProtocol::Udp).expect("root");
        let patience = nix::sys::time::TimeVal::new(20, 0);
        nix::sys::socket::setsockopt(&raw, nix::sys::socket::sockopt::ReceiveTimeout, &patience)
            .expect("a timeout");
        ready.send(()).expect("somebody waits");
        let mut packet = [0; 2048];
        let flags = nix::sys::socket::MsgFlags::empty();
        let length = recv(std::os::fd::AsRawFd::as_raw_fd(&raw), &mut packet, flags);
        packet[..length.expect("a packet comes")].to_vec()
    });
    is_ready.recv_timeout(PATIENCE).expect("the socket opens");
    let sent = nodes[0].container.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        socket.send_to(b"payload.", at(2, 9)).expect("it is sent");
    });
    sent.join().expect("no panic");
    let packet = seen.join().expect("no panic");
    assert_eq!(packet[6] & 0x40, 0x40, "don't fragment");
    assert_eq!(packet[12..16], vtep(1).octets());
    assert_eq!(packet[16..20], vtep(2).octets());
    assert_eq!(packet[22..24], 4789u16.to_be_bytes());
    assert_ne!(packet[26..28], [0, 0], "the outer checksum is on");
    assert_eq!(packet[32..35], VNI.to_be_bytes()[1..]);
    assert_eq!(packet[36..42], GATEWAY_MAC);
    assert!(packet.ends_with(b"payload."));
}

#[test]
fn hand_made_vxlan_and_foreign_addresses_leave_no_container() {
    let nodes = pair(Hook::of_kernel());
    let sent = nodes[0].container.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 4789)).expect("a free port");
        let mut vxlan = vec![8, 0, 0, 0, 0, 0, VNI as u8, 0];
        vxlan.extend([0u8; 60]);
        socket.send_to(&vxlan, (vtep(2), 4789)).expect("it is sent");
        socket.send_to(&vxlan, (vtep(1), 4789)).expect("it is sent");
        socket.send_to(b"?", at(77, 9)).expect("it is sent");
    });
    sent.join().expect("no panic");
    let begin = Instant::now();
    loop {
        let drops = nodes[0].drops();
        if drops.get(&DropReason::NodeAddress) == Some(&2)
            && drops.get(&DropReason::NoEndpoint) == Some(&1)
        {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{drops:?}");
        thread::yield_now();
    }
}
