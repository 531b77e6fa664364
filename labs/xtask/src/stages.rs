//! The stages of `cargo xtask test`, in the order of what fails soonest. Each is a process; what `cargo
//! test` says of itself is counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::{bpf, needs, root, tidy};

/// What ran.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    lines: Vec<String>,
}

/// Formatting and lints.
pub fn lint() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

/// Everything that CI runs; `fast` leaves out the lab.
pub fn test(yes: bool, fast: bool) -> anyhow::Result<()> {
    needs::install(yes)?;
    let mut tally = Tally::default();
    let begun = Instant::now();
    let done = stages(fast, &mut tally);
    println!("\n{:<44} {:>8}", "stage", "seconds");
    tally.lines.iter().for_each(|line| println!("{line}"));
    println!("{:<44} {:>8.1}", "all", begun.elapsed().as_secs_f64());
    if done.is_err() && tally.failed == 0 {
        tally.failed = 1;
    }
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    done
}

fn stages(fast: bool, tally: &mut Tally) -> anyhow::Result<()> {
    tally.stage("formatting and lints", |_| lint())?;
    tally.stage("tidy", |_| tidy::run())?;
    tally.stage("unit, property and namespace tests", |tally| {
        tests(tally, &["test", "--workspace", "--exclude", "weft-labs"])?;
        tests(tally, &["test", "--package", "weft-labs", "--lib"])
    })?;
    if bpf::can_build() {
        tally.stage("rebuild of ebpf/prebuilt", |_| bpf::run(true))?;
    } else {
        println!(
            "no BPF toolchain here: ebpf/prebuilt was checked by the hashes of its manifest only"
        );
    }
    if fast {
        return Ok(());
    }
    tally.stage("release build", |_| cargo(&["build", "--release"]))?;
    tally.stage("kernel for virtual machines", |_| {
        // Brought once by the distribution's own client, then kept in the user's cache.
        weft(&["lab", "kernel"])
    })?;
    tally.stage("main job: weft lab run two-tenants", |tally| {
        let done = weft(&["lab", "run", "two-tenants", "--name", "xtask"]);
        match done {
            Ok(()) => tally.passed += 1,
            Err(_) => tally.failed += 1,
        }
        done
    })?;
    tally.stage("scenarios", |tally| {
        tests(
            tally,
            &[
                "test",
                "--package",
                "weft-labs",
                "--test",
                "scenarios",
                "--",
                "--test-threads",
                "1",
            ],
        )
    })
}

impl Tally {
    fn stage(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Tally) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        println!("\n== {name}");
        let begun = Instant::now();
        let done = work(self);
        let mark = if done.is_ok() { "" } else { "  FAILED" };
        self.lines.push(format!(
            "{name:<44} {:>8.1}{mark}",
            begun.elapsed().as_secs_f64()
        ));
        done.with_context(|| name.to_owned())
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

pub fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let status = command(arguments)
        .status()
        .context("cargo cannot be started")?;
    if !status.success() {
        bail!("cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}

/// Runs the release build of weft.
fn weft(arguments: &[&str]) -> anyhow::Result<()> {
    let weft = root().join("target/release/weft");
    let status = Command::new(&weft)
        .args(arguments)
        .status()
        .with_context(|| format!("{} cannot be started", weft.display()))?;
    if !status.success() {
        bail!("weft {}: {status}", arguments.join(" "));
    }
    Ok(())
}

/// Runs tests and counts them by their closing lines.
fn tests(tally: &mut Tally, arguments: &[&str]) -> anyhow::Result<()> {
    let weft = root().join("target/release/weft");
    let mut child = command(arguments)
        .env("WEFT_BIN", weft)
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be started")?;
    let out = child.stdout.take().context("cargo's output")?;
    for line in BufReader::new(out).lines() {
        let line = line?;
        println!("{line}");
        if let Some((passed, failed)) = counts(&line) {
            tally.passed += passed;
            tally.failed += failed;
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}

/// `test result: ok. 3 passed; 0 failed; ...`
fn counts(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |what: &str| {
        let before = rest.split(what).next()?;
        before.split_whitespace().last()?.parse().ok()
    };
    Some((number(" passed")?, number(" failed")?))
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn closing_lines_are_counted() {
        let line = "test result: ok. 31 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(counts(line), Some((31, 2)));
        assert_eq!(counts("test a ... ok"), None);
    }
}
