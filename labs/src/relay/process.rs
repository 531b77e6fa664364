//! The relay as a process of a lab: its folder, how it is started, where it is asked.
//!
//! Owns: names of files in that folder. The process carries the lab's id, so that it is found and ended with the lab
//! whatever became of who started it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{LinkSpec, Relay, RelaySpec, WORD};
use crate::command::Lines;
use crate::error::LabError;
use crate::place::Place;
use crate::processes::Process;

/// The relay's folder, beside those of the nodes. No node has such a name.
pub(crate) const FOLDER: &str = "_underlay";
/// What to join, in that folder.
const SPEC: &str = "relay.json";
/// Where a relay is asked, in that folder.
const CONTROL: &str = "control.sock";
/// How long it may take to open its ends: a few system calls each, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The control socket of a lab's relay.
pub(crate) fn control(place: &Place) -> PathBuf {
    place.node(FOLDER).join(CONTROL)
}

/// Starts the relay of a lab; its ends are open when this returns. Relative paths of ends begin in its folder.
pub(crate) fn start(
    exe: &Path,
    id: &str,
    place: &Place,
    seed: u64,
    links: Vec<LinkSpec>,
    state: Option<PathBuf>,
) -> Result<Process, LabError> {
    let folder = place.node(FOLDER);
    std::fs::create_dir_all(&folder).map_err(LabError::io("create", &folder))?;
    let spec = RelaySpec {
        seed,
        control: CONTROL.into(),
        // An end that is full holds its sender back, so the depth decides about wake-ups only.
        socket_queue: None,
        links,
        state,
    };
    let path = folder.join(SPEC);
    let failed = |cause: String| LabError::failed("underlay", cause, "run the command again");
    let text = serde_json::to_vec(&spec).map_err(|e| failed(e.to_string()))?;
    std::fs::write(&path, text).map_err(LabError::io("write", &path))?;
    let mut command = Command::new(exe);
    command.args([WORD, id]).arg(&path);
    let mut lines = Lines::start(command).map_err(|e| failed(e.to_string()))?;
    let process = lines.process();
    match (
        lines.next(Instant::now() + READY_WITHIN).as_deref(),
        process,
    ) {
        (Some("ready"), Some(process)) => {
            lines.leave_running();
            Ok(process)
        }
        (said, _) => {
            let said = said.unwrap_or("the relay does not start");
            let said = said.strip_prefix("error: ").unwrap_or(said).to_owned();
            Err(failed(format!("{said} {}", lines.finish().trim())))
        }
    }
}

/// `lab-relay ID FILE`: joins what the [`RelaySpec`] in FILE says, says `ready` and works until it is
/// asked to stop. ID is the lab's, for who looks at the process. It works in FILE's folder, since paths of sockets
/// may be no longer than 107 bytes (unix(7)).
pub fn main(args: &[String]) -> ! {
    match serve(args) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            // The engine reads this line; there is nobody else to tell.
            let _ = writeln!(std::io::stdout(), "error: {error:#}");
            std::process::exit(1);
        }
    }
}

fn serve(args: &[String]) -> anyhow::Result<()> {
    let [_, file] = args else {
        anyhow::bail!("`weft {WORD}` is started by `weft lab`; it is not for people");
    };
    let text = std::fs::read(file).with_context(|| format!("read {file}"))?;
    let spec: RelaySpec = serde_json::from_slice(&text).with_context(|| format!("read {file}"))?;
    let folder = Path::new(file)
        .parent()
        .context("the folder of the relay")?;
    std::env::set_current_dir(folder).with_context(|| folder.display().to_string())?;
    // A session of its own, so that Ctrl-C at the engine's terminal ends the engine alone.
    nix::unistd::setsid().context("leave the terminal")?;
    let mut relay = Relay::open(&spec)?;
    println!("ready");
    crate::machine::keeper::detach_output()?;
    Ok(relay.run()?)
}
