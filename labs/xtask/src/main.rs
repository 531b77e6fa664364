//! `cargo xtask`: the one task runner. `test` is all that CI runs.
//!
//! - `needs`: what tests want of the distribution, and its installation.
//! - `stages`: the stages of `test`, and counting what ran.
//! - `tidy`: rules about the repository that a compiler does not check.
//! - `bench`: builds what is measured and what measures.
//! - `bpf`: builds `ebpf/prebuilt` from `ebpf/programs`.
#![forbid(unsafe_code)]

mod bench;
mod bpf;
mod needs;
mod stages;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the weft repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that CI runs.
    Test {
        /// Install what is missing without asking.
        #[arg(long)]
        yes: bool,
        /// Formatting, lints, tidy and unit tests only; no lab.
        #[arg(long)]
        fast: bool,
    },
    /// Formatting and lints.
    Lint,
    /// Rules about the repository: who imports whom, what stands where.
    Tidy,
    /// Measure the release build beside what one would pick instead: `bench lab --quick`.
    Bench {
        /// What to measure, and how: `--quick`, `--json`.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Build ebpf/prebuilt from ebpf/programs.
    Bpf {
        /// Build elsewhere and compare with what is checked in.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test { yes, fast } => stages::test(yes, fast),
        Task::Lint => stages::lint(),
        Task::Tidy => tidy::run(),
        Task::Bench { words } => bench::run(&words),
        Task::Bpf { check } => bpf::run(check),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's folder.
fn root() -> PathBuf {
    // Of this run, if cargo runs it: two clones may share a target folder, and so this program.
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = here.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}
