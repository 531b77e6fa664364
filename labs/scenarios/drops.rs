//! `weft drops` says whose packets a node dropped: of which tenant's network, or of none.
//! Needs `ip` and `bash`.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Inside, Lab, UP_WITHIN, node_address, objects, wait_until};

const SITE: &str = r#"
[lab]
name = "drops"
[[node]]
name = "n"
count = 2
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
[[network]]
name = "blue/front"
cidr = "10.10.0.0/16"
[[container]]
name = "red/a"
node = "n1"
networks = ["red/front"]
command = ["sleep", "infinity"]
[[container]]
name = "blue/a"
node = "n2"
networks = ["blue/front"]
command = ["sleep", "infinity"]
"#;

/// Packets by node, whose they were and why.
fn dropped(said: &str, node: &str, tenant: Option<&str>, reason: &str) -> u64 {
    let of =
        |d: &&Value| d["node"] == node && d["tenant"].as_str() == tenant && d["reason"] == reason;
    let rows = objects(said);
    rows.iter()
        .filter(of)
        .filter_map(|d| d["packets"].as_u64())
        .sum()
}

#[test]
fn drops_are_told_by_tenant_and_those_of_none_as_the_nodes() {
    let lab = Lab::up(SITE);
    let all = || lab.must("n1", &["weft", "drops", "--json"]);
    let before = all();
    let count = |said: &str, node, tenant| dropped(said, node, tenant, "no_endpoint");
    // The same address of nobody, from two tenants on two nodes; each sends its own number.
    for (container, times) in [("red/a", "3"), ("blue/a", "5")] {
        let line = format!("for i in $(seq {times}); do echo x > /dev/udp/10.10.77.7/9000; done");
        lab.must(container, &["bash", "-c", &line]);
    }
    let mut now = String::new();
    wait_until("they are counted", UP_WITHIN, || {
        now = all();
        let red = count(&now, "n1", Some("red")) - count(&before, "n1", Some("red"));
        let blue = count(&now, "n2", Some("blue")) - count(&before, "n2", Some("blue"));
        (red == 3 && blue == 5).then_some(())
    });
    assert_eq!(count(&now, "n1", Some("blue")), 0, "{now}");
    assert_eq!(count(&now, "n2", Some("red")), 0, "{now}");
    // A tenant's alone.
    let red = lab.must("n1", &["weft", "drops", "red", "--json"]);
    assert!(objects(&red).iter().all(|d| d["tenant"] == "red"), "{red}");

    // What no node sent is of no tenant, whatever network it names; `--watch` tells what is added.
    let mut watch = lab.command("n1", &["weft", "drops", "--watch", "--json"]);
    let watch = watch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut watch = watch.expect("start it");
    let vni = objects(&lab.must("n1", &["weft", "network", "ls", "--json"]))
        .into_iter()
        .find(|n| n["name"] == "red/front")
        .and_then(|n| n["vni"].as_u64())
        .expect("its number");
    let (stranger, length) = match node_address(99 - 10) {
        address @ IpAddr::V4(_) => (address, 32),
        address @ IpAddr::V6(_) => (address, 128),
    };
    let address = format!("{stranger}/{length}");
    lab.must(
        "n2",
        &["ip", "addr", "add", &address, "dev", "eth0", "nodad"],
    );
    let unknown = |said: &str, tenant| dropped(said, "n1", tenant, "unknown_vtep");
    let before = unknown(&all(), None);
    let node = Inside {
        pid: lab.agent("n2").expect("it runs"),
    };
    let datagram = [
        &[8, 0, 0, 0, 0, (vni >> 8) as u8, vni as u8, 0][..],
        &[0; 60],
    ]
    .concat();
    node.run(|| {
        let socket = UdpSocket::bind((stranger, 0)).expect("its address");
        let to = (node_address(1), 4789);
        socket.send_to(&datagram, to).expect("it is sent");
    });
    wait_until("it is counted", Duration::from_secs(10), || {
        (unknown(&all(), None) == before + 1).then_some(())
    });
    assert_eq!(unknown(&all(), Some("red")), 0);
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let added = lines.next().expect("a line").expect("text");
    assert_eq!(unknown(&added, None), 1, "{added}");
    watch.kill().expect("it runs");
    watch.wait().expect("it ends");

    // A network that leaves the node takes its name along, not what was counted.
    lab.must("n1", &["weft", "rm", "red/a"]);
    wait_until("its drops are of one that is gone", UP_WITHIN, || {
        let rows = objects(&all());
        let mine = rows.iter().filter(|d| d["node"] == "n1");
        let mut gone = mine.filter(|d| d["of"] == "gone" && d["reason"] == "no_endpoint");
        gone.any(|d| d["packets"].as_u64() >= Some(3)).then_some(())
    });
    lab.down();
}
