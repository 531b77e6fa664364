//! The programs of this binary in the kernel, and their pins, whose names hold a hash of the object. Pins of
//! the same object beside the same maps are the same programs: they are used as they are, so that ports
//! which carry them are not touched at all, and nothing is verified again.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::{ProgramError, SchedClassifier};

use crate::error::Error;

/// The programs by name.
pub(crate) const FROM_CONTAINER: &str = "from_container";
pub(crate) const FROM_OVERLAY: &str = "from_overlay";
pub(crate) const FROM_UNDERLAY: &str = "from_underlay";
/// All of them.
pub(crate) const PROGRAMS: [&str; 3] = [FROM_CONTAINER, FROM_OVERLAY, FROM_UNDERLAY];

/// What is put onto interfaces.
pub(crate) struct Programs {
    all: BTreeMap<&'static str, Loaded>,
    object: &'static [u8],
}

struct Loaded {
    id: u32,
    program: SchedClassifier,
}

impl Programs {
    /// Finds the programs at `pins`, or loads and pins them. `pins` lies beside the pins of the maps that
    /// `ebpf`, made of `object`, uses, and is made and removed with them.
    pub(crate) fn load(
        ebpf: &mut Ebpf,
        object: &'static [u8],
        pins: &Path,
    ) -> Result<Programs, Error> {
        let mut all = BTreeMap::new();
        for name in PROGRAMS {
            all.insert(name, load(ebpf, name, &pin_of(object, pins, name))?);
        }
        Ok(Programs { all, object })
    }

    /// Pins again those whose pins are gone; which they were.
    pub(crate) fn repin(&mut self, pins: &Path) -> Result<Vec<&'static str>, Error> {
        let mut lost = Vec::new();
        for (name, loaded) in &mut self.all {
            let pin = pin_of(self.object, pins, name);
            if pin.exists() {
                continue;
            }
            let pinned = loaded.program.pin(&pin);
            pinned.map_err(|source| Error::Pin {
                program: (*name).into(),
                action: "pinning",
                source: std::io::Error::other(source),
            })?;
            lost.push(*name);
        }
        Ok(lost)
    }

    /// The kernel's id of a program.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.all.get(name).map(|loaded| loaded.id)
    }

    pub(crate) fn get(&mut self, name: &'static str) -> Result<&mut SchedClassifier, Error> {
        let loaded = self.all.get_mut(name).ok_or(Error::Missing {
            kind: "program",
            name,
        })?;
        Ok(&mut loaded.program)
    }
}

fn pin_of(object: &[u8], pins: &Path, name: &str) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    hasher.write(object);
    pins.join(format!("{name}-{:016x}", hasher.finish()))
}

/// The program of this name in the object.
pub(crate) fn in_object<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, Error> {
    let program = ebpf.program_mut(name).ok_or(Error::Missing {
        kind: "program",
        name,
    })?;
    program.try_into().map_err(failed(name, "opening"))
}

fn load(ebpf: &mut Ebpf, name: &'static str, pin: &Path) -> Result<Loaded, Error> {
    if !pin.exists() {
        let fresh = in_object(ebpf, name)?;
        fresh.load().map_err(failed(name, "loading"))?;
        fresh.pin(pin).map_err(|source| Error::Pin {
            program: name.into(),
            action: "pinning",
            source: std::io::Error::other(source),
        })?;
        remove_others(pin, name)?;
    }
    let program = SchedClassifier::from_pin(pin).map_err(failed(name, "opening"))?;
    let info = program.info().map_err(failed(name, "reading"))?;
    Ok(Loaded {
        id: info.id(),
        program,
    })
}

/// Removes the pins that another binary made of this program; interfaces that carry it keep it.
fn remove_others(pin: &Path, name: &'static str) -> Result<(), Error> {
    let fail = |source| Error::Pin {
        program: name.into(),
        action: "removing the old pin",
        source,
    };
    let Some(dir) = pin.parent() else {
        return Ok(());
    };
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let of_it = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(name));
        if of_it && path != pin {
            fs::remove_file(&path).map_err(fail)?;
        }
    }
    Ok(())
}

fn failed(program: &'static str, action: &'static str) -> impl FnOnce(ProgramError) -> Error {
    move |source| Error::Program {
        program,
        action,
        source: Box::new(source),
    }
}
