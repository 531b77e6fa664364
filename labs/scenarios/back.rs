//! A trace shows what was observed, not what was intended. Needs `bpftool`.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, PLAIN, objects, text, wait_until};

/// The map, in the node that holds the receiver.
const MAP: &str = "/sys/fs/bpf/weft/n3/active/maps/endpoints";

#[test]
fn a_ladder_ends_where_a_map_entry_was_deleted_behind_the_agents_back() {
    let lab = Lab::up(PLAIN);
    let address = lab.address("red/b");
    wait_until("red/a reaches red/b", Duration::from_secs(10), || {
        (lab.probe("red/a", "tcp/80", &address, &[])["ok"] == true).then_some(())
    });
    let key = key_of(&lab, &address);

    // The agent repairs within a second, so it is deleted again and again while the packet goes.
    let script = format!(
        "end=$(($(date +%s) + 8)); while [ $(date +%s) -lt $end ]; do bpftool map delete pinned {MAP} key hex {key} 2>/dev/null; done"
    );
    let mut deleter = lab.spawn("n3", &["sh", "-c", &script]);
    let trace = lab.spawn(
        "n1",
        &[
            "weft",
            "trace",
            "live",
            "red/a",
            "red/b",
            "tcp/80",
            "--seconds",
            "6",
            "--json",
        ],
    );
    // Every probe within the trace's time will do.
    let mut trace = trace;
    while trace.try_wait().expect("the trace").is_none() {
        lab.probe("red/a", "tcp/80", &address, &["--timeout", "300ms"]);
    }
    let output = trace.wait_with_output().expect("the trace ends");
    deleter.wait().expect("the deleter ends");

    let seen: Vec<Value> = objects(&text(&output))
        .into_iter()
        .filter(|one| one["point"].is_string() && one["dst"] == address.as_str())
        .collect();
    let dropped = seen
        .iter()
        .find(|one| one["node"] == "n3" && one["point"] == "drop")
        .unwrap_or_else(|| panic!("no drop on n3: {}", text(&output)));
    assert_eq!(dropped["reason"], "no_endpoint");
    let same: Vec<&Value> = seen
        .iter()
        .filter(|o| o["identity"] == dropped["identity"])
        .collect();
    assert!(
        same.iter()
            .any(|o| o["point"] == "from_container" && o["node"] == "n1"),
        "{same:?}"
    );
    assert!(
        same.iter().all(|o| o["point"] != "to_container"),
        "{same:?}"
    );

    // And the agent repairs it by itself.
    wait_until("red/a reaches red/b again", Duration::from_secs(5), || {
        (lab.probe("red/a", "tcp/80", &address, &[])["ok"] == true).then_some(())
    });
    lab.down();
}

/// The key of an address in the map, as bpftool takes it: hex bytes.
fn key_of(lab: &Lab, address: &str) -> String {
    let dump = lab.exec("n3", &["bpftool", "-j", "map", "dump", "pinned", MAP]);
    let said = text(&dump);
    assert!(
        dump.status.success(),
        "bpftool is missing (package bpftool), or no map: {said}"
    );
    let last: Vec<String> = address
        .split('.')
        .map(|byte| format!("{:02x}", byte.parse::<u8>().expect("an IPv4 address")))
        .collect();
    objects(&said)
        .iter()
        .filter_map(|entry| entry["key"].as_array().cloned())
        .map(|key| {
            key.iter()
                .map(|byte| {
                    byte.as_str()
                        .unwrap_or_default()
                        .trim_start_matches("0x")
                        .to_owned()
                })
                .collect::<Vec<_>>()
        })
        .find(|key| key.ends_with(&last))
        .unwrap_or_else(|| panic!("{address} is not in {said}"))
        .join(" ")
}
