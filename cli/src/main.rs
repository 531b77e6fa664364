//! `weft`: the one binary. Arguments are parsed first, touching nothing; then a command resolves them
//! and asks an agent, or runs a node, a lab or a service function.
//!
//! Owns: arguments, rendering, exit codes. Never: decides anything that an agent should.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod connect;
mod fail;
mod output;
mod trace;

use std::process::ExitCode;

use clap::Parser;

use crate::fail::Failure;

fn main() -> ExitCode {
    // These become other processes' first thread, so they come before anything that could start one.
    let raw: Vec<String> = std::env::args().skip(1).collect();
    match raw.first().map(String::as_str) {
        Some("shim") => commands::hidden::shim(&raw[1..]),
        Some("lab-holder") => weft_labs::holder_main(&raw[1..]),
        Some("lab-enter") => weft_labs::enter_main(&raw[1..]),
        Some(weft_labs::disk::WORD) => weft_labs::disk::main(&raw[1..]),
        Some("lab-machine") => weft_labs::machine_main(&raw[1..]),
        Some("lab-relay") => weft_labs::relay_main(&raw[1..]),
        Some("lab-guest") => weft_labs::guest_main(&raw[1..]),
        _ => {}
    }
    end_quietly_without_reader();
    let (json, done) = match args::Cli::try_parse() {
        Ok(cli) => (cli.json, commands::run(cli)),
        // Help and versions are no errors.
        Err(error) if error.use_stderr() && asks_for_json(&raw) => {
            (true, Err(Failure::arguments(&error)))
        }
        Err(error) => error.exit(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print(json);
            ExitCode::from(failure.code)
        }
    }
}

/// For arguments that could not be parsed. What stands behind `--` is a container's.
fn asks_for_json(raw: &[String]) -> bool {
    raw.iter()
        .take_while(|word| *word != "--")
        .any(|word| word == "--json")
}

/// `weft ps | head -1`: the standard library ignores SIGPIPE and panics in `println!` instead. Nobody reads
/// any more, so there is nothing left to do and nothing to tell.
fn end_quietly_without_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.contains("failed printing to stdout") || message.contains("BrokenPipe") {
            std::process::exit(0);
        }
        usual(panic);
    }));
}
