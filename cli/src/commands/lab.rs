//! `weft lab`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use weft_labs::{Drawing, Host, RunOptions};

use super::doctor;
use crate::fail::{Done, Failure};

/// `weft lab ...`
#[derive(Debug, Subcommand)]
pub enum Lab {
    /// Bring a lab up, run its steps, take it down. Exit code 0 only if every step held.
    Run(Run),
    /// Bring a lab up and leave it. One that is up already is brought to the file: what went out of it is removed, the rest
    /// is made or changed.
    Up {
        #[command(flatten)]
        source: Source,
        /// Print what would be made, and make nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a lab and everything that its journal tells of.
    Down {
        /// The lab's name.
        name: String,
    },
    /// Print the JSON schema of lab files, for editors.
    Schema,
    /// Write all machines and links of a lab to files, as they are at one instant; the lab goes on. `down` removes them.
    Snapshot {
        /// The lab's name; its backend is qemu.
        name: String,
        /// The snapshot's name; one of that name is replaced.
        #[arg(default_value = "last")]
        snapshot: String,
    },
    /// Bring a lab back to a snapshot, whatever became of it since.
    Restore {
        /// The lab's name.
        name: String,
        /// The snapshot's name.
        #[arg(default_value = "last")]
        snapshot: String,
    },
    /// List labs.
    Ls,
    /// End a node's agent with SIGKILL, as a crash would; its containers and their packets go on.
    Kill {
        /// The lab's name.
        name: String,
        /// The node.
        node: String,
    },
    /// Start a node's agent again, with the arguments that it had.
    Start {
        /// The lab's name.
        name: String,
        /// The node.
        node: String,
    },
    /// Bring the kernel that virtual machines boot, once, and say where it is.
    Kernel {
        /// `auto` (the distribution's cloud kernel), a kernel image, a kernel package's file, or a folder into which
        /// one was unpacked.
        #[arg(default_value = "auto")]
        kernel: String,
    },
    /// Where everything of a lab is: its nodes' processes, sockets and logs.
    Inspect {
        /// The lab's name.
        name: String,
    },
    /// Draw what runs: nodes, links, networks, containers with their addresses, chains.
    Graph {
        /// The lab's name.
        name: String,
        /// A picture for a browser, or text for Mermaid.
        #[arg(long, value_enum, default_value_t = Format::Svg)]
        format: Format,
    },
    /// What the nodes' agents have said.
    Logs {
        /// The lab's name.
        name: String,
        /// This node alone.
        node: Option<String>,
        /// Go on with what they say from now on.
        #[arg(long, short)]
        follow: bool,
    },
    /// A shell on a node, or in a container (TENANT/NAME), of a lab.
    Shell {
        /// The lab's name.
        name: String,
        /// NODE, or TENANT/CONTAINER.
        target: String,
    },
    /// Copy a file to or from a node.
    Cp {
        /// The lab's name.
        name: String,
        /// A file here, or NODE:/PATH.
        source: String,
        /// A file or folder here, or NODE:/PATH.
        target: String,
    },
    /// Run a command on a node, or in a container (TENANT/NAME), of a lab.
    Exec {
        /// The lab's name.
        name: String,
        /// NODE, or TENANT/CONTAINER.
        target: String,
        /// What to run.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// How a lab is drawn.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    Svg,
    Mermaid,
}

/// Which lab.
#[derive(Debug, Args)]
pub struct Source {
    /// A lab file, or the name of a built-in topology: two-tenants.
    source: String,
    /// Another name than the file's.
    #[arg(long)]
    name: Option<String>,
    /// `netns` (each node in namespaces of this machine) or `qemu` (each a virtual machine); overrides the file's.
    #[arg(long)]
    backend: Option<String>,
    /// Leave the lab up after its steps.
    #[arg(long)]
    keep: bool,
}

/// `weft lab run`
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    source: Source,
    /// Leave the lab up if a step does not hold.
    #[arg(long)]
    keep_on_failure: bool,
    /// Run only this step: its number in the file, or words of its title; may be repeated.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Show each step and wait for Enter before it runs.
    #[arg(long)]
    step: bool,
    /// Write the report as JUnit XML to this file too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Runs it.
pub fn run(json: bool, lab: Lab) -> Done {
    let host = Host::here().map_err(|e| {
        Failure::new(
            format!("weft: its own program cannot be found: {e}"),
            "is /proc mounted?",
        )
    })?;
    let host = Host { json, ..host };
    match lab {
        Lab::Run(run) => {
            let options = RunOptions {
                keep_on_failure: run.keep_on_failure,
                only: run.only,
                step: run.step,
                junit: run.junit,
                ..options(host, run.source)
            };
            if weft_labs::runs_here(&options)? {
                doctor::require(&format!("lab {}", options.source))?;
            }
            let outcome = weft_labs::run(&options)?;
            Ok(u8::from(!outcome.all_passed()))
        }
        Lab::Up { source, dry_run } => {
            let options = options(host, source);
            if dry_run {
                weft_labs::plan(&options)?;
                return Ok(0);
            }
            if weft_labs::runs_here(&options)? {
                doctor::require(&format!("lab {}", options.source))?;
            }
            weft_labs::up(&options)?;
            Ok(0)
        }
        Lab::Down { name } => {
            weft_labs::down(&host, &name)?;
            Ok(0)
        }
        Lab::Schema => {
            println!("{:#}", weft_labs::schema());
            Ok(0)
        }
        Lab::Ls => {
            weft_labs::ls(&host)?;
            Ok(0)
        }
        Lab::Kernel { kernel } => {
            weft_labs::kernel(&host, &kernel)?;
            Ok(0)
        }
        Lab::Snapshot { name, snapshot } => {
            weft_labs::snapshot(&host, &name, &snapshot)?;
            Ok(0)
        }
        Lab::Restore { name, snapshot } => {
            weft_labs::restore(&host, &name, &snapshot)?;
            Ok(0)
        }
        Lab::Graph { name, format } => {
            let drawing = match format {
                Format::Svg => Drawing::Svg,
                Format::Mermaid => Drawing::Mermaid,
            };
            weft_labs::graph(&host, &name, drawing)?;
            Ok(0)
        }
        Lab::Kill { name, node } => {
            weft_labs::kill(&host, &name, &node)?;
            Ok(0)
        }
        Lab::Start { name, node } => {
            weft_labs::start(&host, &name, &node)?;
            Ok(0)
        }
        Lab::Inspect { name } => {
            weft_labs::inspect(&host, &name)?;
            Ok(0)
        }
        Lab::Logs { name, node, follow } => {
            weft_labs::logs(&host, &name, node.as_deref(), follow)?;
            Ok(0)
        }
        Lab::Shell { name, target } => Ok(weft_labs::shell(&host, &name, &target)?),
        Lab::Cp {
            name,
            source,
            target,
        } => {
            weft_labs::cp(&host, &name, &source, &target)?;
            Ok(0)
        }
        Lab::Exec {
            name,
            target,
            command,
        } => Ok(weft_labs::exec(&host, &name, &target, &command)?),
    }
}

fn options(host: Host, source: Source) -> RunOptions {
    RunOptions {
        host,
        source: source.source,
        name: source.name,
        backend: source.backend,
        keep: source.keep,
        keep_on_failure: false,
        only: Vec::new(),
        step: false,
        junit: None,
    }
}
