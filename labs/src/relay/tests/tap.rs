//! Namespaces as nodes: TAP devices with the kernel's own traffic.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use weft_overlay::netns;

use super::rig::{Rig, ms, wire};
use crate::relay::{EndSpec, Impairment, PortSpec, Request};

/// A wire between two namespaces with addresses.
fn joined(impairment: Impairment) -> (Rig, [OwnedFd; 2]) {
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
    let rig = Rig::start(folder, wire("l", ends, impairment));
    for (number, space) in spaces.iter().enumerate() {
        let address = format!("192.0.2.{}/24", number + 1);
        run(space, &["ip", "address", "add", &address, "dev", "eth0"]);
        run(space, &["ip", "link", "set", "eth0", "up"]);
    }
    (rig, spaces)
}

#[test]
fn tap_devices_join_namespaces() {
    let (mut rig, spaces) = joined(Impairment {
        delay: ms(5),
        ..Impairment::default()
    });
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

/// Whole trains between, which are frames as soon as something is done to them or somebody looks at them.
#[test]
fn trains_pass_where_nothing_is_done_to_frames() {
    let (mut rig, spaces) = joined(Impairment::default());
    let mut seen = (0, 0);
    // Bytes of a frame, on average since the last time.
    let mut size = |rig: &mut Rig| {
        let lane = &rig.stats().lanes[0];
        let counters = lane.counters;
        assert_eq!((counters.too_big, counters.overflow), (0, 0));
        let before = std::mem::replace(&mut seen, (counters.passed, counters.passed_bytes));
        (counters.passed_bytes - before.1) / (counters.passed - before.0)
    };
    let rate = tcp(&spaces, 200 << 20);
    let trains = size(&mut rig);
    println!("{rate:.2} Gbit/s in trains of {trains} bytes");
    assert!(trains > 3000, "{trains}");
    rig.set(Impairment {
        mtu: Some(1500),
        ..Impairment::default()
    });
    tcp(&spaces, 20 << 20);
    let frames = size(&mut rig);
    assert!(frames <= 1514, "{frames}");
    rig.set(Impairment::default());
    let file = Some(rig.folder.path().join("capture"));
    let (link, append) = ("l".to_owned(), false);
    rig.ask(Request::Capture { link, file, append });
    tcp(&spaces, 20 << 20);
    let frames = size(&mut rig);
    assert!(frames <= 1514, "{frames}");
    for space in &spaces {
        let counts = run(space, &["cat", "/proc/thread-self/net/snmp"]);
        let tcp: Vec<&str> = counts
            .lines()
            .filter(|line| line.starts_with("Tcp:"))
            .collect();
        // InErrs and InCsumErrors (net/ipv4/proc.c).
        let of = |at: usize| tcp[1].split_whitespace().nth(at);
        assert_eq!((of(13), of(15)), (Some("0"), Some("0")), "{counts}");
    }
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
