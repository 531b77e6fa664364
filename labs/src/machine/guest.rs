//! Inside a machine: hidden `weft lab-guest`.
//!
//! Two lives, as of a lab's holder. The first is process 1: it makes the machine usable (`init`), starts the second
//! and then only reaps; when the second ends, it switches the machine off. The second serves the keeper's requests
//! (`serve`, `session`) over the serial port.
//!
//! Never: waits for time to pass. A request is served when it comes, readiness is said when it is there.

use std::io::Write;
use std::process::Command;

use anyhow::Context;

mod init;
mod serve;
mod session;

pub(crate) use init::{ON_DISK, PROGRAM};

/// The hidden word of the command line.
pub const WORD: &str = "lab-guest";
/// After it: look at processes.
pub(crate) const LOOK: &str = "look";

/// `lab-guest` as process 1, then itself again as `lab-guest serve`; for questions `lab-guest look WHOSE`.
pub fn main(args: &[String]) -> ! {
    let done = match args {
        [] if std::process::id() == 1 => first(),
        [life] if life == "serve" && std::process::id() != 1 => serve::run(),
        [word, whose] if word == LOOK => look(whose),
        _ => Err(anyhow::anyhow!(
            "`weft {WORD}` is process 1 of a lab's virtual machine; it is not for people"
        )),
    };
    if let Err(error) = &done {
        // The console: its tail is what the engine shows.
        let _ = writeln!(std::io::stderr(), "weft {WORD}: error: {error:#}");
    }
    if std::process::id() == 1 {
        init::power_off();
    }
    std::process::exit(i32::from(done.is_err()))
}

fn first() -> anyhow::Result<()> {
    init::prepare()?;
    let server = Command::new(init::PROGRAM)
        .args([WORD, "serve"])
        .env_clear()
        .env("PATH", init::PATH)
        .env("HOME", "/root")
        .spawn()
        .context("start the server")?;
    init::reap_until(server.id() as i32)
}

/// Prints the processes that a question of the engine means.
fn look(whose: &str) -> anyhow::Result<()> {
    let whose = serde_json::from_str(whose).context("whose processes")?;
    let seen = crate::processes::look(&whose);
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}
