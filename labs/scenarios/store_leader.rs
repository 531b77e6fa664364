//! Losing the store's leader again and again loses nothing that was acknowledged.

use std::time::{Duration, Instant};

use crate::lab::{Lab, PLAIN, UP_WITHIN, objects, text, wait_until};

/// How often the leader is killed.
const KILLS: usize = 20;
/// A write that begins right after the kill must be done within.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn a_write_succeeds_within_five_seconds_of_each_of_twenty_kills_and_none_is_lost() {
    let lab = Lab::up(PLAIN);
    let mut slowest = Duration::ZERO;
    for round in 0..KILLS {
        let leader = leader(&lab);
        let other = NODES
            .into_iter()
            .find(|node| *node != leader)
            .expect("another node");
        let args = lab.kill_agent(leader);
        let begun = Instant::now();
        let (name, cidr) = (
            format!("red/round{round}"),
            format!("10.{}.0.0/16", 100 + round),
        );
        let output = lab.exec(
            other,
            &["weft", "network", "create", &name, "--cidr", &cidr],
        );
        let took = begun.elapsed();
        assert!(
            output.status.success(),
            "round {round}, {leader} killed: {}",
            text(&output)
        );
        assert!(took < WRITE_WITHIN, "round {round}: {took:?}");
        slowest = slowest.max(took);
        lab.start_agent(leader, &args);
        lab.wait_ready(leader, 3);
    }
    let listed = lab.must("n1", &["weft", "network", "ls", "--json"]);
    let names: Vec<String> = objects(&listed)
        .iter()
        .filter_map(|one| one["name"].as_str().map(str::to_owned))
        .collect();
    for round in 0..KILLS {
        let name = format!("red/round{round}");
        assert!(names.contains(&name), "{name} is lost: {names:?}");
    }
    println!("slowest write after a kill: {slowest:?}");
    lab.down();
}

/// The node whose store member leads, by the stock client's word.
fn leader(lab: &Lab) -> &'static str {
    wait_until("the store has a leader", UP_WITHIN, || {
        NODES.into_iter().find(|node| {
            let output = crate::etcdctl::etcdctl(lab, node, &["endpoint", "status", "-w", "json"]);
            objects(&text(&output)).iter().any(|one| {
                let status = &one["Status"];
                let own = &status["header"]["member_id"];
                !own.is_null() && *own == status["leader"]
            })
        })
    })
}

#[test]
fn a_node_whose_store_is_lost_comes_back_by_the_word_of_its_operator() {
    let lab = Lab::up(PLAIN);
    lab.must(
        "n1",
        &[
            "weft",
            "network",
            "create",
            "green/kept",
            "--cidr",
            "10.9.0.0/16",
        ],
    );
    let args = lab.kill_agent("n2");
    std::fs::remove_dir_all(lab.state("n2").join("store")).expect("lose the store of n2");

    // By itself it does not come back: it could vote away what it had acknowledged.
    lab.start_agent("n2", &args);
    wait_until("n2 is refused", UP_WITHIN, || {
        let log = std::fs::read_to_string(lab.log("n2")).ok()?;
        let said = log.contains("is gone") && log.contains("--initial-cluster-state existing");
        (said && lab.agent("n2").is_none()).then_some(())
    });
    let words = ["--initial-cluster-state", "existing"].map(str::to_owned);
    lab.start_agent("n2", &[args, words.to_vec()].concat());
    lab.wait_ready("n2", 3);

    // And it counts again: with another member gone, two make a majority.
    lab.kill_agent("n3");
    let listed = lab.must("n2", &["weft", "network", "show", "green/kept", "--json"]);
    assert!(listed.contains("10.9.0.0/16"), "{listed}");
    wait_until("a write with the returned member", UP_WITHIN, || {
        let line = [
            "weft",
            "network",
            "create",
            "green/new",
            "--cidr",
            "10.8.0.0/16",
        ];
        lab.exec("n2", &line).status.success().then_some(())
    });
    lab.down();
}
