//! A machine as a file: it stands, is written, goes on; and is made anew from the file, as it stood.
//!
//! Its time since boot stands with it and goes on from there; its time of day is ours again when it goes.

use std::path::Path;
use std::time::{Duration, Instant};

use super::keeper::{Frozen, LOADED};
use super::{Life, Machine, not_up, open, serving};
use crate::command::Lines;
use crate::error::LabError;
use crate::processes::Process;

/// How long the memory of a machine may take from the disk, and its guest to answer, on a busy machine.
const LOADED_WITHIN: Duration = Duration::from_secs(60);

/// A machine that is about to stand, or stands; it goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Standing<'a> {
    machine: &'a Machine,
    keeper: Frozen,
}

impl Machine {
    /// Lets what is on its way between the machine and us arrive, and holds the rest.
    pub(crate) fn hold(&self) -> Result<Standing<'_>, LabError> {
        let unreachable = |cause: String| self.failed(format!("it cannot be held: {cause}"));
        let mut keeper = Frozen::connect(&self.folder).map_err(|e| unreachable(e.to_string()))?;
        keeper.hold().map_err(unreachable)?;
        Ok(Standing {
            machine: self,
            keeper,
        })
    }

    /// Loads it from a file, in the folder of the machine that was saved; that one has ended.
    pub(crate) fn load(
        name: &str,
        folder: &Path,
        weft_exe: &Path,
        id: &str,
        file: &Path,
    ) -> Result<Loaded, LabError> {
        let life = Life {
            name,
            folder,
            weft_exe,
            id,
        };
        let begun = Instant::now();
        let (mut lines, keeper) = open(&life, Some(file))?;
        let said = lines.next(begun + LOADED_WITHIN);
        if said.as_deref() == Some(LOADED) {
            // What it is called and where it is has not changed.
            let machine = Machine::attach(name, folder, weft_exe, id, keeper);
            return Ok(Loaded {
                machine,
                lines,
                begun,
            });
        }
        let cause = match &said {
            Some(line) => line.strip_prefix("error: ").unwrap_or(line).to_owned(),
            None => format!("it was not loaded within {} s", LOADED_WITHIN.as_secs()),
        };
        // Ends the keeper, and QEMU with it.
        drop(lines);
        Err(not_up(&life, &cause))
    }
}

impl Standing<'_> {
    /// The processors stand when this returns.
    pub(crate) fn stop(&mut self) -> Result<(), LabError> {
        self.keeper.stop().map_err(|cause| self.failed(&cause))
    }

    /// Writes memory and devices to a file, which may be there.
    pub(crate) fn save(&mut self, file: &Path) -> Result<(), LabError> {
        self.keeper.save(file).map_err(|cause| self.failed(&cause))
    }

    /// It goes on.
    pub(crate) fn go(mut self) -> Result<(), LabError> {
        self.keeper.go().map_err(|cause| self.failed(&cause))
    }

    fn failed(&self, cause: &str) -> LabError {
        self.machine.failed(format!("it cannot be saved: {cause}"))
    }
}

/// A machine that stands as it was saved.
#[derive(Debug)]
pub(crate) struct Loaded {
    machine: Machine,
    lines: Lines,
    begun: Instant,
}

impl Loaded {
    /// The process that keeps it.
    pub(crate) fn keeper(&self) -> Process {
        self.machine.keeper
    }

    /// It goes on; it serves, and has our time of day, when this returns.
    pub(crate) fn go(self) -> Result<Machine, LabError> {
        let Loaded {
            machine,
            lines,
            begun,
        } = self;
        let cause = |cause: String| machine.failed(format!("it does not go on: {cause}"));
        let mut keeper = Frozen::connect(&machine.folder).map_err(|e| cause(e.to_string()))?;
        keeper.go().map_err(cause)?;
        let life = Life {
            name: &machine.name,
            folder: &machine.folder,
            weft_exe: &machine.weft_exe,
            id: &machine.id,
        };
        let deadline = Instant::now() + LOADED_WITHIN;
        serving(&life, lines, machine.keeper, begun, deadline)
    }
}
