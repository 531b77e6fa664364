//! A relay at work and the machines' side of its sockets.
//!
//! Relay and nodes of a test are in a network namespace of their own, so that sockets hold more than
//! the ten datagrams of an untouched machine.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use weft_overlay::netns;

use crate::relay::{
    Client, Direction, EndSpec, Impairment, LinkKind, LinkSpec, LinkStats, PortSpec, Relay,
    RelaySpec, Reply, Request, Way,
};

pub(super) const FRAME: usize = 1514;
/// Longer than any socket of a test should be silent.
pub(super) const SILENCE: Duration = Duration::from_millis(300);

pub(super) struct Rig {
    /// Gives the processor time of the relay.
    thread: Option<JoinHandle<Duration>>,
    pub(super) client: Client,
    namespace: OwnedFd,
    pub(super) folder: tempfile::TempDir,
}

impl Rig {
    /// A relay with one link `l` between `a` and `b`, and the sockets of both.
    pub(super) fn wire(impairment: Impairment) -> (Rig, Node, Node) {
        let folder = tempfile::tempdir().unwrap();
        let ends = ["a", "b"].map(|node| unix(folder.path(), node));
        let rig = Rig::start(folder, wire("l", ends, impairment));
        let (a, b) = (rig.node("a"), rig.node("b"));
        (rig, a, b)
    }

    pub(super) fn start(folder: tempfile::TempDir, link: LinkSpec) -> Rig {
        Rig::from(folder, vec![link], None)
    }

    /// Goes on from a relay that was saved.
    pub(super) fn from(
        folder: tempfile::TempDir,
        links: Vec<LinkSpec>,
        state: Option<PathBuf>,
    ) -> Rig {
        let spec = RelaySpec {
            seed: 42,
            control: folder.path().join("control"),
            socket_queue: Some(512),
            links,
            state,
        };
        let control = spec.control.clone();
        let (opened, wait) = std::sync::mpsc::channel();
        let namespace = netns::create().unwrap();
        let inside = namespace.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            netns::run_in_netns(&inside, || {
                let mut relay = Relay::open(&spec).unwrap();
                opened.send(()).unwrap();
                relay.run().unwrap();
                let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
                let (user, system) = (usage.user_time(), usage.system_time());
                Duration::from_micros((user + system).num_microseconds() as u64)
            })
            .unwrap()
        });
        wait.recv().unwrap();
        Rig {
            thread: Some(thread),
            client: Client::connect(&control).unwrap(),
            namespace,
            folder,
        }
    }

    pub(super) fn node(&self, name: &str) -> Node {
        let path = |side| self.folder.path().join(format!("{name}.{side}"));
        let open = || Node::open(&path("node"), &path("relay"));
        netns::run_in_netns(&self.namespace, open).unwrap()
    }

    pub(super) fn ask(&mut self, request: Request) {
        assert_eq!(self.client.ask(&request).unwrap(), Reply::Done);
    }

    pub(super) fn set(&mut self, impairment: Impairment) {
        self.ask(Request::Set {
            link: "l".into(),
            direction: None,
            impairment,
        });
    }

    pub(super) fn stop(mut self) -> Duration {
        self.ask(Request::Stop);
        self.thread.take().unwrap().join().unwrap()
    }

    pub(super) fn stats(&mut self) -> LinkStats {
        match self.client.ask(&Request::Stats { link: None }).unwrap() {
            Reply::Stats(mut stats) => stats.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

/// The machine's side of an end: as QEMU's, its bound socket is connected to nobody.
pub(super) struct Node {
    pub(super) bound: UnixDatagram,
    pub(super) out: UnixDatagram,
}

impl Node {
    pub(super) fn open(local: &Path, remote: &Path) -> Node {
        let bound = UnixDatagram::bind(local).unwrap();
        bound.set_read_timeout(Some(SILENCE)).unwrap();
        let out = UnixDatagram::unbound().unwrap();
        out.connect(remote).unwrap();
        Node { bound, out }
    }

    pub(super) fn send(&self, frame: &[u8]) {
        assert_eq!(self.out.send(frame).unwrap(), frame.len());
    }

    pub(super) fn recv(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.bound.recv(buffer)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let stopped = self.client.ask(&Request::Stop).is_ok() && thread.join().is_ok();
            assert!(stopped || std::thread::panicking());
        }
    }
}

pub(super) fn unix(folder: &Path, node: &str) -> EndSpec {
    EndSpec {
        node: node.to_owned(),
        port: PortSpec::Unix {
            local: folder.join(format!("{node}.relay")),
            remote: folder.join(format!("{node}.node")),
        },
    }
}

pub(super) fn wire(name: &str, ends: [EndSpec; 2], impairment: Impairment) -> LinkSpec {
    LinkSpec {
        name: name.to_owned(),
        kind: LinkKind::Wire,
        ends: ends.into(),
        impairment,
    }
}

pub(super) fn from(node: &str) -> Option<Direction> {
    Some(Direction {
        node: node.to_owned(),
        way: Way::From,
    })
}

/// Takes frames until none comes; how many, and the time from the first to the last.
pub(super) fn count(socket: &Node) -> (u64, Duration) {
    let mut buffer = [0; 2048];
    let (mut frames, mut first, mut last) = (0, None, None);
    while socket.recv(&mut buffer).is_ok() {
        last = Some(Instant::now());
        first = first.or(last);
        frames += 1;
    }
    let took = first
        .zip(last)
        .map_or(Duration::ZERO, |(first, last)| last - first);
    (frames, took)
}

/// Sends one frame at a time and waits for it: the times of the way, in order.
pub(super) fn one_by_one(a: &Node, b: &Node, frames: usize) -> Vec<Duration> {
    let (frame, mut buffer) = ([0; FRAME], [0; 2048]);
    let mut once = || {
        let start = Instant::now();
        a.send(&frame);
        b.recv(&mut buffer).unwrap();
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..frames).map(|_| once()).collect();
    times.sort_unstable();
    times
}

pub(super) fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}
