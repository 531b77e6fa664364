//! The main job: the built-in topology passes as a whole, alone and five at a time, and leaves nothing.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::{machine, objects, text, unique, weft};
use crate::machine::Traces;

/// What `weft lab run two-tenants --json` says, on any backend.
const REPORT: &str = include_str!("topologies/two-tenants.report");

#[test]
fn two_tenants_passes_and_leaves_nothing() {
    two_tenants("main", &[]);
}

/// The main job with these further arguments. Whatever carries the nodes, the report is the same.
pub fn two_tenants(stem: &str, more: &[&str]) {
    let _machine = machine();
    let name = unique(stem);
    let before = Traces::now(&name);
    let output = Command::new(weft())
        .args(["lab", "run", "two-tenants", "--json", "--name", &name])
        .args(more)
        .output()
        .expect("run weft");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let report = objects(&String::from_utf8_lossy(&output.stdout));
    let ladder = report.iter().find_map(|object| object["ladder"].as_str());
    for words in ["into hop", "delivered to red/front/web1"] {
        assert!(
            ladder.is_some_and(|text| text.contains(words)),
            "{words}: {said}"
        );
    }
    let facts: Vec<Value> = report.into_iter().filter_map(fact).collect();
    assert_eq!(facts, objects(REPORT), "{said}");
    assert_eq!(Traces::now(&name), before);
}

/// A line of a report without what must differ from run to run and from backend to backend: the lab's name, times,
/// how often a packet was sent again, the ladder's own times; and what links did, which only links that pass the relay
/// can tell.
fn fact(mut object: Value) -> Option<Value> {
    let fields = object.as_object_mut().expect("an object a line");
    if fields.contains_key("link") {
        return None;
    }
    fields.remove("lab").expect("each line names its lab");
    fields.remove("ms");
    if let Some(ladder) = fields.get_mut("ladder") {
        *ladder = "shown".into();
    }
    if let Some(Value::String(seen)) = fields.get_mut("seen")
        && let Some((before, after)) = seen.split_once("denied ")
    {
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        *seen = format!("{before}denied N{after}");
    }
    Some(object)
}

#[test]
fn five_labs_at_the_same_time_do_not_meet() {
    let _machine = machine();
    let runs: Vec<_> = (0..5)
        .map(|_| {
            let name = unique("five");
            let child = Command::new(weft())
                .args(["lab", "run", "two-tenants", "--name", &name])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("start weft");
            (name, child)
        })
        .collect();
    let ended: Vec<_> = runs
        .into_iter()
        .map(|(name, child)| (name, child.wait_with_output().expect("wait for weft")))
        .collect();
    for (name, output) in ended {
        assert!(output.status.success(), "{name}: {}", text(&output));
        assert!(Traces::now(&name).processes.is_empty());
    }
}
