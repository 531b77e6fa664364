//! Links that are as bad as the file says, measured from the nodes themselves.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_labs::relay::{Client, Direction, Request, Way};

use crate::lab::{Lab, ROOT, last_object, text, wait_until};

const IMPAIRED: &str = include_str!("topologies/impaired.toml");
/// Datagrams for the loss, and how many a second: what one core relays without a full queue.
const SENT: f64 = 100_000.0;
/// Delays are measured so often, in turn, and the least median counts: whatever else runs on the machine only adds.
const ROUNDS: usize = 5;
const PORT: &str = "9000";

/// A server on a node, for as long as it is held.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already: as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(lab: &Lab, node: &str) -> Server {
    let udp = format!("udp/{PORT}");
    let mut command = lab.command(node, &["weft", "function", "serve", &udp]);
    command.stdin(Stdio::null());
    Server(command.spawn().expect("start a server"))
}

fn probe(lab: &Lab, to: &str, more: &[&str]) -> Value {
    let udp = format!("udp/{PORT}");
    let line = ["weft", "function", "probe", &udp, to];
    let line: Vec<&str> = line.iter().chain(more).copied().collect();
    last_object(&text(&lab.exec("n1", &line)))
}

fn answers(lab: &Lab, to: &str) -> bool {
    probe(lab, to, &["--timeout", "300ms"])["received"] == 1
}

#[test]
fn delay_loss_rate_and_a_one_way_cut_are_what_the_file_says() {
    let lab = Lab::up(IMPAIRED);
    let address = |node: u8| format!("192.0.2.{}", 10 + node);
    let _servers: Vec<Server> = ["n2", "n3", "n4", "n5", "n6"]
        .map(|n| serve(&lab, n))
        .into();
    for node in 2..=6 {
        wait_until("the server answers", Duration::from_secs(10), || {
            answers(&lab, &address(node)).then_some(())
        });
    }

    // n2 is behind 5 ms each way, n6 behind none, and n5 behind the relay alone.
    let more = ["--count", "41", "--interval", "5ms"];
    let rounds = (0..ROUNDS).map(|_| [2, 6, 5].map(|node| probe(&lab, &address(node), &more)));
    let medians: Vec<[f64; 3]> = rounds.map(|round| round.each_ref().map(median)).collect();
    let least = |of: usize| medians.iter().map(|m| m[of]).fold(f64::INFINITY, f64::min);
    let [delayed, bare, relayed] = [0, 1, 2].map(least);
    let delay = (delayed - bare) / 2.0 / 1000.0;
    println!("delay 5 ms: {delay:.3} ms");
    assert!((4.5..=5.5).contains(&delay), "{medians:?}");
    let added = (relayed - bare) / 2.0;
    println!("the relay adds {added:.0} us each way");
    assert!(added <= 100.0, "{medians:?}");

    // What n1 sends to n3 is lost by 1 %, the answers are not.
    let more = ["--rate", "10000", "--duration", "10s"];
    let not_taken = || {
        let both = ["n1", "n3"].iter();
        both.map(|node| udp(&lab, node, NOT_TAKEN) + full(&lab, node))
            .sum::<u64>()
    };
    let before = not_taken();
    let lossy = probe(&lab, &address(3), &more);
    let (sent, lost) = (lossy["sent"].as_f64(), lossy["lost"].as_f64());
    // What the machine was too slow to take, a program or the relay itself, was not lost by the link.
    let lost = lost.expect("lost") - (not_taken() - before) as f64;
    let part = lost / sent.expect("sent") * 100.0;
    println!("loss 1 %: {part:.3} % of {}", lossy["sent"]);
    assert!(sent.is_some_and(|sent| sent >= SENT * 0.95), "{lossy}");
    assert!((0.8..=1.2).contains(&part), "{lossy}");

    // 1.5 times what the link to n4 carries; what arrives there is counted by its kernel.
    let more = ["--rate", "12500", "--duration", "4s", "--size", "1458"];
    let (traffic, to) = (format!("udp/{PORT}"), address(4));
    let line = ["weft", "function", "probe", &traffic, &to];
    let line: Vec<&str> = line.iter().chain(&more).copied().collect();
    let mut flood = lab.spawn("n1", &line);
    let start = received(&lab, "n4");
    wait_until("the flood arrives", Duration::from_secs(10), || {
        (received(&lab, "n4").0 > start.0 + 1_000_000).then_some(())
    });
    let (before, begun) = received(&lab, "n4");
    // The time over which the rate is taken.
    std::thread::sleep(Duration::from_secs(2));
    let (after, ended) = received(&lab, "n4");
    let rate = (after - before) as f64 * 8.0 / (ended - begun).as_secs_f64() / 1e6;
    println!("rate 100 Mbit/s: {rate:.2} Mbit/s");
    assert!((95.0..=105.0).contains(&rate), "{rate}");
    flood.wait().expect("the flood ends");

    // n5 hears n1, and is not heard.
    let cut = Request::Cut {
        link: "n1+n5".to_owned(),
        direction: Some(Direction {
            node: "n5".to_owned(),
            way: Way::From,
        }),
    };
    let control = Path::new(ROOT)
        .join(&lab.name)
        .join("_underlay/control.sock");
    let mut relay = Client::connect(&control).expect("the relay");
    relay.ask(&cut).expect("a cut");
    let before = udp(&lab, "n5", TAKEN);
    assert!(!answers(&lab, &address(5)), "nothing comes back");
    let heard = udp(&lab, "n5", TAKEN) > before;
    assert!(heard, "what n1 sends arrives");
    lab.down();
}

/// Round trip, microseconds.
fn median(report: &Value) -> f64 {
    let median = report["rtt_us_p50"].as_f64();
    median.unwrap_or_else(|| panic!("no answer: {report}"))
}

/// Fields of the line `Udp` in /proc/net/snmp (net/ipv4/proc.c): InDatagrams and RcvbufErrors.
const TAKEN: usize = 1;
const NOT_TAKEN: usize = 5;

/// A node's count of UDP datagrams.
fn udp(lab: &Lab, node: &str, field: usize) -> u64 {
    let text = lab.must(node, &["cat", "/proc/net/snmp"]);
    let line = text.lines().filter(|line| line.starts_with("Udp:")).nth(1);
    let field = line.and_then(|line| line.split_whitespace().nth(field)?.parse().ok());
    field.expect("the kernel's count")
}

/// Frames that a node's devices dropped because nobody took what they had (/proc/net/dev, `drop` of what is sent).
fn full(lab: &Lab, node: &str) -> u64 {
    let text = lab.must(node, &["cat", "/proc/net/dev"]);
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let drops =
        lines.filter_map(|(_, counts)| counts.split_whitespace().nth(11)?.parse::<u64>().ok());
    drops.sum()
}

/// Bytes that a node's `eth0` has received, and when they were read.
fn received(lab: &Lab, node: &str) -> (u64, Instant) {
    let file = "/sys/class/net/eth0/statistics/rx_bytes";
    let bytes = lab.must(node, &["cat", file]);
    (bytes.trim().parse().expect("a number"), Instant::now())
}
