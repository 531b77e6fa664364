//! Links of their own instead of a segment: packets go around a link that is down.

use std::process::Command;

use crate::lab::{machine, text, unique, weft};

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
