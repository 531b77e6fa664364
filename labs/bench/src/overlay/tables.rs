//! What the program on a container's interface takes with many entries in its tables. A program of `ebpf` measures it by
//! `BPF_PROG_TEST_RUN`, for nobody else may fill those tables; here it is built, started and read.

use std::process::Command;

use anyhow::{Context, bail};

use crate::row::{Goal, Row, against, beside};

/// Nanoseconds more than with one entry, at most.
const MORE: f64 = 100.0;

/// One row for what a packet takes beside one entry, one for how much more that is.
pub fn rows(rounds: usize) -> anyhow::Result<Vec<Row>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = "bench --quiet --package weft-ebpf --features test-util --bench tables --";
    let output = Command::new(cargo)
        .args(words.split(' '))
        .arg(rounds.to_string())
        .output()
        .context("cargo cannot be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("cargo {words}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let lines: Vec<Vec<f64>> = said.lines().filter_map(numbers).collect();
    let [one, thousand, all] = lines.as_slice() else {
        bail!("three lines of figures were to come, not: {said}");
    };
    let mut rows = Vec::new();
    for (case, many) in [("tables 1,000", thousand), ("tables 100,000", all)] {
        let (many, one) = (&many[1..], &one[1..]);
        let title = |metric| ("overlay", case, metric, "ns");
        rows.push(beside(title("bpf_time"), many, one, "1 entry"));
        let more: Vec<f64> = many.iter().zip(one).map(|(many, one)| many - one).collect();
        rows.push(against(title("bpf_added"), &more, Goal::AtMost(MORE)));
    }
    Ok(rows)
}

/// The number of entries, then nanoseconds.
fn numbers(line: &str) -> Option<Vec<f64>> {
    let words = line.split_whitespace();
    let found: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
    found.filter(|found| found.len() > 1)
}
