//! Agents that restart under traffic, by either hook: no packet is lost, and none passes unjudged. Every
//! kernel with TCX also has clsact, so both are driven on one machine.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use weft_ebpf_abi::NodeConfig;

use super::wire::*;
use crate::pods::P;
use crate::programs::{FROM_CONTAINER, FROM_OVERLAY};
use crate::{Begun, Datapath, Hook};

/// Packets under way at once.
const WINDOW: u32 = 16;

/// Numbered datagrams from the first container to the second's echo. One that does not come back is a panic.
pub(super) struct Traffic {
    end: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    sender: thread::JoinHandle<()>,
    echo: thread::JoinHandle<()>,
}

impl Traffic {
    pub(super) fn start(nodes: &[Node; 2]) -> Traffic {
        let (end, answered) = <(Arc<AtomicBool>, Arc<AtomicU32>)>::default();
        let echo = echo(&nodes[1]);
        let (until, count) = (end.clone(), answered.clone());
        let sender = nodes[0].container.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let mut next = 0u32;
            let mut buffer = [0; 16];
            while !until.load(Ordering::Relaxed) {
                for number in next..next + WINDOW {
                    let sent = socket.send_to(&number.to_ne_bytes(), at(2, 7));
                    sent.expect("it is sent");
                }
                for number in next..next + WINDOW {
                    let length = socket.recv(&mut buffer).expect("no packet is lost");
                    assert_eq!(buffer[..length], number.to_ne_bytes(), "none is skipped");
                }
                next += WINDOW;
                count.store(next, Ordering::Relaxed);
            }
            socket.send_to(b"end", at(2, 7)).expect("it is sent");
        });
        Traffic {
            end,
            answered,
            sender,
            echo,
        }
    }

    fn lives(&self) {
        assert!(!self.sender.is_finished(), "a packet was lost");
    }

    /// Returns when some more packets have come back.
    pub(super) fn flows(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        while self.answered.load(Ordering::Relaxed) < before + 10 * WINDOW {
            self.lives();
            thread::yield_now();
        }
    }

    pub(super) fn end(self) {
        self.flows();
        self.end.store(true, Ordering::Relaxed);
        self.sender.join().expect("no packet is lost");
        self.echo.join().expect("no panic");
    }
}

/// What a port without its program lets through: packets for the node itself. The host end of the veth gets
/// the gateway's address, so that the node's own stack would take them.
struct Leak {
    socket: UdpSocket,
    sender: thread::JoinHandle<()>,
}

fn leak(nodes: &[Node; 2], end: Arc<AtomicBool>) -> Leak {
    nodes[0].space.ip("link set w0 address 0a:77:65:66:74:01");
    let socket = nodes[0].space.run(|| {
        for scope in ["all", "w0"] {
            let path = format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter");
            fs::write(path, "0").expect("root");
        }
        let socket = UdpSocket::bind((vtep(1), 99)).expect("a socket");
        socket.set_nonblocking(true).expect("it can be");
        socket
    });
    let sender = nodes[0].container.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        while !end.load(Ordering::Relaxed) {
            // A full queue loses some of these, which proves nothing either way.
            let _sent = socket.send_to(b"leak", (vtep(1), 99));
            thread::sleep(Duration::from_micros(20));
        }
    });
    Leak {
        socket: socket.join().expect("no panic"),
        sender,
    }
}

fn restarts_lose_nothing(hook: Hook, restarts: u32) {
    let nodes = pair(hook);
    let end = Arc::new(AtomicBool::new(false));
    let leak = leak(&nodes, end.clone());
    let traffic = Traffic::start(&nodes);
    for _ in 0..restarts {
        // Without the pins the programs cannot be recognised, so new ones are put.
        fs::remove_dir_all(nodes[0].bpf_dir.join("active/programs")).expect("they are pinned");
        assert!(nodes[0].agent().join().expect("no panic"), "taken over");
        traffic.lives();
    }
    traffic.end();
    let mut buffer = [0; 16];
    let passed = leak.socket.recv(&mut buffer).is_ok();
    assert!(!passed, "a packet passed unjudged");
    // The trap works: without the program such packets arrive.
    nodes[0].with(|datapath| datapath.detach(index("w0")).expect("it is detached"));
    leak.socket.set_nonblocking(false).expect("it can be");
    leak.socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout");
    leak.socket.recv(&mut buffer).expect("an unjudged packet");
    end.store(true, Ordering::Relaxed);
    leak.sender.join().expect("no panic");
}

#[test]
fn filters_are_replaced_without_a_gap() {
    restarts_lose_nothing(Hook::Clsact, 50);
}

#[test]
fn links_are_updated_without_a_gap() {
    restarts_lose_nothing(Hook::Tcx, 10);
}

#[test]
fn the_same_programs_are_not_touched_by_a_restart() {
    for hook in [Hook::Clsact, Hook::Tcx] {
        let nodes = pair(hook);
        let carried = || {
            nodes[0].with(move |datapath| {
                let links = datapath.links();
                let of = |name, program| hook.carried(&links, index(name), program);
                let both = [of("w0", FROM_CONTAINER), of("vxlan0", FROM_OVERLAY)];
                both.map(|id| id.expect("they are read"))
            })
        };
        let before = carried();
        assert!(before.iter().all(Option::is_some), "{before:?}");
        assert!(nodes[0].agent().join().expect("no panic"));
        assert_eq!(carried(), before, "{hook:?}");
    }
}

/// The names below `links/`, sorted.
fn pins(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(node.bpf_dir.join("links")).expect("the folder is there");
    let mut names: Vec<String> = entries
        .map(|e| {
            e.expect("it is read")
                .file_name()
                .into_string()
                .expect("ASCII")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn pins_of_interfaces_that_are_gone_are_swept_also_when_their_index_is_used_again() {
    let nodes = pair(Hook::Tcx);
    let node = &nodes[0];
    let find = node.space.run(|| (index("w0"), index("vxlan0")));
    let (port, overlay) = find.join().expect("no panic");
    let both = |a: &str, b: &str| {
        let mut names = vec![a.to_owned(), b.to_owned()];
        names.sort();
        names
    };
    let (of_port, of_overlay) = (
        format!("{port}-from_container"),
        format!("{overlay}-from_overlay"),
    );
    assert_eq!(pins(node), both(&of_port, &of_overlay));
    // The container's namespace ends and takes the pair with it; another pair gets the same index.
    node.space.ip("link del w0");
    node.space
        .ip(&format!("link add w1 index {port} type veth peer name w2"));
    let attached = node.with(move |datapath| {
        assert!(!datapath.attached().contains(&port), "the new one is bare");
        assert_eq!(datapath.sweep().expect("they are swept"), 1);
        assert_eq!(datapath.sweep().expect("they are swept"), 0);
        datapath.attach_port(port).expect("it attaches");
        datapath.attach_overlay(overlay).expect("it attaches");
        datapath.attached()
    });
    assert!(attached.contains(&port) && attached.contains(&overlay));
    assert_eq!(pins(node), both(&of_port, &of_overlay));
    // And one whose index stays free.
    node.space.ip("link del w1");
    assert_eq!(
        node.with(|datapath| datapath.sweep().expect("they are swept")),
        1
    );
    assert_eq!(pins(node), [of_overlay]);
}

/// Makes the node's maps ones of another ABI; its programs do not read that.
fn age(node: &Node) {
    node.with(|datapath| {
        let mut map = datapath.array::<NodeConfig>("config").expect("it is there");
        let mut config = map.get(&0, 0).expect("it is read").0;
        config.abi += 1;
        map.set(0, P(config), 0).expect("it is written");
    });
}

pub(super) fn generations(node: &Node) -> usize {
    let entries = fs::read_dir(node.bpf_dir.join("generations"));
    entries.expect("the folder is there").count()
}

#[test]
fn maps_of_another_abi_forward_until_the_new_ones_are_filled() {
    for hook in [Hook::Clsact, Hook::Tcx] {
        let nodes = pair(hook);
        let traffic = Traffic::start(&nodes);
        for node in &nodes {
            age(node);
            let id = node.id;
            let before = node
                .space
                .run(move || index("w0"))
                .join()
                .expect("no panic");
            let (seen, old) = node.with(move |datapath| {
                assert_eq!(*datapath.begun(), Begun::Anew);
                let seen = datapath.observe().expect("they are read");
                // As an agent does that has not read its documents yet.
                datapath.attach_overlay(index("vxlan0")).expect("it waits");
                datapath.attach_port(before).expect("it waits");
                assert!(datapath.attached().is_empty(), "nothing is put yet");
                let links = datapath.links();
                let old = hook.carried(&links, before, FROM_CONTAINER);
                (seen, old.expect("it is read"))
            });
            assert!(seen.ports.is_empty(), "the new maps are empty");
            assert_eq!(generations(node), 2);
            traffic.flows();
            node.with(move |datapath| {
                let filled = datapath.sync(&tables(id, before)).expect("it syncs");
                traffic_by_the_old(datapath, hook, before, old);
                datapath.activate(&filled).expect("it is activated");
                assert_eq!(datapath.attached().len(), 2, "port and tunnel");
                let new = hook.carried(&datapath.links(), before, FROM_CONTAINER);
                assert_ne!(new.expect("it is read"), old);
            });
            assert_eq!(generations(node), 1, "the old one is gone");
            traffic.flows();
            assert!(node.agent().join().expect("no panic"), "now it fits");
        }
        traffic.end();
    }
}

fn traffic_by_the_old(datapath: &Datapath, hook: Hook, port: u32, old: Option<u32>) {
    let carried = hook.carried(&datapath.links(), port, FROM_CONTAINER);
    assert_eq!(carried.expect("it is read"), old, "a sync switches nothing");
}
