//! Links of their own instead of a segment: packets go around a link that is down.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::lab::{ROOT, UP_WITHIN, down, machine, text, unique, wait_until, weft};
use crate::machine::Traces;

const GONE: &str = include_str!("topologies/gone.toml");
const CUT: &str = include_str!("topologies/cut.toml");
const TRIANGLE: &str = include_str!("topologies/triangle.toml");

#[test]
fn a_triangle_survives_the_loss_of_a_side() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("triangle.toml");
    std::fs::write(&file, TRIANGLE).unwrap();
    let output = Command::new(weft())
        .args([
            "lab",
            "run",
            file.to_str().unwrap(),
            "--name",
            &unique("triangle"),
        ])
        .output()
        .expect("run weft");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("6 of 6 steps passed"), "{said}");
}

#[test]
fn nothing_of_a_killed_node_is_left_behind_the_relay() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gone.toml");
    std::fs::write(&file, GONE).unwrap();
    let name = unique("lf-gone");
    let before = Traces::now(&name);
    let output = Command::new(weft())
        .args(["lab", "run", file.to_str().unwrap(), "--name", &name])
        .output()
        .expect("run weft");
    let said = text(&output);
    assert!(said.contains("3 of 3 steps passed"), "{said}");
    assert_eq!(Traces::now(&name), before);
}

#[test]
fn a_lab_with_a_relay_that_was_killed_is_removed_whole() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gone.toml");
    std::fs::write(&file, GONE).unwrap();
    let name = unique("lf-relayed");
    let before = Traces::now(&name);
    let mut engine = Command::new(weft())
        .args(["lab", "up", file.to_str().unwrap(), "--name", &name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start weft");
    let journal = Path::new(ROOT).join(&name).join("journal");
    wait_until("the relay runs", UP_WITHIN, || {
        let lines = std::fs::read_to_string(&journal).ok()?;
        (lines.matches("(relay)").count() == 2).then_some(())
    });
    engine.kill().expect("kill the engine");
    engine.wait().expect("reap the engine");
    let output = down(&name);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(Traces::now(&name), before);
}

#[test]
fn a_one_way_cut_is_silence_until_it_is_taken_back_and_the_report_counts_it() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cut.toml");
    std::fs::write(&file, CUT).unwrap();
    let name = unique("cut-one-way");
    let before = Traces::now(&name);
    let output = Command::new(weft())
        .args(["lab", "run", file.to_str().unwrap(), "--name", &name])
        .current_dir(folder.path())
        .output()
        .expect("run weft");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("7 of 9 steps passed"), "{said}");
    for words in [
        "expected: an answer from red/b on tcp/80; seen: no answer",
        "expected: some frames of tcp/9 on link n1 to n2; seen: 0; look at: ",
        "link n1+n2, from n1: of ",
        " by a cut",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert!(!said.contains("from n2: of "), "{said}");
    let capture = folder.path().join("n1n2.pcapng");
    let capture = std::fs::read(capture).expect("the link's frames");
    // A section header block (pcapng, 4.1) and more than an empty file's blocks.
    assert!(capture.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) && capture.len() > 10_000);
    assert_eq!(Traces::now(&name), before);
}
