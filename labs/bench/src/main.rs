//! Benchmarks of the release binary. `cargo xtask bench NAME` builds both and runs this.
//!
//! - `lab`: links of a lab. `overlay`: from container to container. `runtime`: until a container answers. A further
//!   benchmark is a module beside them.
//! - `cluster`: a lab that is brought up for one. `traffic`: what is sent through it.
//! - `machine`: the same inside a virtual machine.
//! - `figures`: medians, intervals, goals. `row`: how they are printed.
//!
//! Never: asserts what a test asserts. It measures, prints, and fails when a goal is missed.
#![forbid(unsafe_code)]

mod cluster;
mod figures;
mod lab;
mod machine;
mod overlay;
mod row;
mod runtime;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};

/// Measures weft beside what one would pick instead.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Cli {
    /// What to measure.
    name: Name,
    /// Fewer and shorter runs: within a minute.
    #[arg(long)]
    quick: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// In a virtual machine of a lab, on the kernel that labs boot; of `overlay` what one processor can show.
    #[arg(long)]
    machine: bool,
    /// Of `overlay` only what one processor can show: processor time of a packet, and round trips.
    #[arg(long)]
    one_processor: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Links of a lab: the relay beside a veth pair, impairments beside what was asked for and the kernel's own.
    Lab,
    /// From container to container: weft, the kernel's own way as flannel sets it up, and the bare underlay.
    Overlay,
    /// A container's start, until another node has an answer from it.
    Runtime,
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    /// Interleaved pairs of runs.
    pairs: usize,
    /// Seconds of a run whose length is free.
    seconds: f64,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all goals are met.
fn run(cli: &Cli) -> anyhow::Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab needs root: run `cargo xtask bench` as root");
    }
    let is_overlay = matches!(cli.name, Name::Overlay);
    if (cli.machine || cli.one_processor) && !is_overlay {
        bail!("--machine and --one-processor go with `overlay` alone");
    }
    if cli.machine {
        return machine::overlay(&weft()?, cli.quick, cli.json);
    }
    let quick = match cli.name {
        Name::Lab | Name::Runtime => 0.5,
        // It has four times as many cases.
        Name::Overlay => 0.1,
    };
    let (pairs, seconds) = if cli.quick { (8, quick) } else { (30, 1.0) };
    let effort = Effort { pairs, seconds };
    let rows = match cli.name {
        Name::Lab => lab::run(&weft()?, effort)?,
        Name::Overlay if cli.one_processor => overlay::on_one_processor(&weft()?, effort)?,
        Name::Overlay => overlay::run(&weft()?, effort)?,
        Name::Runtime => runtime::run(&weft()?, if cli.quick { 20 } else { 200 })?,
    };
    row::print(&rows, cli.json);
    Ok(rows.iter().all(row::Row::is_met))
}

/// The binary under test: WEFT_BIN, or `weft` beside this program.
fn weft() -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os("WEFT_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("weft"),
    };
    if !path.is_file() {
        bail!(
            "{} is missing: `cargo xtask bench` builds it, or name it in WEFT_BIN",
            path.display()
        );
    }
    path.canonicalize().context("the binary's path")
}
