//! What `weft doctor underlay` says of ways between nodes: well, filtered in one direction, too small, and while the store and
//! an agent are gone. Needs `nft`.

use std::process::Output;

use serde_json::Value;

use crate::lab::{Lab, UP_WITHIN, node_address, objects, text, wait_until};
use crate::machine;

const SITE: &str = r#"
[lab]
name = "doctor"
[[node]]
name = "n"
count = 3
"#;

fn doctor(lab: &Lab) -> Output {
    lab.exec("n1", &["weft", "doctor", "underlay", "--json"])
}

/// What there is of a kind.
fn of<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|one| one["kind"] == kind).collect()
}

/// Verdict and bytes of each way, `n1 > n2: ok 1500`.
fn ways(all: &[Value]) -> Vec<String> {
    let one = |way: &&Value| {
        let word = |key: &str| way[key].as_str().expect("a word").to_owned();
        let (from, to, verdict) = (word("from"), word("to"), word("verdict"));
        format!("{from} > {to}: {verdict} {}", way["takes"])
    };
    of(all, "way").iter().map(one).collect()
}

fn findings(all: &[Value]) -> Vec<(String, String, String)> {
    let word = |one: &Value, key: &str| one[key].as_str().expect("a word").to_owned();
    of(all, "finding")
        .into_iter()
        .map(|one| (word(one, "subject"), word(one, "says"), word(one, "help")))
        .collect()
}

/// Asks; exit code 1 and findings come together.
fn asked(lab: &Lab) -> Vec<Value> {
    let output = doctor(lab);
    let all = objects(&text(&output));
    let found = !findings(&all).is_empty();
    assert_eq!(
        output.status.code(),
        Some(i32::from(found)),
        "{}",
        text(&output)
    );
    all
}

const WELL: [&str; 6] = [
    "n1 > n2: ok 1500",
    "n1 > n3: ok 1500",
    "n2 > n1: ok 1500",
    "n2 > n3: ok 1500",
    "n3 > n1: ok 1500",
    "n3 > n2: ok 1500",
];

/// All well, but these ways.
fn but(different: &[(usize, &str)]) -> Vec<String> {
    let mut ways = WELL.map(str::to_owned).to_vec();
    for (at, way) in different {
        ways[*at] = (*way).to_owned();
    }
    ways
}

#[test]
fn the_ways_between_nodes_are_told_each_direction_by_itself() {
    let lab = Lab::up(SITE);
    let all = asked(&lab);
    assert_eq!(ways(&all), WELL, "{all:#?}");
    assert_eq!(findings(&all), []);
    for way in of(&all, "way") {
        let trip = way["round_trip"].as_u64().expect("it was answered");
        assert!(trip > 0 && trip < 1_000_000_000, "{way}");
        // One machine, one clock: what was measured must lie within what it says of itself.
        let (ahead, within) = (&way["clock"]["ahead"], &way["clock"]["within"]);
        let ahead = ahead.as_i64().expect("a clock").unsigned_abs();
        assert!(ahead <= within.as_u64().expect("a clock"), "{way}");
    }
    let table = lab.must("n2", &["weft", "doctor", "underlay"]);
    assert!(table.contains("Tunnels pass between all nodes."), "{table}");

    // A rule on n2 about what comes from n1: the way back is well.
    let family = if node_address(1).is_ipv4() {
        "ip"
    } else {
        "ip6"
    };
    let rules = |node: &str, hook: &str, rule: &str| {
        let lines = format!(
            "nft add table inet mine; nft add chain inet mine c '{{ type filter hook {hook} priority 0 ; }}'; nft add rule inet mine c {rule}"
        );
        lab.must(node, &["sh", "-ec", &lines]);
    };
    let undo = |node: &str| lab.must(node, &["nft", "delete", "table", "inet", "mine"]);
    let from_n1 = format!("{family} saddr {} udp dport 4789", node_address(1));
    rules("n2", "input", &format!("{from_n1} drop"));
    let all = asked(&lab);
    assert_eq!(ways(&all), but(&[(0, "n1 > n2: lost 0")]), "{all:#?}");
    let [(subject, says, help)] = &findings(&all)[..] else {
        panic!("one finding: {all:#?}");
    };
    assert_eq!(subject, "n1 > n2");
    assert!(
        says.contains("does not arrive, and a packet filter of n2"),
        "{says}"
    );
    assert!(help.contains(&node_address(1).to_string()), "{help}");
    undo("n2");

    // A rule where it leaves.
    rules("n3", "output", "udp dport 4789 drop");
    let all = asked(&lab);
    let lost = but(&[(4, "n3 > n1: lost 0"), (5, "n3 > n2: lost 0")]);
    assert_eq!(ways(&all), lost, "{all:#?}");
    let found = findings(&all);
    assert!(
        found
            .iter()
            .all(|(_, says, _)| says.contains("n3's own packet filter")),
        "{found:?}"
    );
    undo("n3");

    // A way that takes less than both ends say, in one direction.
    rules(
        "n2",
        "input",
        &format!("{from_n1} meta length gt 1372 drop"),
    );
    let all = asked(&lab);
    assert_eq!(
        ways(&all),
        but(&[(0, "n1 > n2: too_small 1372")]),
        "{all:#?}"
    );
    assert_eq!(findings(&all)[0].1, "takes only 1,372 of 1,500 bytes");
    undo("n2");

    // A way that loses every fourth packet.
    let fourth = format!("{from_n1} numgen inc mod 4 0 drop");
    rules("n2", "input", &fourth);
    let all = asked(&lab);
    assert_eq!(ways(&all), but(&[(0, "n1 > n2: lossy 1500")]), "{all:#?}");
    let says = &findings(&all)[0].1;
    assert!(
        says.starts_with("loses ") && says.ends_with(" of 40 packets"),
        "{says}"
    );
    undo("n2");
    assert_eq!(ways(&asked(&lab)), WELL);
    lab.down();
}

#[test]
fn it_works_while_the_store_is_down_and_tells_what_agents_are_silent() {
    let lab = Lab::up(SITE);
    // Two of three members: nobody has a majority any more.
    for node in ["n2", "n3"] {
        let agent = lab.agent(node).expect("it runs");
        machine::signal(agent, "KILL");
    }
    let mut all = Vec::new();
    wait_until("the store is seen to be down", UP_WITHIN, || {
        all = asked(&lab);
        (of(&all, "store").len() == 1).then_some(())
    });
    // Their kernels answer.
    let expected = [
        "n1 > n2: ok 1500",
        "n1 > n3: ok 1500",
        "n2 > n1: not_probed 0",
        "n2 > n3: not_probed 0",
        "n3 > n1: not_probed 0",
        "n3 > n2: not_probed 0",
    ];
    assert_eq!(ways(&all), expected, "{all:#?}");
    let found = findings(&all);
    let silent: Vec<&str> = found
        .iter()
        .map(|(subject, _, _)| subject.as_str())
        .collect();
    assert_eq!(silent, ["n2", "n3"], "{found:?}");
    assert!(
        found[0].1.contains("its agent does not answer"),
        "{found:?}"
    );
    lab.must("n3", &["ip", "link", "set", "eth0", "down"]);
    let all = asked(&lab);
    assert_eq!(
        ways(&all)[..2],
        ["n1 > n2: ok 1500", "n1 > n3: no_answer 0"],
        "{all:#?}"
    );
    lab.down();
}

#[test]
fn a_link_that_is_slow_and_takes_less_one_way() {
    let lab = Lab::up(
        r#"
[lab]
name = "doctor"
[[node]]
name = "n"
count = 2
[[link]]
between = ["n1", "n2"]
delay = "30ms"
from.n1.mtu = 1372
"#,
    );
    let all = asked(&lab);
    let expected = ["n1 > n2: too_small 1372", "n2 > n1: ok 1500"];
    assert_eq!(ways(&all), expected, "{all:#?}");
    let help = &findings(&all)[0].2;
    assert!(help.contains("MTU 1372"), "{help}");
    for way in of(&all, "way") {
        let trip = way["round_trip"].as_u64().expect("it was answered");
        assert!(trip >= 60_000_000, "there and back: {way}");
    }
    lab.down();
}
