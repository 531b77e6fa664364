//! A lab whose engine is killed at any moment is found and removed by `weft lab down`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::lab::{ROOT, UP_WITHIN, down, machine, text, unique, wait_until, weft};
use crate::machine::{self, Traces};

/// Kills `weft lab up` when its journal has this many lines with `word`, then takes the lab down.
fn killed_when(word: &str, count: usize) {
    let _machine = machine();
    let name = unique("crash");
    let before = Traces::now(&name);
    let namespaces = machine::namespaces();
    let mut engine = Command::new(weft())
        .args(["lab", "up", "two-tenants", "--name", &name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start weft");
    let journal = Path::new(ROOT).join(&name).join("journal");
    wait_until(
        &format!("{count} times {word} in the journal"),
        UP_WITHIN,
        || {
            let lines = std::fs::read_to_string(&journal).ok()?;
            (lines.matches(word).count() >= count).then_some(())
        },
    );
    engine.kill().expect("kill the engine");
    engine.wait().expect("reap the engine");
    assert!(Path::new(ROOT).join(&name).is_dir(), "the journal stays");
    let made: Vec<String> = machine::namespaces()
        .difference(&namespaces)
        .cloned()
        .collect();

    let output = down(&name);
    assert!(output.status.success(), "weft lab down: {}", text(&output));
    assert_eq!(Traces::now(&name), before);
    // The lab's namespaces have no process left; what other programs made meanwhile is theirs.
    wait_until(
        "the lab's namespaces are gone",
        Duration::from_secs(5),
        || {
            let now = machine::namespaces();
            (!made
                .iter()
                .any(|namespace| now.contains(namespace) && is_of_a_lab(namespace)))
            .then_some(())
        },
    );
}

/// Whether a process of weft is in it.
fn is_of_a_lab(namespace: &str) -> bool {
    machine::process_in(namespace)
        .and_then(machine::args)
        .is_some_and(|args| args.iter().any(|arg| arg == "lab-holder" || arg == "shim"))
}

#[test]
fn killed_while_the_hosts_are_made() {
    killed_when("\"started\"", 2);
}

#[test]
fn killed_when_the_first_agents_run() {
    killed_when("\"agent\"", 2);
}

#[test]
fn killed_when_it_is_up() {
    killed_when("\"up\"", 1);
}

/// Ctrl-C: the engine itself takes down what it has begun.
#[test]
fn an_interrupted_lab_takes_itself_down() {
    let _machine = machine();
    let name = unique("interrupt");
    let before = Traces::now(&name);
    let engine = Command::new(weft())
        .args(["lab", "run", "two-tenants", "--name", &name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start weft");
    let journal = Path::new(ROOT).join(&name).join("journal");
    wait_until("the agents are started", UP_WITHIN, || {
        let lines = std::fs::read_to_string(&journal).ok()?;
        (lines.matches("\"agent\"").count() == 3).then_some(())
    });
    machine::signal(engine.id() as i32, "INT");
    let output = engine.wait_with_output().expect("wait for weft");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("interrupted"), "{}", text(&output));
    assert_eq!(Traces::now(&name), before);
}
