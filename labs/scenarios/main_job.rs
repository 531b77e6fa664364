//! The main job: the built-in topology passes as a whole, alone and five at a time, and leaves nothing.

use std::process::{Command, Stdio};

use crate::lab::{machine, text, unique, weft};
use crate::machine::Traces;

#[test]
fn two_tenants_passes_and_leaves_nothing() {
    two_tenants("main", &[]);
}

/// The main job with these further arguments.
pub fn two_tenants(stem: &str, more: &[&str]) {
    let _machine = machine();
    let name = unique(stem);
    let before = Traces::now(&name);
    let output = Command::new(weft())
        .args(["lab", "run", "two-tenants", "--name", &name])
        .args(more)
        .output()
        .expect("run weft");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for words in [
        "6 of 6 steps passed",
        "into hop",
        "delivered to red/front/web1",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(Traces::now(&name), before);
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
