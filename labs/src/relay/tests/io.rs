//! A relay at work: sockets as QEMU has them, captures, its control socket.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::rig::{Node, Rig, SILENCE, count, from, ms, unix, wire};
use crate::relay::{Impairment, LinkKind, LinkSpec, Request, Way};

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
        append: false,
    });
    for _ in 0..10 {
        a.send(&[3; 99]);
        b.recv(&mut [0; 99]).unwrap();
    }
    assert_eq!(rig.stats().capture.unwrap().frames, 20);
    let again = Request::Capture {
        link: "l".into(),
        file: Some(file.clone()),
        append: false,
    };
    let refused = rig.client.ask(&again).unwrap_err().to_string();
    assert!(refused.contains("runs already"), "{refused}");
    rig.ask(Request::Capture {
        link: "l".into(),
        file: None,
        append: false,
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
