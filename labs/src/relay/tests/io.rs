//! A relay at work: sockets as QEMU has them, TAP devices in namespaces, its control socket.
//!
//! Relay and nodes of a test are in a network namespace of their own, so that sockets hold more than
//! the ten datagrams of an untouched machine.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use weft_overlay::netns;

use crate::relay::{
    Client, Direction, EndSpec, Impairment, LinkKind, LinkSpec, LinkStats, PortSpec, Relay,
    RelaySpec, Reply, Request, Way,
};

/// A full Ethernet frame.
const FRAME: usize = 1514;
/// Longer than any socket of a test should be silent.
const SILENCE: Duration = Duration::from_millis(300);

struct Rig {
    /// Gives the processor time of the relay.
    thread: Option<JoinHandle<Duration>>,
    client: Client,
    namespace: OwnedFd,
    folder: tempfile::TempDir,
}

impl Rig {
    /// A relay with one link `l` between `a` and `b`, and the sockets of both.
    fn wire(impairment: Impairment) -> (Rig, Node, Node) {
        let folder = tempfile::tempdir().unwrap();
        let ends = ["a", "b"].map(|node| unix(folder.path(), node));
        let rig = Rig::start(folder, wire("l", ends, impairment));
        let (a, b) = (rig.node("a"), rig.node("b"));
        (rig, a, b)
    }

    fn start(folder: tempfile::TempDir, link: LinkSpec) -> Rig {
        let spec = RelaySpec {
            seed: 42,
            control: folder.path().join("control"),
            socket_queue: Some(512),
            links: vec![link],
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

    fn node(&self, name: &str) -> Node {
        let path = |side| self.folder.path().join(format!("{name}.{side}"));
        let open = || Node::open(&path("node"), &path("relay"));
        netns::run_in_netns(&self.namespace, open).unwrap()
    }

    fn ask(&mut self, request: Request) {
        assert_eq!(self.client.ask(&request).unwrap(), Reply::Done);
    }

    fn set(&mut self, impairment: Impairment) {
        self.ask(Request::Set {
            link: "l".into(),
            direction: None,
            impairment,
        });
    }

    fn stop(mut self) -> Duration {
        self.ask(Request::Stop);
        self.thread.take().unwrap().join().unwrap()
    }

    fn stats(&mut self) -> LinkStats {
        match self.client.ask(&Request::Stats { link: None }).unwrap() {
            Reply::Stats(mut stats) => stats.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

/// The machine's side of an end: as QEMU's, its bound socket is connected to nobody.
struct Node {
    bound: UnixDatagram,
    out: UnixDatagram,
}

impl Node {
    fn open(local: &Path, remote: &Path) -> Node {
        let bound = UnixDatagram::bind(local).unwrap();
        bound.set_read_timeout(Some(SILENCE)).unwrap();
        let out = UnixDatagram::unbound().unwrap();
        out.connect(remote).unwrap();
        Node { bound, out }
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(self.out.send(frame).unwrap(), frame.len());
    }

    fn recv(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
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

fn unix(folder: &Path, node: &str) -> EndSpec {
    EndSpec {
        node: node.to_owned(),
        port: PortSpec::Unix {
            local: folder.join(format!("{node}.relay")),
            remote: folder.join(format!("{node}.node")),
        },
    }
}

fn wire(name: &str, ends: [EndSpec; 2], impairment: Impairment) -> LinkSpec {
    LinkSpec {
        name: name.to_owned(),
        kind: LinkKind::Wire,
        ends: ends.into(),
        impairment,
    }
}

fn from(node: &str) -> Option<Direction> {
    Some(Direction {
        node: node.to_owned(),
        way: Way::From,
    })
}

/// Takes frames until none comes; how many, and the time from the first to the last.
fn count(socket: &Node) -> (u64, Duration) {
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
fn one_by_one(a: &Node, b: &Node, frames: usize) -> Vec<Duration> {
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

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn a_delay_of_5_ms_is_one() {
    let (_rig, a, b) = Rig::wire(Impairment {
        delay: ms(5),
        ..Impairment::default()
    });
    let times = one_by_one(&a, &b, 200);
    let (low, median, p90) = (times[0], times[100], times[180]);
    println!("delay 5 ms: least {low:?}, median {median:?}, p90 {p90:?}");
    assert!(low >= ms(5), "{low:?}");
    assert!(median <= Duration::from_micros(5500), "{median:?}");
}

#[test]
fn a_loss_of_1_percent_is_one_over_100_000_frames() {
    let (mut rig, a, b) = Rig::wire(Impairment {
        loss: 0.01,
        ..Impairment::default()
    });
    // In small lots, each taken before the next one: nothing but chance can lose a frame.
    let mut seen = 0;
    for lot in 1..=500 {
        for _ in 0..200 {
            a.send(&[0; 100]);
        }
        let judged = |rig: &mut Rig| {
            let counters = rig.stats().lanes[0].counters;
            (counters.passed + counters.lost == lot * 200).then_some(counters.passed)
        };
        let start = Instant::now();
        let passed = loop {
            if let Some(passed) = judged(&mut rig) {
                break passed;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "lot {lot}");
        };
        while seen < passed {
            b.recv(&mut [0; 100]).unwrap();
            seen += 1;
        }
    }
    assert_eq!(count(&b).0, 0);
    let loss = 1.0 - seen as f64 / 100_000.0;
    println!("loss 1 %: {:.3} % of 100,000", loss * 100.0);
    assert!((0.008..=0.012).contains(&loss), "{loss}");
    let stats = rig.stats();
    assert_eq!(stats.lanes[0].counters.lost, 100_000 - seen);
    assert_eq!(stats.ends[1].refused, 0, "nothing was lost but by chance");
}

#[test]
fn a_rate_of_100_mbit_is_one() {
    let (mut rig, a, b) = Rig::wire(Impairment {
        rate: Some(100_000_000),
        ..Impairment::default()
    });
    let counter = std::thread::spawn(move || count(&b));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        // About twice the rate.
        for _ in 0..16 {
            a.send(&[0; FRAME]);
        }
        std::thread::sleep(ms(1));
    }
    let (frames, took) = counter.join().unwrap();
    let rate = (frames - 1) as f64 * FRAME as f64 * 8.0 / took.as_secs_f64() / 1e6;
    println!("rate 100 Mbit/s: {rate:.2} Mbit/s over {took:?}");
    assert!((95.0..=105.0).contains(&rate), "{rate}");
    let stats = rig.stats();
    assert!(stats.lanes[0].counters.overflow > 0, "the rest was dropped");
    assert_eq!(stats.ends[1].refused, 0);
}

#[test]
fn a_link_is_cut_one_way_and_healed_while_it_runs() {
    let (mut rig, a, b) = Rig::wire(Impairment::default());
    let heard = |from: &Node, to: &Node| {
        from.send(&[7; 64]);
        match to.recv(&mut [0; 64]) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    };
    let link = || "l".to_owned();
    assert!(heard(&a, &b) && heard(&b, &a));
    rig.ask(Request::Cut {
        link: link(),
        direction: from("a"),
    });
    assert!(!heard(&a, &b) && heard(&b, &a));
    rig.ask(Request::Cut {
        link: link(),
        direction: None,
    });
    assert!(!heard(&a, &b) && !heard(&b, &a));
    rig.ask(Request::Heal {
        link: link(),
        direction: None,
    });
    assert!(heard(&a, &b) && heard(&b, &a));
    rig.set(Impairment {
        mtu: Some(40),
        ..Impairment::default()
    });
    assert!(!heard(&a, &b));
    let counters = rig.stats().lanes[0].counters;
    assert_eq!((counters.passed, counters.cut, counters.too_big), (2, 2, 1));
    let wrong = Request::Remove { link: "x".into() };
    let refused = rig.client.ask(&wrong).unwrap_err().to_string();
    assert!(refused.contains("no link x; there are l"), "{refused}");
}

#[test]
fn a_node_that_starts_late_or_again_or_never_reads_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let link = LinkSpec {
        name: "lan".into(),
        kind: LinkKind::Segment,
        ends: ["a", "b", "deaf"]
            .map(|node| unix(folder.path(), node))
            .into(),
        impairment: Impairment::default(),
    };
    let mut rig = Rig::start(folder, link);
    let (a, deaf) = (rig.node("a"), rig.node("deaf"));
    let broadcast = [0xff; 60];
    for life in 0..2 {
        let b = rig.node("b");
        std::thread::sleep(ms(30));
        for number in 0..3000 {
            a.send(&broadcast);
            assert_eq!(b.recv(&mut [0; 60]).unwrap(), 60, "life {life}, {number}");
        }
        drop(b);
        std::fs::remove_file(rig.folder.path().join("b.node")).unwrap();
        a.send(&broadcast);
    }
    assert!(rig.stats().ends[2].refused > 0);
    assert!(rig.stats().ends[1].refused > 0);
    // What was kept for it comes as it reads.
    assert!(count(&deaf).0 > 1000);
}

#[test]
fn a_client_that_talks_nonsense_gets_a_sentence_and_stops_nothing() {
    use std::io::{BufRead, BufReader, Write};
    let (mut rig, a, b) = Rig::wire(Impairment::default());
    let connect = || UnixStream::connect(rig.folder.path().join("control")).unwrap();
    let mut talk = BufReader::new(connect());
    let mut ask = |parts: &[&str]| {
        for part in parts {
            talk.get_mut().write_all(part.as_bytes()).unwrap();
        }
        let mut answer = String::new();
        talk.read_line(&mut answer).unwrap();
        answer
    };
    assert!(ask(&["hello\n"]).contains("not understood"));
    assert!(
        ask(&["{\"do\":\"set\",\"link\":\"l\",\"impairment\":{\"loss\":7}}\n"])
            .contains("loss is 7")
    );
    assert_eq!(
        ask(&["{\"do\":", "\"heal\",\"link\":\"l\"}\n"]),
        "\"done\"\n"
    );
    // One that never ends its line is not kept for ever.
    let mut flood = connect();
    flood.set_write_timeout(Some(SILENCE)).unwrap();
    let chunk = [b'x'; 1 << 16];
    assert!((0..64).any(|_| flood.write_all(&chunk).is_err()));
    let _more_than_are_served: Vec<UnixStream> = (0..40).map(|_| connect()).collect();
    a.send(&[0; 60]);
    assert_eq!(count(&b).0, 1);
    assert_eq!(rig.stats().lanes[0].counters.passed, 1);
}

#[test]
fn links_are_added_and_removed_while_others_work() {
    let (mut rig, a, b) = Rig::wire(Impairment::default());
    let ends = ["c", "d"].map(|node| unix(rig.folder.path(), node));
    let link = wire("m", ends, Impairment::default());
    rig.ask(Request::Add { link: link.clone() });
    let again = Request::Add { link };
    assert!(
        rig.client
            .ask(&again)
            .unwrap_err()
            .to_string()
            .contains("there already")
    );
    let (c, d) = (rig.node("c"), rig.node("d"));
    a.send(&[1; 60]);
    c.send(&[2; 61]);
    assert_eq!(b.recv(&mut [0; 64]).unwrap(), 60);
    assert_eq!(d.recv(&mut [0; 64]).unwrap(), 61);
    rig.ask(Request::Remove { link: "m".into() });
    assert!(!rig.folder.path().join("c.relay").exists());
    a.send(&[1; 60]);
    assert_eq!(b.recv(&mut [0; 64]).unwrap(), 60);
}

#[test]
fn a_stopped_node_holds_its_neighbour_only_for_a_moment() {
    let (mut rig, a, b) = Rig::wire(Impairment::default());
    let start = Instant::now();
    for _ in 0..5000 {
        a.send(&[0; 60]);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let kept = count(&b).0;
    assert_eq!(kept + rig.stats().ends[1].refused, 5000);
    assert!(
        kept > 1000,
        "what was kept for it comes as it reads: {kept}"
    );
    a.send(&[0; 60]);
    assert_eq!(count(&b).0, 1);
}

/// The firmware of the machine asks for an address; that is a frame without any guest to bring.
#[test]
fn a_qemu_machine_is_heard_and_hears() {
    let folder = tempfile::tempdir().unwrap();
    let link = LinkSpec {
        name: "l".into(),
        kind: LinkKind::Segment,
        ends: ["a", "b", "qemu"]
            .map(|node| unix(folder.path(), node))
            .into(),
        impairment: Impairment::default(),
    };
    let mut rig = Rig::start(folder, link);
    let a = rig.node("a");
    a.bound
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let path = |side| rig.folder.path().join(format!("qemu.{side}"));
    let netdev = format!(
        "dgram,id=n,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        path("node").display(),
        path("relay").display()
    );
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-display", "none", "-m", "64M", "-boot", "n"])
        .args(["-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:07"])
        .args(["-netdev", &netdev])
        .spawn()
        .expect("qemu-system-x86_64 (Debian: qemu-system-x86 and ipxe-qemu)");
    let mut buffer = [0; 2048];
    let heard = a.recv(&mut buffer);
    // To the machine alone: the segment has learned where it is.
    let mut answer = [0x52, 0x54, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1].to_vec();
    answer.resize(60, 0);
    a.send(&answer);
    let start = Instant::now();
    while rig.stats().lanes[5].counters.passed == 0 && start.elapsed() < Duration::from_secs(5) {}
    let stats = rig.stats();
    machine.kill().unwrap();
    machine.wait().unwrap();
    heard.expect("a frame of the machine's firmware");
    assert_eq!(
        buffer[..12],
        [255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0, 0, 7]
    );
    assert_eq!(stats.lanes[5].direction.way, Way::To);
    assert_eq!(
        (stats.lanes[5].counters.passed, stats.ends[2].refused),
        (1, 0)
    );
}

#[test]
fn a_capture_has_each_frame_at_both_ends_to_the_nanosecond() {
    let (mut rig, a, b) = Rig::wire(Impairment {
        delay: ms(2),
        ..Impairment::default()
    });
    let file = rig.folder.path().join("l.pcapng");
    rig.ask(Request::Capture {
        link: "l".into(),
        file: Some(file.clone()),
    });
    for _ in 0..10 {
        a.send(&[3; 99]);
        b.recv(&mut [0; 99]).unwrap();
    }
    assert_eq!(rig.stats().capture.unwrap().frames, 20);
    rig.ask(Request::Capture {
        link: "l".into(),
        file: None,
    });
    a.send(&[3; 99]);
    b.recv(&mut [0; 99]).unwrap();
    let seen = captured(&file);
    assert_eq!(seen.len(), 20);
    for pair in seen.chunks(2) {
        assert_eq!((pair[0].0, pair[1].0), (0, 1), "in at a, out at b");
        assert_eq!(
            pair[1].1 - pair[0].1,
            ms(2),
            "the link's own times are exact"
        );
        assert_eq!(pair[0].2, [3; 99]);
    }
}

fn captured(file: &Path) -> Vec<(u32, Duration, Vec<u8>)> {
    use pcap_file::pcapng::{Block, PcapNgReader};
    let mut reader = PcapNgReader::new(std::fs::File::open(file).unwrap()).unwrap();
    let mut seen = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            seen.push((packet.interface_id, packet.timestamp, packet.data.to_vec()));
        }
    }
    seen
}

/// Prints; the bounds are for an optimised build and are loose here.
#[test]
fn throughput_and_added_delay() {
    let (mut rig, a, b) = Rig::wire(Impairment::default());
    let added = one_by_one(&a, &b, 5000);
    let path = rig.folder.path().join("direct");
    let direct = Node::open(&path, &rig.folder.path().join("a.relay"));
    direct.out.connect(&path).unwrap();
    let bare = one_by_one(&direct, &direct, 5000);
    let (p50, p99) = (added[2500], added[4950]);
    println!(
        "one frame: {p50:?} median, {p99:?} p99; without a relay {:?}",
        bare[2500]
    );
    let frames = 200_000;
    let counter = std::thread::spawn(move || count(&b));
    for _ in 0..frames {
        a.send(&[0; FRAME]);
    }
    let (seen, took) = counter.join().unwrap();
    let rate = seen as f64 * FRAME as f64 * 8.0 / took.as_secs_f64() / 1e9;
    let refused = rig.stats().ends[1].refused;
    println!(
        "throughput: {rate:.2} Gbit/s, {:.0} frames/s, {refused} of {frames} not taken",
        seen as f64 / took.as_secs_f64()
    );
    let cpu = rig.stop();
    let alone = frames as f64 * FRAME as f64 * 8.0 / cpu.as_secs_f64() / 1e9;
    println!("the relay's own time: {cpu:?}, so a core of its own would pass {alone:.1} Gbit/s");
    assert_eq!(seen + refused, frames);
    assert!(
        p50 - bare[2500].min(p50) <= Duration::from_micros(100),
        "{p50:?}"
    );
    assert!(rate >= 1.0, "{rate}");
}

#[test]
fn tap_devices_join_namespaces() {
    let folder = tempfile::tempdir().unwrap();
    let spaces: [OwnedFd; 2] = [netns::create().unwrap(), netns::create().unwrap()];
    let tap = |node: &str, space: &OwnedFd| EndSpec {
        node: node.to_owned(),
        port: PortSpec::Tap {
            netns: format!("/proc/{}/fd/{}", std::process::id(), space.as_raw_fd()).into(),
            device: "eth0".into(),
        },
    };
    let ends = [tap("a", &spaces[0]), tap("b", &spaces[1])];
    let delayed = Impairment {
        delay: ms(5),
        ..Impairment::default()
    };
    let mut rig = Rig::start(folder, wire("l", ends, delayed));
    for (number, space) in spaces.iter().enumerate() {
        let address = format!("192.0.2.{}/24", number + 1);
        run(space, &["ip", "address", "add", &address, "dev", "eth0"]);
        run(space, &["ip", "link", "set", "eth0", "up"]);
    }
    let times = round_trips(&spaces, 50);
    println!("TAP, 5 ms each way: {:?} median round trip", times[25]);
    assert!(times[0] >= ms(10) && times[25] <= ms(11), "{times:?}");
    rig.set(Impairment::default());
    let rate = tcp(&spaces, 200 << 20);
    println!("TCP over two TAP devices: {rate:.2} Gbit/s");
    rig.ask(Request::Remove { link: "l".into() });
    let left = run(&spaces[0], &["ip", "-o", "link"]);
    assert!(!left.contains("eth0"), "{left}");
}

fn run(space: &OwnedFd, words: &[&str]) -> String {
    let output = netns::run_in_netns(space, || Command::new(words[0]).args(&words[1..]).output());
    let output = output.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}{error}");
    text
}

/// Times of UDP packets that come back, in order; the first one, which waits for ARP, is left out.
fn round_trips(spaces: &[OwnedFd; 2], count: usize) -> Vec<Duration> {
    let bind = |number: usize| {
        let address = format!("192.0.2.{}:5000", number + 1);
        let socket = netns::run_in_netns(&spaces[number], || UdpSocket::bind(address));
        let socket = socket.unwrap().unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
    };
    let (near, far) = (bind(0), bind(1));
    let mut buffer = [0; 64];
    let mut once = || {
        let start = Instant::now();
        near.send_to(&[1; 64], "192.0.2.2:5000").unwrap();
        let (len, back) = far.recv_from(&mut buffer).unwrap();
        far.send_to(&buffer[..len], back).unwrap();
        near.recv_from(&mut buffer).unwrap();
        start.elapsed()
    };
    once();
    let mut times: Vec<Duration> = (0..count).map(|_| once()).collect();
    times.sort_unstable();
    times
}

/// Gbit/s of one stream.
fn tcp(spaces: &[OwnedFd; 2], bytes: usize) -> f64 {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    let listen = || TcpListener::bind("192.0.2.2:5001");
    let listener = netns::run_in_netns(&spaces[1], listen).unwrap().unwrap();
    let connect = || TcpStream::connect("192.0.2.2:5001");
    let mut to = netns::run_in_netns(&spaces[0], connect).unwrap().unwrap();
    let (mut from, _) = listener.accept().unwrap();
    let start = Instant::now();
    let writer = std::thread::spawn(move || {
        let chunk = vec![0; 1 << 16];
        for _ in 0..bytes / chunk.len() {
            to.write_all(&chunk).unwrap();
        }
    });
    let (mut seen, mut chunk) = (0, vec![0; 1 << 18]);
    while seen < bytes {
        seen += from.read(&mut chunk).unwrap();
    }
    writer.join().unwrap();
    seen as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
}
