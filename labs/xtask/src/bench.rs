//! `cargo xtask bench NAME`: builds weft and `labs/bench` for release, and runs the latter.

use crate::stages::cargo;

/// Fails when a goal is missed.
pub fn run(words: &[String]) -> anyhow::Result<()> {
    cargo(&["build", "--quiet", "--release", "--package", "weft"])?;
    let mut arguments = vec![
        "run",
        "--quiet",
        "--release",
        "--package",
        "weft-bench",
        "--",
    ];
    arguments.extend(words.iter().map(String::as_str));
    cargo(&arguments)
}
