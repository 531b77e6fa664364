//! A container with raw sockets and every power over its own network tries to get out of it: each way is dropped where
//! it is tried, for its own reason, and nothing of it is seen anywhere. Needs `tcpdump` and `ip`.

use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::isolation::{Capture, contains};
use crate::lab::{Inside, Lab, objects, overhead, wait_until};

mod frames;
mod open;
mod ways;

use frames::{IPV4, UDP, ipv4, udp};
use ways::{Cast, MARK};

const ATTACKED: &str = include_str!("topologies/attacked.toml");
/// How often each frame is sent, so that a stray packet of somebody else does not count as it.
const TIMES: usize = 5;
/// Sends frames as they are, by the device `eth0` of a network. How many the device took.
fn send(from: &Inside, frame: &[u8]) -> usize {
    from.run(|| {
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(AddressFamily::Packet, kind, flags, None).expect("a packet socket");
        let device = device("eth0");
        let one = |_| sendto(socket.as_raw_fd(), frame, &device, MsgFlags::empty());
        (0..TIMES).map(one).filter(Result::is_ok).count()
    })
}

fn device(name: &str) -> LinkAddr {
    let all = nix::ifaddrs::getifaddrs().expect("the devices");
    let mut named = all.filter(|one| one.interface_name == name);
    let found = named.find_map(|one| one.address?.as_link_addr().copied());
    found.expect("the device")
}

/// Packets larger than the network's MTU, by a device that mallory made larger: the pair of devices leaves room
/// for a tag of four bytes and takes no more; what it takes is refused by the program. What went wrong.
fn too_large(lab: &Lab, cast: &Cast, mallory: &Inside) -> Option<String> {
    let line = ["ip", "link", "set", "eth0", "mtu", "9000"];
    let done = mallory
        .command(&line)
        .status()
        .expect("ip (package iproute2)");
    assert!(done.success(), "{line:?}");
    let of = |size: usize| {
        let words = MARK.repeat(size / MARK.len() + 1);
        let datagram = udp(9000, &words[..size - 28]);
        cast.frame(IPV4, &ipv4(cast.own, cast.far, UDP, 0x4000, &[], &datagram))
    };
    let before = dropped(lab, "too_big");
    send(mallory, &of(1500 - overhead() + 2));
    wait_until("it is refused", Duration::from_secs(10), || {
        (dropped(lab, "too_big") >= before + TIMES).then_some(())
    });
    let taken = send(mallory, &of(9000));
    (taken > 0).then(|| format!("9,000 bytes: the pair of devices took {taken}"))
}

/// How many packets n1 dropped for a reason.
fn dropped(lab: &Lab, reason: &str) -> usize {
    let drops = objects(&lab.must("n1", &["weft", "drops", "--json"]));
    let ours = drops
        .iter()
        .filter(|d| d["node"] == "n1" && d["reason"] == reason);
    let packets = ours.filter_map(|d| d["packets"].as_u64());
    usize::try_from(packets.sum::<u64>()).expect("few")
}

#[test]
fn every_way_out_of_a_network_is_dropped_for_its_reason() {
    let closed = |cast: &Cast| {
        let ways = ways::all(cast).into_iter();
        ways.map(|(way, reason, frame)| (way, Some(reason), frame))
            .collect()
    };
    attack(ATTACKED, closed);
}

#[test]
fn every_way_out_of_a_network_with_a_gateway_is_dropped_for_its_reason() {
    let mut source = ATTACKED.replace("\ncidr6 =", "\negress = \"nat\"\ncidr6 =");
    for (name, port) in [("red/mallory", 8080), ("blue/near", 8081)] {
        let head = format!("name = \"{name}\"\n");
        assert!(source.contains(&head));
        source = source.replace(&head, &format!("{head}publish = [\"{port}:tcp/80\"]\n"));
    }
    let opened = |cast: &Cast| {
        let all = ways::all(cast).into_iter().map(open::opened);
        let between = open::between(cast).into_iter();
        let between = between.map(|(way, reason, frame)| (way, Some(reason), frame));
        all.chain(between).collect()
    };
    attack(&source, opened);
}

/// A way, the reason it is dropped for where it is tried, if it is, and the frame.
type Tried = (&'static str, Option<&'static str>, Vec<u8>);

fn attack(source: &str, ways: impl Fn(&Cast) -> Vec<Tried>) {
    let lab = Lab::up(source);
    let cast = Cast::of(&lab);
    let mallory = lab.enter("red/mallory");
    let folder = tempfile::tempdir().expect("a folder");
    let mut captures = Vec::new();
    for name in ["red/near", "red/far", "red/vault", "blue/near", "blue/far"] {
        let inside = lab.enter(name);
        let file = name.replace('/', "-");
        let capture = Capture::start(folder.path(), &file, |line| inside.command(line));
        captures.push((name, capture));
    }
    for name in ["n1", "n2", "n3"] {
        let capture = Capture::start(folder.path(), name, |line| lab.command(name, line));
        captures.push((name, capture));
    }
    let ways = ways(&cast);
    let mut wrong = Vec::new();
    for (way, reason, frame) in &ways {
        let Some(reason) = reason else {
            send(&mallory, frame);
            continue;
        };
        let before = dropped(&lab, reason);
        send(&mallory, frame);
        let counted = (0..100).any(|_| dropped(&lab, reason) >= before + TIMES);
        if !counted {
            wrong.push(format!("{way}: not dropped as {reason}"));
        }
    }
    wrong.extend(too_large(&lab, &cast, &mallory));
    assert!(wrong.is_empty(), "of {} ways: {wrong:#?}", ways.len());

    // After everything forged: when this has arrived, the rest would have, too.
    send(
        &mallory,
        &cast.frame(
            IPV4,
            &ipv4(cast.own, cast.far, UDP, 0, &[], &udp(9000, b"honest")),
        ),
    );
    let far = &captures
        .iter()
        .find(|(name, _)| *name == "red/far")
        .expect("it")
        .1;
    wait_until(
        "the honest datagram arrives",
        Duration::from_secs(10),
        || far.holds(b"honest").then_some(()),
    );
    for (name, capture) in captures {
        let seen = capture.stop();
        assert!(
            !contains(&seen, MARK),
            "something forged was seen at {name}"
        );
        // What goes out passes its own node, and there it ends.
        let ended = name == "n1" || !contains(&seen, open::SENT_OUT);
        assert!(ended, "what was sent out was seen at {name}");
    }
    let refused = ways
        .iter()
        .filter(|(_, reason, _)| reason.is_some())
        .count()
        + 2;
    println!("{refused} ways out dropped, each for its reason");
    lab.down();
}
