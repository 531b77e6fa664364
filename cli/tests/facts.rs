//! What the binary prints of facts: help, completions, doctor, ladders from a file. Needs no agent.

use std::process::{Command, Output};

fn weft(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .expect("weft can be started")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Two nodes; the second reported nothing.
const LINES: &str = r#"{"listening":["n1","n2"],"problems":[]}
{"node":"n1","time":1000,"identity":9,"point":"from_container","vni":7,"network":"red/front","src":"10.10.0.2","dst":"10.10.1.2","proto":6,"sport":4000,"dport":80,"tcp_flags":2,"len":74,"endpoint":"red/front/a"}
{"node":"n1","time":2500,"identity":9,"point":"encap","vni":7,"network":"red/front","src":"10.10.0.2","dst":"10.10.1.2","proto":6,"sport":4000,"dport":80,"tcp_flags":2,"len":74,"peer":"n2"}
"#;

#[test]
fn observations_from_a_file_become_a_ladder_that_marks_what_is_missing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("trace.json");
    std::fs::write(&path, LINES).expect("a file");
    let output = weft(&["trace", "render", &path.display().to_string()]);
    let text = out(&output);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for words in [
        "10.10.0.2:4000 > 10.10.1.2:80",
        "red/front/a",
        "missing",
        "n2",
    ] {
        assert!(text.contains(words), "{words:?}:\n{text}");
    }
    assert!(!text.contains("delivered"), "{text}");
    assert!(
        !text.contains('\u{1b}'),
        "no colours but on a terminal: {text:?}"
    );
}

#[test]
fn doctor_tells_every_feature_as_json() {
    let output = weft(&["doctor", "--json"]);
    let text = out(&output);
    let facts: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let named = |name: &str| facts.iter().find(|fact| fact["name"] == name);
    for name in [
        "root",
        "linux-6.1",
        "bpf-tc",
        "tcx",
        "btf",
        "vxlan",
        "user-namespaces",
        "ports",
    ] {
        assert!(
            named(name).is_some_and(|f| f["present"].is_boolean()),
            "{name}: {text}"
        );
    }
    let missing = facts
        .iter()
        .any(|f| f["required"] == true && f["present"] == false);
    assert_eq!(output.status.code(), Some(i32::from(missing)), "{text}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = weft(&["completions", shell]);
        assert!(output.status.success());
        assert!(out(&output).contains("network"), "{shell}");
    }
}

#[test]
fn help_names_no_command_that_is_hidden() {
    let output = weft(&["--help"]);
    let text = out(&output);
    for command in [
        "node", "store", "apply", "network", "chain", "trace", "drops", "lab", "doctor",
    ] {
        assert!(
            text.contains(&format!("\n  {command}")),
            "{command}:\n{text}"
        );
    }
    for hidden in ["shim", "lab-holder", "lab-enter"] {
        assert!(!text.contains(hidden), "{hidden}:\n{text}");
    }
}

/// `weft ... | head -1`: the reader goes away, and nobody panics.
#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("weft can be started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("weft ends");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!err.contains("panicked"), "{err}");
}
