//! Bad input: each mistake is told with subject, cause and next step, and the exit code of the design.

use std::process::Command;

use crate::lab::{Lab, PLAIN, machine, text, unique, weft};

/// Runs `weft`: exit code and what it said.
fn said(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(weft()).args(args).output().expect("run weft");
    (output.status.code(), text(&output))
}

#[test]
fn a_second_lab_of_the_same_name_is_refused() {
    let lab = Lab::up(PLAIN);
    let (code, text) = said(&["lab", "run", "two-tenants", "--name", &lab.name]);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains(&lab.name) && text.contains("weft lab down"),
        "{text}"
    );
    lab.down();
}

#[test]
fn unknown_labs_and_topologies_are_not_found() {
    let (code, text) = said(&["lab", "down", &unique("nobody")]);
    assert_eq!(code, Some(3), "{text}");
    let (code, text) = said(&["lab", "run", "no-such-topology"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("two-tenants"), "{text}");
}

#[test]
fn mistakes_in_a_lab_file_name_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    let bad = PLAIN
        .replace("cidr = \"10.10.0.0/16\"", "cidr = \"10.10.0.0/31\"")
        .replace("lease_ttl", "lease_tll");
    std::fs::write(&file, bad).unwrap();
    let (code, text) = said(&["lab", "up", file.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{text}");
    // The report is wrapped to a width.
    let text = text.replace("\n  │ ", " ");
    for words in [
        "bad.toml:4",
        "lease_tll",
        "the smallest range is a /28",
        "bad.toml:12",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_lab_that_does_not_fit_into_memory_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("large.toml");
    let large = "[lab]\nname = \"large\"\nbackend = \"qemu\"\n[[node]]\nname = \"n\"\ncount = 2\nmemory = \"4000G\"\n";
    std::fs::write(&file, large).unwrap();
    let name = unique("large");
    let (code, text) = said(&["lab", "up", file.to_str().unwrap(), "--name", &name]);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("it needs 8192000 MiB (the memory of 2 machines)"),
        "{text}"
    );
    let (code, text) = said(&["lab", "inspect", &name]);
    assert_eq!(code, Some(3), "{text}");
}

#[test]
fn an_unknown_tenant_in_a_chain_and_a_missing_image_are_told() {
    let lab = Lab::up(PLAIN);
    let dir = tempfile::tempdir().unwrap();
    let chain = include_str!("../topologies/web-guard.toml").replace("\"red\"", "\"green\"");
    std::fs::write(dir.path().join("guard.toml"), chain).unwrap();
    let site = dir.path().join("site.toml");
    std::fs::write(&site, "[[chain]]\nfile = \"guard.toml\"\n").unwrap();
    let socket = format!("unix:/var/lib/weft/labs/{}/n1/weft.sock", lab.name);
    let (code, text) = said(&["--host", &socket, "apply", "-f", site.to_str().unwrap()]);
    assert!(matches!(code, Some(2 | 3)), "{code:?} {text}");
    assert!(text.contains("green"), "{text}");

    let line = [
        "--host",
        &socket,
        "run",
        "red/c",
        "--net",
        "red/front",
        "oci:/nowhere",
        "--",
        "x",
    ];
    let (code, text) = said(&line);
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains("oci:/nowhere"), "{text}");
    lab.down();
}

#[test]
fn a_step_that_does_not_hold_fails_the_run_and_says_what_was_seen() {
    let _machine = machine();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fails.toml");
    let step = "\n[[step]]\nreach = { from = \"red/a\", to = \"red/b\", traffic = \"tcp/81\" }\nwithin = \"1s\"\n";
    std::fs::write(&file, format!("{PLAIN}{step}")).unwrap();
    let name = unique("fails");
    let (code, text) = said(&["lab", "run", file.to_str().unwrap(), "--name", &name]);
    assert_eq!(code, Some(1), "{text}");
    for words in [
        "0 of 1 steps passed",
        "expected: an answer",
        "seen: no answer",
        &format!("fails.toml:{}", PLAIN.lines().count() + 2),
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (code, text) = said(&["lab", "down", &name]);
    assert_eq!(code, Some(3), "it took itself down: {text}");
}
