//! Generations of maps. Each has a folder of pins, `generations/<number>`, and the link `active` names the one
//! whose programs forward. Maps of another ABI or shape are never written: a new generation is made beside
//! them and filled, while packets go by the old one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// One generation of a node's maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    root: PathBuf,
    number: u64,
}

impl Generation {
    /// The one that forwards, if any.
    pub(crate) fn active(root: &Path) -> Option<Generation> {
        let target = fs::read_link(root.join("active")).ok()?;
        let generation = Generation {
            root: root.into(),
            number: target.file_name()?.to_str()?.parse().ok()?,
        };
        generation.dir().is_dir().then_some(generation)
    }

    /// A new one after `active`, empty; what an earlier attempt left is removed.
    pub(crate) fn after(root: &Path, active: Option<&Generation>) -> Result<Generation, Error> {
        remove_all_but(root, active)?;
        let generation = Generation {
            root: root.into(),
            number: active.map_or(1, |old| old.number.saturating_add(1)),
        };
        generation.make()?;
        Ok(generation)
    }

    /// Makes its folders, where they are missing.
    pub(crate) fn make(&self) -> Result<(), Error> {
        for dir in [self.maps(), self.programs()] {
            fs::create_dir_all(&dir).map_err(failed(&dir, "making the folder"))?;
        }
        Ok(())
    }

    /// Makes it the active one, in one step.
    pub(crate) fn activate(&self) -> Result<(), Error> {
        let target = Path::new("generations").join(self.number.to_string());
        let (new, link) = (self.root.join("active-new"), self.root.join("active"));
        absent(fs::remove_file(&new)).map_err(failed(&new, "removing the link"))?;
        symlink(target, &new).map_err(failed(&new, "making the link"))?;
        fs::rename(&new, &link).map_err(failed(&link, "replacing the link"))
    }

    /// Whether a start would find this one.
    pub(crate) fn is_active(&self) -> bool {
        Generation::active(&self.root).is_some_and(|active| active == *self)
    }

    /// Removes every other one. Programs that are still attached somewhere keep their maps.
    pub(crate) fn remove_others(&self) -> Result<(), Error> {
        remove_all_but(&self.root, Some(self))
    }

    /// Pins of the maps.
    pub(crate) fn maps(&self) -> PathBuf {
        self.dir().join("maps")
    }

    /// Pins of the programs.
    pub(crate) fn programs(&self) -> PathBuf {
        self.dir().join("programs")
    }

    fn dir(&self) -> PathBuf {
        self.root.join("generations").join(self.number.to_string())
    }
}

fn remove_all_but(root: &Path, kept: Option<&Generation>) -> Result<(), Error> {
    // Before there were generations, the pins lay in the root.
    for old in ["maps", "programs"].map(|name| root.join(name)) {
        absent(fs::remove_dir_all(&old)).map_err(failed(&old, "removing the folder"))?;
    }
    let all = root.join("generations");
    fs::create_dir_all(&all).map_err(failed(&all, "making the folder"))?;
    for entry in fs::read_dir(&all).map_err(failed(&all, "listing generations"))? {
        let path = entry.map_err(failed(&all, "listing generations"))?.path();
        if kept.is_none_or(|kept| kept.dir() != path) {
            fs::remove_dir_all(&path).map_err(failed(&path, "removing the folder"))?;
        }
    }
    Ok(())
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Bpffs {
        path,
        action,
        source,
    }
}
