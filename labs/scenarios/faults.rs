//! What the underlay, the store and dead nodes do to networks: nothing that lasts, and nothing is renumbered. Needs `ip`.

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{
    Inside, Lab, UP_WITHIN, last_object, node_address, objects, over, overhead, six, text,
    wait_until,
};
use crate::machine;
use crate::standstill::command;

/// Two nodes, of which the first holds the store, and a container on each.
const TWO: &str = r#"
[lab]
name = "faults"
lease_ttl = "2s"
[[node]]
name = "n"
count = 2
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
cidr6 = "fd00:10::/48"
[[container]]
name = "red/a"
node = "n1"
networks = ["red/front"]
command = ["/.weft", "function", "serve", "tcp/80", "udp/9000"]
[[container]]
name = "red/b"
node = "n2"
networks = ["red/front"]
command = ["/.weft", "function", "serve", "tcp/80", "udp/9000"]
"#;
/// On the third node, which like the second has no part of the store.
const THIRD: &str = r#"
[[container]]
name = "red/c"
node = "n3"
networks = ["red/front"]
command = ["/.weft", "function", "serve", "tcp/80", "udp/9000"]
"#;
/// Ten lease periods.
const TEN_LEASES: Duration = Duration::from_secs(20);
const CONTAINERS: [&str; 3] = ["red/a", "red/b", "red/c"];

fn three_nodes() -> Lab {
    let lab = Lab::up(TWO);
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    let source = over(&(TWO.replace("count = 2", "count = 3") + THIRD));
    std::fs::write(file.path(), source).expect("write the file");
    let path = file.path().to_str().expect("a path");
    let grown = command(&["up", path, "--name", &lab.name]);
    assert!(grown.status.success(), "{}", text(&grown));
    lab
}

/// The addresses of all containers, by name.
fn addresses(lab: &Lab) -> Vec<Value> {
    let listed = objects(&lab.must("n1", &["weft", "ps", "--json"]));
    let of = |one: &Value| serde_json::json!([one["name"], one["addresses"]]);
    listed.iter().map(of).collect()
}

/// Each reaches each, with as much as one exchange may be.
fn wait_all(lab: &Lab) {
    let addresses = CONTAINERS.map(|container| lab.address(container));
    for from in CONTAINERS {
        for to in &addresses {
            wait_until(&format!("{from} reaches {to}"), UP_WITHIN, || {
                let more = ["--timeout", "1s", "--size", "100000"];
                (lab.probe(from, "tcp/80", to, &more)["ok"] == true).then_some(())
            });
        }
    }
}

fn wait_mtu(lab: &Lab, container: &str, wanted: usize) {
    wait_until(&format!("{container} has MTU {wanted}"), UP_WITHIN, || {
        let text = lab.must(container, &["cat", "/sys/class/net/eth0/mtu"]);
        (text.trim() == wanted.to_string()).then_some(())
    });
}

/// Datagrams from a container to an address, each answered: 500 a second.
fn stream(from: &Inside, address: &str, duration: &str) -> Child {
    let line = ["function", "probe", "udp/9000", address, "--rate", "500"];
    from.spawn_weft(&[&line[..], &["--duration", duration]].concat())
}

fn ended(stream: Child) -> Value {
    last_object(&text(&stream.wait_with_output().expect("the stream ends")))
}

#[test]
fn the_underlay_shrinks_grows_and_swaps_its_addresses() {
    let lab = three_nodes();
    let before = addresses(&lab);
    wait_all(&lab);

    // It shrinks under one node: that one's containers follow, and the others send it no more than it takes.
    lab.must("n3", &["ip", "link", "set", "eth0", "mtu", "1300"]);
    wait_mtu(&lab, "red/c", 1300 - overhead());
    wait_all(&lab);
    let (a, c) = (lab.enter("red/a"), lab.address("red/c"));
    wait_until("red/a is told what fits", UP_WITHIN, || {
        let fits = format!("mtu {}", 1300 - overhead());
        let large = ["--size", "1400", "--timeout", "500ms"];
        let answered = lab.probe("red/a", "udp/9000", &c, &large)["ok"] == true;
        let route = a.command(&["ip", "route", "get", &c]).output();
        let known = text(&route.expect("ip (package iproute2)"));
        (answered && known.contains(&fits)).then_some(())
    });
    lab.must("n3", &["ip", "link", "set", "eth0", "mtu", "1500"]);
    wait_mtu(&lab, "red/c", 1500 - overhead());
    wait_all(&lab);

    // Two nodes take each other's address, and their agents are told.
    let agents = ["n2", "n3"].map(|node| (node, lab.kill_agent(node)));
    let swap = [
        (
            "n2",
            node_address(2).to_string(),
            node_address(3).to_string(),
        ),
        (
            "n3",
            node_address(3).to_string(),
            node_address(2).to_string(),
        ),
    ];
    for (node, old, _) in &swap {
        let line = format!("ip -o addr show to {old} | grep -o '{old}/[0-9]*'");
        let net = lab.must(node, &["sh", "-c", &line]);
        lab.must(node, &["ip", "addr", "del", net.trim(), "dev", "eth0"]);
    }
    let (length, nodad) = if six() { (64, "nodad") } else { (24, "") };
    for (node, _, new) in &swap {
        let line = format!("ip addr add {new}/{length} dev eth0 {nodad}");
        lab.must(node, &["sh", "-c", &line]);
    }
    for (node, mut args) in agents {
        let (.., new) = swap.iter().find(|(n, ..)| *n == node).expect("it");
        let at = args
            .iter()
            .position(|arg| arg == "--advertise")
            .expect("said");
        args[at + 1].clone_from(new);
        lab.start_agent(node, &args);
    }
    wait_all(&lab);
    assert_eq!(addresses(&lab), before, "nothing is renumbered");
    lab.down();
}

#[test]
fn a_store_that_is_gone_for_ten_leases_stops_and_renumbers_nothing() {
    let lab = three_nodes();
    let before = addresses(&lab);
    wait_all(&lab);
    let (a, b, c) = (lab.enter("red/a"), lab.enter("red/b"), lab.enter("red/c"));
    let restarting = lab.address("red/c");
    let stream = stream(&b, &lab.address("red/a"), "22s");
    // The store is in the agent of n1.
    let agent = lab.kill_agent("n1");
    let begun = Instant::now();
    std::thread::sleep(TEN_LEASES / 2);
    // What ends is started again, with its address, by a node that has not heard of the store for long.
    machine::signal(c.pid, "KILL");
    wait_until("red/c has ended", UP_WITHIN, || {
        machine::has_ended(c.pid).then_some(())
    });
    wait_until("red/c runs again", UP_WITHIN, || {
        let line = [
            "function",
            "probe",
            "tcp/80",
            &restarting,
            "--timeout",
            "300ms",
        ];
        (ended(b.spawn_weft(&line))["ok"] == true).then_some(())
    });
    std::thread::sleep(TEN_LEASES.saturating_sub(begun.elapsed()));
    lab.start_agent("n1", &agent);
    lab.wait_ready("n1", 3);
    let result = ended(stream);
    assert_eq!(result["lost"], 0, "{result}");
    for (name, old) in [("red/a", a), ("red/b", b)] {
        assert_eq!(lab.enter(name).pid, old.pid, "{name} runs on");
    }
    assert_eq!(addresses(&lab), before, "nothing is renumbered");
    wait_all(&lab);

    // A node and all on it are dead past its lease; its subnet waits for it, and it comes back with what it had.
    let c = lab.enter("red/c");
    let agent = lab.kill_agent("n3");
    machine::signal(c.pid, "KILL");
    wait_until("n3 counts as dead", UP_WITHIN, || {
        let status = objects(&lab.must("n1", &["weft", "status", "--json"]));
        let nodes = status[0]["nodes"].as_array()?;
        let n3 = nodes.iter().find(|node| node["name"] == "n3")?;
        (n3["alive"] == false).then_some(())
    });
    lab.start_agent("n3", &agent);
    wait_all(&lab);
    assert_eq!(addresses(&lab), before, "it has what it had");
    lab.down();
}
