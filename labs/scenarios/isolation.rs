//! Tenants with the same addresses share a wire and nothing else. Needs `tcpdump`.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use weft_overlay::Mac;
use weft_overlay::link::Netlink;

use crate::lab::{Inside, Lab, objects, wait_until};
use crate::machine;

const TWINS: &str = include_str!("topologies/twins.toml");
const B: &str = "10.10.200.2";
/// Where the receivers listen.
const PORT: u16 = 9000;
/// VXLAN's port (RFC 7348 section 4).
const VXLAN: u16 = 4789;

#[test]
fn two_vnis_carry_the_same_addresses_and_nothing_forged_arrives() {
    let lab = Lab::up(TWINS);
    let folder = tempfile::tempdir().unwrap();
    let (red_a, red_b, blue_b) = (lab.enter("red/a"), lab.enter("red/b"), lab.enter("blue/b"));
    let wire = Capture::start(folder.path(), "wire", |line| lab.command("n1", line));
    let red = Capture::start(folder.path(), "red", |line| red_b.command(line));
    let blue = Capture::start(folder.path(), "blue", |line| blue_b.command(line));

    for from in ["red/a", "blue/a"] {
        wait_until(
            &format!("{from} reaches its own b"),
            Duration::from_secs(10),
            || (lab.probe(from, "tcp/80", B, &[])["ok"] == true).then_some(()),
        );
    }
    forge(&red_a);
    // After everything forged: when this has arrived, the rest would have, too.
    say(&red_a, "0.0.0.0", "honest");
    wait_until(
        "the honest datagram arrives",
        Duration::from_secs(10),
        || red.holds(b"honest").then_some(()),
    );
    let (wire, red, blue) = (wire.stop(), red.stop(), blue.stop());
    for (name, bytes) in [("red/b", &red), ("blue/b", &blue)] {
        assert!(
            !contains(bytes, b"forged"),
            "something forged arrived at {name}"
        );
    }
    assert!(
        !contains(&blue, b"honest"),
        "a packet of red arrived in blue"
    );
    let vnis = vnis_of(&wire, [10, 10, 200, 1], [10, 10, 200, 2]);
    assert_eq!(
        vnis.len(),
        2,
        "the same inner addresses under two VNIs: {vnis:?}"
    );
    let drops = objects(&lab.must("n1", &["weft", "drops", "--json"]));
    for reason in ["spoofed_mac", "spoofed_address", "node_address"] {
        let counted = drops
            .iter()
            .any(|d| d["node"] == "n1" && d["reason"] == reason && d["packets"].as_u64() > Some(0));
        assert!(counted, "{reason} is counted: {drops:?}");
    }
    lab.down();
}

/// What a container with every power over its own network could try.
fn forge(red_a: &Inside) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let netlink = || Netlink::in_netns(red_a.netns()).expect("netlink in red/a");
    // Another source address.
    runtime.block_on(async {
        let other = "10.10.200.77/32".parse().unwrap();
        netlink().add_address("eth0", other).await.unwrap();
    });
    say(red_a, "10.10.200.77", "forged address");
    // Another source MAC.
    let own = runtime.block_on(async {
        let netlink = netlink();
        let own = netlink
            .existing("read", "eth0")
            .await
            .unwrap()
            .mac
            .expect("a MAC");
        netlink.set_mac("eth0", other_mac(own)).await.unwrap();
        own
    });
    say(red_a, "0.0.0.0", "forged MAC");
    runtime.block_on(async { netlink().set_mac("eth0", own).await.unwrap() });
    // A tunnel packet of its own making, with every VNI that a small lab has, to the node of blue/b.
    for vni in 1..=64 {
        red_a.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            // Refused by the network or silently dropped: both are fine.
            let _ = socket.send_to(&vxlan(vni), ("192.0.2.13", VXLAN));
        });
    }
}

fn other_mac(own: Mac) -> Mac {
    let mut bytes: [u8; 6] = own.0;
    bytes[5] ^= 1;
    Mac(bytes)
}

fn say(from: &Inside, source: &str, words: &str) {
    from.run(|| {
        let socket = UdpSocket::bind((source, 0)).expect("a socket");
        let _ = socket.send_to(words.as_bytes(), (B, PORT));
    });
}

/// VXLAN header (RFC 7348 section 5) and an inner datagram to `b`; no checksums: nobody should get so far.
fn vxlan(vni: u32) -> Vec<u8> {
    let words = b"forged tunnel";
    let length = |header: usize| ((header + words.len()) as u16).to_be_bytes();
    let mut packet = vec![8, 0, 0, 0];
    packet.extend(&vni.to_be_bytes()[1..]);
    packet.push(0);
    packet.extend([0x0a, 0x58, 0, 0, 0, 1, 0x0a, 0x58, 0, 0, 0, 2, 8, 0]);
    packet.extend([0x45, 0]);
    packet.extend(length(28));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 10, 200, 1, 10, 10, 200, 2]);
    packet.extend([0x12, 0x34]);
    packet.extend(PORT.to_be_bytes());
    packet.extend(length(8));
    packet.extend([0, 0]);
    packet.extend(words);
    packet
}

/// The VNIs under which packets between two inner addresses are in a capture of Ethernet frames.
fn vnis_of(capture: &[u8], from: [u8; 4], to: [u8; 4]) -> Vec<u32> {
    let mut found = Vec::new();
    // pcap: 24 bytes of header, then 16 a packet with the captured length at 8 (little endian here).
    let mut at = 24;
    while let Some(head) = capture.get(at..at + 16) {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some(frame) = capture.get(at + 16..at + 16 + length) else {
            break;
        };
        at += 16 + length;
        // Ethernet 14, IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14, inner IPv4 with addresses at 12.
        let (Some(vni), Some(inner)) = (frame.get(46..49), frame.get(64..84)) else {
            continue;
        };
        let vni = u32::from_be_bytes([0, vni[0], vni[1], vni[2]]);
        if inner[12..16] == from && inner[16..20] == to && !found.contains(&vni) {
            found.push(vni);
        }
    }
    found
}

pub fn contains(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

/// A running tcpdump.
pub struct Capture {
    file: PathBuf,
    child: Child,
}

impl Capture {
    pub fn start(
        folder: &Path,
        name: &str,
        command: impl Fn(&[&str]) -> std::process::Command,
    ) -> Capture {
        let file = folder.join(name);
        let path = file.to_str().unwrap();
        // As root and unbuffered, so that the file can be read at any time.
        let line = ["tcpdump", "-i", "eth0", "-U", "-Z", "root", "-w", path];
        let child = command(&line)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start tcpdump");
        wait_until(
            "tcpdump captures (package tcpdump)",
            Duration::from_secs(10),
            || {
                std::fs::metadata(&file)
                    .ok()
                    .filter(|file| file.len() >= 24)
                    .map(drop)
            },
        );
        Capture { file, child }
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.file).unwrap_or_default()
    }

    pub fn holds(&self, words: &[u8]) -> bool {
        contains(&self.bytes(), words)
    }

    /// Ends it: all that was captured.
    pub fn stop(mut self) -> Vec<u8> {
        let path = self.file.to_string_lossy().into_owned();
        for process in machine::processes() {
            if process.args[0].ends_with("tcpdump") && process.args.contains(&path) {
                machine::signal(process.pid, "INT");
            }
        }
        self.child.wait().expect("tcpdump ends");
        self.bytes()
    }
}
