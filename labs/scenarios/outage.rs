//! The datapath outlives the control plane.

use std::process::Child;
use std::time::Duration;

use crate::etcdctl::etcdctl;
use crate::lab::{Inside, Lab, PLAIN, UP_WITHIN, last_object, objects, text, wait_until};
use crate::machine;

/// Datagrams a second, and for how long.
const RATE: &str = "1000";
const SECONDS: &str = "20s";
/// When the agents are killed.
const KILL_AFTER: Duration = Duration::from_secs(5);
/// How long the documents are gone, in the other scenario: reconciling passes come every second.
const WIPED: &str = "8s";
/// How long they stay away: three lease periods of the lab file.
const AWAY: Duration = Duration::from_secs(6);

/// Datagrams to `address` from `from`'s network, each answered.
fn stream(from: &Inside, address: &str, duration: &str) -> Child {
    let line = ["function", "probe", "udp/9000", address, "--rate", RATE];
    from.spawn_weft(&[&line[..], &["--duration", duration]].concat())
}

#[test]
fn no_datagram_is_lost_while_both_agents_are_dead_for_three_leases() {
    let lab = Lab::up(PLAIN);
    let address = lab.address("red/b");
    // As a process in the container's own namespaces: an exec session ends with its agent.
    let a = lab.enter("red/a");
    let probe = stream(&a, &address, SECONDS);
    // The times of the scenario itself, not waits for something.
    std::thread::sleep(KILL_AFTER);
    let (first, third) = (lab.kill_agent("n1"), lab.kill_agent("n3"));
    std::thread::sleep(AWAY);
    lab.start_agent("n1", &first);
    lab.start_agent("n3", &third);
    let output = probe.wait_with_output().expect("the probe ends");
    let result = last_object(&text(&output));
    // Where a loss would be: in the sockets of the two processes, or on the way.
    let full = [&a, &lab.enter("red/b")].map(|side| side.counter("Udp", "RcvbufErrors"));
    assert_eq!(result["lost"], 0, "{result}; full sockets: {full:?}");
    assert!(
        result["sent"].as_u64().is_some_and(|sent| sent >= 19_000),
        "{result}"
    );
    lab.wait_ready("n1", 3);
    assert_eq!(lab.address("red/b"), address, "nothing is renumbered");
    lab.down();
}

#[test]
fn nothing_stops_when_somebody_deletes_every_document() {
    let lab = Lab::up(PLAIN);
    let address = lab.address("red/b");
    let a = lab.enter("red/a");
    let probe = stream(&a, &address, WIPED);
    let deleted = etcdctl(&lab, "n2", &["del", "--prefix", "/weft/v1/"]);
    assert!(deleted.status.success(), "{}", text(&deleted));
    for node in ["n1", "n2", "n3"] {
        wait_until(&format!("{node} refuses"), UP_WITHIN, || {
            let said = text(&lab.exec(node, &["weft", "status", "--json"]));
            let status = objects(&said).into_iter().next()?;
            let error = status["store_error"].as_str()?;
            error.contains("no cluster document").then_some(())
        });
    }
    // An agent that comes up now does not take the empty store for its cluster's.
    let args = lab.kill_agent("n3");
    lab.start_agent("n3", &args);
    wait_until("the new agent has ended", UP_WITHIN, || {
        let log = std::fs::read_to_string(lab.log("n3")).ok()?;
        (log.contains("but the store is empty") && lab.agent("n3").is_none()).then_some(())
    });
    let output = probe.wait_with_output().expect("the probe ends");
    let result = last_object(&text(&output));
    assert_eq!(result["lost"], 0, "{result}");
    assert!(machine::args(a.pid).is_some(), "red/a still runs");
    lab.down();
}
