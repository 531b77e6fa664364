//! The lab engine: whole clusters on one machine, from one file.
//!
//! - `file`, `site`: the TOML of labs and sites, with every mistake at its line and column.
//! - `builtin`: the topologies that go by name.
//! - `holder`, `enter`: the namespaces of a node, kept by a small process, and the way into them.
//! - `journal`, `place`, `processes`, `cgroups`: what a lab owns on the machine, so that it can be removed.
//! - `underlay`: the segment or the links that join the nodes.
//! - `node`: a running node, driven through the real binary as a process.
//! - `engine`: up, steps, down. `steps`, `observe`, `report`: what a lab asserts and prints.
//!
//! Never: imports the agent. A lab drives the same binary that a user has, through its command line.
#![forbid(unsafe_code)]

mod diagnose;
mod error;
mod options;

pub use diagnose::Diagnostic;
pub use error::LabError;
pub use options::{DEFAULT_ROOT, Host, Outcome, RunOptions};

use std::path::Path;

/// Reads a site file: the tables of `weft apply -f`. `folder` is where its chain files are looked for.
pub mod site {
    use super::*;
    /// A parsed site.
    #[derive(Clone, Debug, Default)]
    pub struct Site {
        /// `[[network]]`
        pub networks: Vec<weft_overlay::site::Network>,
        /// `[[container]]`
        pub containers: Vec<weft_overlay::site::Container>,
        /// `[[chain]]`
        pub chains: Vec<ChainText>,
    }
    /// A chain file as read.
    #[derive(Clone, Debug)]
    pub struct ChainText {
        /// As named in the site file.
        pub file: String,
        /// Its text.
        pub text: String,
    }
    /// Parses `text`; `name` is for messages.
    pub fn parse(_name: &str, _text: &str, _folder: &Path) -> Result<Site, Vec<Diagnostic>> {
        unimplemented!()
    }
}

/// `weft lab run`: up, steps, down.
pub fn run(_options: &RunOptions) -> Result<Outcome, LabError> {
    unimplemented!()
}
/// `weft lab up`.
pub fn up(_options: &RunOptions) -> Result<(), LabError> {
    unimplemented!()
}
/// `weft lab down NAME`.
pub fn down(_host: &Host, _name: &str) -> Result<(), LabError> {
    unimplemented!()
}
/// `weft lab ls`.
pub fn ls(_host: &Host) -> Result<(), LabError> {
    unimplemented!()
}
/// `weft lab exec NAME NODE|TENANT/CONTAINER -- COMMAND`: returns the command's exit code.
pub fn exec(_host: &Host, _name: &str, _target: &str, _command: &[String]) -> Result<u8, LabError> {
    unimplemented!()
}
/// Hidden `weft lab-holder ARGS...`: all arguments after the word, unparsed. Call it before any thread starts.
pub fn holder_main(_args: &[String]) -> ! {
    unimplemented!()
}
/// Hidden `weft lab-enter ARGS...`: all arguments after the word, unparsed. Call it before any thread starts.
pub fn enter_main(_args: &[String]) -> ! {
    unimplemented!()
}
