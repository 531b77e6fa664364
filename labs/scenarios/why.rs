//! Twenty things that keep a packet from arriving, and what `weft trace why` says of each. Needs `ip`, `nft` and `bpftool`.
//!
//! What a node puts back by itself is taken away again and again, for as long as it is asked about.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::lab::{Inside, Lab, UP_WITHIN, last_object, text, wait_until};
use crate::machine;

const SITE: &str = r#"
[lab]
name = "why"
[[node]]
name = "n"
count = 3
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
[[network]]
name = "red/back"
cidr = "10.20.0.0/16"
[[container]]
name = "red/a"
node = "n1"
networks = [{ network = "red/front", address = "10.10.200.1" }]
command = ["sleep", "infinity"]
[[container]]
name = "red/b"
node = "n2"
networks = [{ network = "red/front", address = "10.10.200.2" }]
command = ["/.weft", "function", "serve", "tcp/80", "udp/9000"]
[[container]]
name = "red/c"
node = "n3"
networks = [{ network = "red/front", address = "10.10.200.3" }]
command = ["/.weft", "function", "serve", "tcp/80"]
[[container]]
name = "red/vault"
node = "n2"
networks = [{ network = "red/back", address = "10.20.200.2" }]
command = ["/.weft", "function", "serve", "tcp/80"]
"#;
/// The host end of red/a's pair.
const PORT: &str = "$(ip -o link show type veth | grep -o -m1 'wv[0-9a-f]*')";

/// A loop on a node ends when this is there.
const STOP: &str = "/run/stop";

/// What is done, where, and what it is.
enum Fault {
    /// Nothing is done: it is asked for what cannot be.
    None,
    /// A line on a node, and what undoes it.
    Line(&'static str, &'static str, &'static str),
    /// A line on a node, again and again.
    Often(&'static str, &'static str),
    /// A line in the network of red/a, again and again.
    Inside(&'static str),
}

use Fault::{Inside as In, Line, None as Nothing, Often};

const UNDO: &str = "nft delete table inet mine";
const NO_MAP: &str = "bpftool -j map dump pinned PINS/active/maps/MAP | grep -o '\"key\":\\[[^]]*\\]' | tr -d '\"key:[]' | tr ',' ' ' | \
                      while read key; do bpftool map delete pinned PINS/active/maps/MAP key $key; done";

/// Name, fault, the flow's end and traffic, the cause.
const FAULTS: [(&str, Fault, [&str; 2], &str); 20] = [
    ("a closed port", Nothing, ["red/b", "tcp/81"], "closed_port"),
    (
        "a closed port of UDP",
        Nothing,
        ["red/b", "udp/9001"],
        "closed_port",
    ),
    (
        "an address of nobody",
        Nothing,
        ["10.10.77.7", "tcp/80"],
        "no_endpoint",
    ),
    (
        "another network of the tenant",
        Nothing,
        ["red/vault", "tcp/80"],
        "isolated",
    ),
    (
        "the outside",
        Nothing,
        ["198.51.100.7", "tcp/80"],
        "no_route",
    ),
    (
        "a node",
        Nothing,
        ["192.0.2.12", "tcp/7946"],
        "node_address",
    ),
    (
        "UDP 4789 filtered where it arrives",
        Line(
            "n2",
            "nft add table inet mine; nft add chain inet mine in '{ type filter hook input priority 0 ; }'; nft add rule inet mine in udp dport 4789 drop",
            UNDO,
        ),
        ["red/b", "tcp/80"],
        "underlay_filtered",
    ),
    (
        "UDP 4789 filtered where it leaves",
        Line(
            "n1",
            "nft add table inet mine; nft add chain inet mine out '{ type filter hook output priority 0 ; }'; nft add rule inet mine out udp dport 4789 drop",
            UNDO,
        ),
        ["red/b", "tcp/80"],
        "underlay",
    ),
    (
        "UDP 4789 filtered on the way back",
        Line(
            "n1",
            "nft add table inet mine; nft add chain inet mine in '{ type filter hook input priority 0 ; }'; nft add rule inet mine in udp dport 4789 drop",
            UNDO,
        ),
        ["red/b", "tcp/80"],
        "underlay_filtered",
    ),
    (
        "an underlay that takes less than it says",
        Line(
            "n2",
            "nft add table inet mine; nft add chain inet mine in '{ type filter hook input priority 0 ; }'; nft add rule inet mine in udp dport 4789 meta length gt 1200 drop",
            UNDO,
        ),
        ["red/b", "tcp/80"],
        "mtu",
    ),
    (
        "the tunnel's device down",
        Often("n2", "ip link set weft-vxlan down"),
        ["red/b", "tcp/80"],
        "device_down",
    ),
    (
        "the sender's device down",
        Often("n1", "ip link set PORT down"),
        ["red/b", "tcp/80"],
        "device_down",
    ),
    (
        "the sender's program gone",
        Often("n1", "rm -f PINS/links/*"),
        ["red/b", "tcp/80"],
        "program_missing",
    ),
    (
        "no nodes in the sender's tables",
        Often("n1", "m=nodes"),
        ["red/b", "tcp/80"],
        "map_entry",
    ),
    (
        "no endpoints in the receiver's tables",
        Often("n2", "m=endpoints"),
        ["red/b", "tcp/80"],
        "map_entry",
    ),
    (
        "no tunnels in the receiver's tables",
        Often("n2", "m=vteps"),
        ["red/b", "tcp/80"],
        "map_entry",
    ),
    (
        "a forged Ethernet address",
        In("ip link set eth0 address 0a:00:00:00:00:66"),
        ["red/b", "tcp/80"],
        "spoofed",
    ),
    (
        "no route inside",
        In("ip route flush table main"),
        ["red/b", "tcp/80"],
        "not_sent",
    ),
    (
        "the receiver stopped",
        Line(
            "n1",
            "weft stop red/b",
            "weft run red/b --net red/front:10.10.200.2 --node n2 host -- /.weft function serve tcp/80 udp/9000",
        ),
        ["red/b", "tcp/80"],
        "receiver_stopped",
    ),
    (
        "the sender stopped",
        Line(
            "n1",
            "weft stop red/a",
            "weft run red/a --net red/front:10.10.200.1 --node n1 host -- sleep infinity",
        ),
        ["red/b", "tcp/80"],
        "sender_stopped",
    ),
];

fn why(lab: &Lab, [to, traffic]: [&str; 2]) -> Value {
    let line = ["weft", "trace", "why", "red/a", to, traffic, "--json"];
    last_object(&text(&lab.exec("n1", &line)))
}

/// A line as it is typed.
fn typed(lab: &Lab, node: &str, line: &str) -> String {
    let line = match line.strip_prefix("m=") {
        Some(map) => NO_MAP.replace("MAP", map),
        None => line.to_owned(),
    };
    let pins = lab.must(node, &["sh", "-c", "echo /sys/fs/bpf/weft/*"]);
    line.replace("PINS", pins.trim()).replace("PORT", PORT)
}

fn again_and_again(mut command: Command) -> Child {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("start it")
}

fn wait_arrives(lab: &Lab, what: &str) {
    wait_until(what, UP_WITHIN, || {
        (why(lab, ["red/b", "tcp/80"])["cause"] == "arrives").then_some(())
    });
}

#[test]
fn the_cause_of_twenty_faults_is_told() {
    let lab = Lab::up(SITE);
    wait_arrives(&lab, "a healthy flow arrives");
    let mut wrong = Vec::new();
    let mut judge = |name: &str, seen: &Value, cause: &str| {
        println!("{name}: {} ({})", seen["cause"], seen["says"]);
        if seen["cause"] != cause {
            wrong.push(format!("{name}: {seen} instead of {cause}"));
        }
        let help = seen["help"].as_str().unwrap_or_default();
        assert!(!help.is_empty(), "{name}: no next step in {seen}");
    };
    for (name, fault, flow, cause) in &FAULTS {
        let inside: Inside;
        let often = |line: &str| format!("while [ ! -e {STOP} ]; do {line}; sleep 0.01; done");
        let mut child = None;
        match fault {
            Nothing => {}
            Line(node, line, _) => drop(lab.must(node, &["sh", "-ec", line])),
            Often(node, line) => {
                let line = often(&typed(&lab, node, line));
                child = Some(again_and_again(lab.command(node, &["sh", "-c", &line])));
            }
            In(line) => {
                inside = lab.enter("red/a");
                child = Some(again_and_again(inside.command(&["sh", "-c", &often(line)])));
            }
        }
        // Until it holds: a container that was asked to stop takes its time, a loop begins a moment later.
        let mut seen = Value::Null;
        let holds = || {
            seen = why(&lab, *flow);
            (seen["cause"] != "arrives").then_some(())
        };
        wait_until(name, UP_WITHIN, holds);
        judge(name, &seen, cause);
        if let Some(mut child) = child {
            let flag = |line: &str| {
                if let Often(node, _) = fault {
                    lab.must(node, &["sh", "-c", &format!("{line} {STOP}")]);
                }
            };
            flag("touch");
            if let In(_) = fault {
                child.kill().expect("it runs");
            }
            child.wait().expect("it ends");
            flag("rm");
        }
        if let Line(node, _, undo) = fault {
            lab.must(node, &["sh", "-ec", undo]);
        }
        if !matches!(fault, Nothing) {
            wait_arrives(&lab, &format!("after {name}"));
        }
    }
    // The last one cannot be undone by a line: a machine falls silent.
    let agent = lab.agent("n3").expect("it runs");
    machine::signal(agent, "KILL");
    lab.must("n3", &["ip", "link", "set", "eth0", "down"]);
    let mut seen = Value::Null;
    wait_until("n3 is gone", UP_WITHIN, || {
        seen = why(&lab, ["red/c", "tcp/80"]);
        (seen["cause"] != "agent_silent").then_some(())
    });
    judge("a node that is gone", &seen, "node_gone");
    let (all, told) = (FAULTS.len() + 1, FAULTS.len() + 1 - wrong.len());
    println!("{told} of {all} causes told");
    assert!(told * 10 >= all * 9, "{wrong:#?}");
    lab.down();
}
