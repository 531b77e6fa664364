//! A node hears of what concerns it: a change in a network that it is not in does not wake it.

use std::time::Duration;

use crate::lab::{Lab, last_object, wait_until};

const TWO_NETWORKS: &str = include_str!("topologies/two-networks.toml");
/// Containers that come and go beside the node.
const COUNT: u64 = 6;
/// A node is at rest when so many looks in a row find it as it was.
const AT_REST: u32 = 10;
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_node_is_not_woken_by_networks_that_it_is_not_in() {
    let lab = Lab::up(TWO_NETWORKS);
    for container in ["red/a", "red/b", "red/c"] {
        wait_running(&lab, container);
    }
    let (first, third) = (told(&lab, "n1"), told(&lab, "n3"));
    let name = |number: u64| format!("red/more{number}");
    for number in 0..COUNT {
        let node = ["n1", "n2"][number as usize % 2];
        run(&lab, &name(number), "red/front", node);
    }
    for number in 0..COUNT {
        wait_running(&lab, &name(number));
    }
    // What it hears not of, it can be asked for: from any node.
    let list = lab.must("n3", &["weft", "ps", "red", "--json"]);
    for number in 0..COUNT {
        assert!(list.contains(&name(number)), "{list}");
    }
    for number in 0..COUNT {
        lab.must("n1", &["weft", "rm", &name(number)]);
    }
    wait_until("all are gone", LONG, || {
        let list = lab.must("n1", &["weft", "endpoint", "ls", "red", "--json"]);
        (!list.contains("more")).then_some(())
    });
    assert_eq!(told(&lab, "n3"), third, "none of it concerns n3");
    let heard = told(&lab, "n1") - first;
    assert!(heard >= 2 * COUNT, "n1 is in the network: {heard}");

    // Once it is in the network, it hears of it; and what went before is there.
    run(&lab, "red/late", "red/front", "n3");
    wait_running(&lab, "red/late");
    let address = lab.address("red/a");
    wait_until("red/late reaches red/a", LONG, || {
        (lab.probe("red/late", "tcp/80", &address, &[])["ok"] == true).then_some(())
    });
    let before = told(&lab, "n3");
    run(&lab, "red/later", "red/front", "n1");
    wait_running(&lab, "red/later");
    assert!(told(&lab, "n3") > before);

    // So it is after a start of the agent.
    let args = lab.kill_agent("n3");
    lab.start_agent("n3", &args);
    lab.wait_ready("n3", 3);
    assert_eq!(
        lab.probe("red/late", "tcp/80", &address, &[])["ok"],
        true,
        "it is still in the network"
    );
    lab.down();
}

fn run(lab: &Lab, name: &str, network: &str, node: &str) {
    let line = [
        "weft", "run", name, "--net", network, "--node", node, "host", "--", "/.weft", "function",
        "serve", "tcp/80",
    ];
    lab.must("n1", &line);
}

fn wait_running(lab: &Lab, container: &str) {
    wait_until(&format!("{container} runs"), LONG, || {
        (lab.state_of(container)? == "running").then_some(())
    });
}

/// Changes of documents that a node was told of, when no more come.
fn told(lab: &Lab, node: &str) -> u64 {
    let ask = || {
        let status = lab.must(node, &["weft", "status", "--json"]);
        last_object(&status)["told"].as_u64().expect("a number")
    };
    let (mut last, mut same) = (ask(), 0);
    wait_until("the node comes to rest", LONG, || {
        let now = ask();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same == AT_REST).then_some(())
    });
    last
}
