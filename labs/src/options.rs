//! What the command line asks of the lab engine.

use std::path::PathBuf;

/// Where root's labs keep their journals, logs and nodes' states; those of others are in their own folders for state.
pub const DEFAULT_ROOT: &str = "/var/lib/weft/labs";

/// Which binary and which folder all lab commands work with.
#[derive(Clone, Debug)]
pub struct Host {
    /// The weft binary that nodes and containers run.
    pub weft_exe: PathBuf,
    /// The folder of all labs: [`DEFAULT_ROOT`], or a user's own (XDG base directories: `$XDG_STATE_HOME`).
    pub root: PathBuf,
    /// One JSON object a line instead of tables.
    pub json: bool,
}

impl Host {
    /// The running binary, the default folder, tables.
    pub fn here() -> std::io::Result<Host> {
        Ok(Host {
            weft_exe: std::env::current_exe()?,
            root: root(),
            json: false,
        })
    }
}

fn root() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return DEFAULT_ROOT.into();
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = match (set("XDG_STATE_HOME"), set("HOME")) {
        (Some(state), _) => PathBuf::from(state),
        (None, Some(home)) => PathBuf::from(home).join(".local/state"),
        (None, None) => return DEFAULT_ROOT.into(),
    };
    state.join("weft/labs")
}

/// How `weft lab graph` draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// Text that Mermaid draws, in Markdown too.
    Mermaid,
    /// A picture for every browser.
    Svg,
}

/// `weft lab run` and `weft lab up`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Binary, folder, output.
    pub host: Host,
    /// A file, or the name of a built-in topology.
    pub source: String,
    /// Another name than the file's, so that the same file runs twice at once.
    pub name: Option<String>,
    /// `--backend`: overrides the file's.
    pub backend: Option<String>,
    /// Leave the lab up afterwards.
    pub keep: bool,
    /// Leave the lab up if a step does not hold.
    pub keep_on_failure: bool,
    /// Only these steps: each by its number in the file, from 1, or by words of its title. None: all.
    pub only: Vec<String>,
    /// Before each step, wait for a person's Enter.
    pub step: bool,
    /// Write the report as JUnit XML to this file too.
    pub junit: Option<PathBuf>,
}

/// What `weft lab run` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Steps that held.
    pub passed: usize,
    /// Steps that did not.
    pub failed: usize,
}

impl Outcome {
    /// Whether every step held.
    pub fn all_passed(&self) -> bool {
        self.failed == 0
    }
}
