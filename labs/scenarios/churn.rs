//! Endpoints come and go at random under traffic; at the end every table is what the documents say, and nothing is left.
//! Needs `bpftool` and `ip`. WEFT_CHURN says how many containers come and go instead of CI's few.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, PLAIN, UP_WITHIN, last_object, objects, text, wait_until};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Containers that come and go in CI, and how many of them live at once on a node, at most.
const CONTAINERS: usize = 45;
const AT_ONCE: usize = 6;
/// Datagrams a second between the two that stay.
const RATE: &str = "500";

/// A generator of numbers for a test (Marsaglia's xorshift), of the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

/// Makes and removes containers on a node, by its own agent; what is there at the end.
fn churn(lab: &Lab, node: &str, seed: u64, count: usize) -> Vec<String> {
    let mut dice = Dice(seed);
    let (mut made, mut there) = (0, Vec::new());
    let run = |line: &[&str]| {
        let output = lab.exec(node, line);
        assert!(output.status.success(), "{line:?}: {}", text(&output));
    };
    while made < count {
        if there.len() < AT_ONCE && dice.below(2) == 0 {
            let name = format!("red/{node}-{made}");
            made += 1;
            // Waited for or not, so that some are removed while they are made.
            let waits = ["--no-wait", "--label=waited=yes"][dice.below(2)];
            let line = [
                "weft",
                "run",
                &name,
                "--net",
                "red/front",
                "--node",
                node,
                waits,
            ];
            run(&[&line[..], &["host", "--", "sleep", "infinity"]].concat());
            there.push(name);
        } else if !there.is_empty() {
            let name = there.swap_remove(dice.below(there.len()));
            run(&["weft", "rm", &name]);
        }
    }
    there
}

/// The keys of a map of a node, as bytes.
fn keys(lab: &Lab, node: &str, map: &str) -> BTreeSet<Vec<u8>> {
    let path = format!("/sys/fs/bpf/weft/{node}/active/maps/{map}");
    let dump = lab.must(node, &["bpftool", "-j", "map", "dump", "pinned", &path]);
    let dump: Value = serde_json::from_str(&dump).expect("JSON");
    let entries = dump.as_array().expect("entries").iter();
    let byte = |b: &Value| {
        let hex = b.as_str().expect("text").trim_start_matches("0x");
        u8::from_str_radix(hex, 16).expect("hex")
    };
    let key = |e: &Value| {
        e["key"]
            .as_array()
            .expect("a key")
            .iter()
            .map(byte)
            .collect()
    };
    entries.map(key).collect()
}

/// Keys of an address in the network, as the maps have them: the VNI, then the address, IPv4 mapped.
fn key(vni: u64, address: Ipv4Addr) -> Vec<u8> {
    let vni = u32::try_from(vni).expect("24 bits").to_ne_bytes();
    [&vni[..], &address.to_ipv6_mapped().octets()].concat()
}

fn address(text: &Value) -> Ipv4Addr {
    let text = text.as_str().expect("an address");
    let plain = text.split('/').next().expect("the address");
    plain.parse().expect("an IPv4 address")
}

/// What of a node's tables differs from what the documents say, by the cluster's word.
fn differs(lab: &Lab, node: &str) -> Option<String> {
    let list = |words: &[&str]| objects(&lab.must(node, &[words, &["--json"]].concat()));
    let shown = list(&["weft", "network", "show", "red/front"]);
    let vni = shown[0]["vni"].as_u64().expect("a VNI");
    let endpoints = list(&["weft", "endpoint", "ls"]);
    let ours: Vec<&Value> = endpoints.iter().filter(|e| e["node"] == node).collect();
    let first = |e: &Value| key(vni, address(&e["addresses"][0]));
    // Of the others, those whose address is in a subnet of their node need no entry; all are here.
    let wanted: BTreeSet<Vec<u8>> = ours.iter().map(|e| first(e)).collect();
    let found = keys(lab, node, "endpoints");
    if found != wanted {
        return Some(format!("endpoints: {found:?} instead of {wanted:?}"));
    }
    let leases = shown.iter().filter(|one| one["subnet"].is_string());
    let wanted: BTreeSet<Vec<u8>> = leases.map(|l| key(vni, address(&l["subnet"]))).collect();
    let found = keys(lab, node, "subnets");
    // A network that has no port here is not carried.
    if !ours.is_empty() && found != wanted {
        return Some(format!("subnets: {found:?} instead of {wanted:?}"));
    }
    let links = lab.must(node, &["ip", "-o", "link", "show", "type", "veth"]);
    let ports = links.lines().filter(|line| line.contains(": wv")).count();
    let pins = lab.must(
        node,
        &[
            "sh",
            "-c",
            &format!("ls /sys/fs/bpf/weft/{node}/links | wc -l"),
        ],
    );
    let sizes = [
        ("ports", keys(lab, node, "ports").len()),
        ("counters of ports", keys(lab, node, "port_stats").len()),
        ("devices", ports),
        // One for the tunnel, one for the underlay.
        (
            "pins of links",
            pins.trim().parse::<usize>().expect("a number") - 2,
        ),
    ];
    let wrong = sizes.iter().find(|(_, size)| *size != ours.len());
    wrong.map(|(what, size)| format!("{size} {what} for {} endpoints", ours.len()))
}

fn wait_equal(lab: &Lab) {
    for node in NODES {
        let mut last = None;
        let deadline = std::time::Instant::now() + UP_WITHIN;
        while std::time::Instant::now() < deadline {
            last = differs(lab, node);
            if last.is_none() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(last, None, "tables of {node}");
    }
}

#[test]
fn endpoints_come_and_go_and_the_tables_are_what_the_documents_say() {
    let wanted = std::env::var("WEFT_CHURN").ok();
    let wanted = wanted.map_or(CONTAINERS, |text| {
        text.parse().expect("WEFT_CHURN: a number")
    });
    let lab = Lab::up(PLAIN);
    wait_equal(&lab);
    let inside = lab.enter("red/a");
    let to = lab.address("red/b");
    let seconds = format!("{}s", 10 + wanted / 5);
    let line = [
        "function",
        "probe",
        "udp/9000",
        &to,
        "--rate",
        RATE,
        "--duration",
        &seconds,
    ];
    let stream = inside.spawn_weft(&line);
    let left: Vec<String> = std::thread::scope(|scope| {
        let lab = &lab;
        let all = (1..).zip(NODES);
        let all = all.map(|(seed, node)| scope.spawn(move || churn(lab, node, seed, wanted / 3)));
        let all: Vec<_> = all.collect();
        all.into_iter()
            .flat_map(|one| one.join().expect("no panic"))
            .collect()
    });
    wait_until("all that are left run", UP_WITHIN, || {
        let listed = objects(&lab.must("n1", &["weft", "ps", "--json"]));
        let running = listed
            .iter()
            .filter(|one| one["status"]["state"] == "running");
        (running.count() == left.len() + 2).then_some(())
    });
    wait_equal(&lab);
    let result = last_object(&text(&stream.wait_with_output().expect("the stream ends")));
    println!(
        "{wanted} containers came, {} were left; stream {result}",
        left.len()
    );
    assert_eq!(result["lost"], 0, "{result}");
    for name in &left {
        lab.must("n1", &["weft", "rm", name]);
    }
    wait_until("the endpoints are gone", UP_WITHIN, || {
        let listed = objects(&lab.must("n1", &["weft", "endpoint", "ls", "--json"]));
        (listed.len() == 2).then_some(())
    });
    wait_equal(&lab);
    for node in NODES {
        let state = lab.state(node).join("containers");
        let kept = std::fs::read_dir(&state).map_or(0, Iterator::count);
        let own = usize::from(node != "n2");
        assert_eq!(kept, own, "{}", state.display());
    }
    lab.down();
}
