//! Where a lab's things are: the paths below its folder, and the locks that keep two engines apart.
//!
//! Owns: the layout of `<root>/<lab>/`. Never: what stands in the files.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::LabError;

/// How often a lock is tried anew because the folder was removed under it.
const LOCK_TRIES: usize = 16;

/// The folder of one lab.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    root: PathBuf,
    name: String,
}

/// Holds a lab for one engine; released when dropped or when the process ends.
#[derive(Debug)]
pub(crate) struct Held {
    lock: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A child that was forked and has not executed its program yet still has the descriptor: closing ours
        // would leave the lock with it. A lock that cannot be given back goes with the last of them.
        let _ = self.lock.unlock();
    }
}

impl Place {
    pub(crate) fn new(root: &Path, name: &str) -> Place {
        Place {
            root: root.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn dir(&self) -> PathBuf {
        self.root.join(&self.name)
    }
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir().join("journal")
    }
    fn lock_file(&self) -> PathBuf {
        self.dir().join("lock")
    }
    /// What the engine gives to `weft apply`.
    pub(crate) fn site(&self) -> PathBuf {
        self.dir().join("site")
    }
    /// What the engine gives to `weft diff`.
    pub(crate) fn wanted(&self) -> PathBuf {
        self.dir().join("_wanted")
    }
    /// The lab file as it was run, for `inspect` and for people.
    pub(crate) fn source(&self) -> PathBuf {
        self.dir().join("lab.toml")
    }
    /// Observations of the packet whose ladder is shown.
    pub(crate) fn trace(&self) -> PathBuf {
        self.dir().join("trace.jsonl")
    }
    /// The folders of its snapshots. No node has such a name.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir().join("_snapshots")
    }
    pub(crate) fn node(&self, node: &str) -> PathBuf {
        self.dir().join(node)
    }
    pub(crate) fn state(&self, node: &str) -> PathBuf {
        self.node(node).join("state")
    }
    pub(crate) fn log(&self, node: &str) -> PathBuf {
        self.node(node).join("log")
    }
    /// A link to the node's API socket, so that `weft --host` has a short path from outside.
    pub(crate) fn socket(&self, node: &str) -> PathBuf {
        self.node(node).join("weft.sock")
    }

    /// Makes the folder and holds it. Refused if a lab of that name exists.
    pub(crate) fn create(&self) -> Result<Held, LabError> {
        let dir = self.dir();
        for _ in 0..LOCK_TRIES {
            std::fs::create_dir_all(&self.root)
                .map_err(LabError::io("create the folder of labs", &self.root))?;
            match std::fs::create_dir(&dir) {
                Ok(()) => {}
                // Another lab's `down` just removed the empty root.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(self.exists());
                }
                Err(error) => return Err(LabError::io("create the lab's folder", dir)(error)),
            }
            return match self.try_hold()? {
                Some(held) => Ok(held),
                None => Err(self.exists()),
            };
        }
        Err(LabError::failed(
            format!("lab {}", self.name),
            format!("{} vanishes again and again", self.root.display()),
            "stop what removes it, then run the command again",
        ))
    }

    /// Holds an existing lab. Refused while another engine works on it.
    pub(crate) fn hold(&self) -> Result<Held, LabError> {
        if !self.dir().is_dir() {
            return Err(LabError::NotFound {
                subject: format!("lab {}", self.name),
                cause: "there is none of that name".to_owned(),
                help: "`weft lab ls` lists the labs".to_owned(),
            });
        }
        match self.try_hold()? {
            Some(held) => Ok(held),
            None => Err(LabError::Refused {
                subject: format!("lab {}", self.name),
                cause: "another weft process works on it right now".to_owned(),
                help: "wait for it, or end it with Ctrl-C, then run the command again".to_owned(),
            }),
        }
    }

    fn exists(&self) -> LabError {
        let busy = matches!(self.try_hold(), Ok(None));
        LabError::Refused {
            subject: format!("lab {}", self.name),
            cause: if busy {
                "a lab of that name is running".to_owned()
            } else {
                "a lab of that name is up, or was left by a run that was killed".to_owned()
            },
            help: format!(
                "remove it with `weft lab down {}`, or give this one another name with --name",
                self.name
            ),
        }
    }

    /// `None`: somebody else holds it.
    fn try_hold(&self) -> Result<Option<Held>, LabError> {
        let path = self.lock_file();
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(LabError::io("open the lab's lock", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(LabError::io("lock the lab", path)(error));
            }
        }
        // A `down` may have removed the folder between open and lock.
        let same = std::fs::metadata(&path).is_ok_and(|now| {
            file.metadata()
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
        });
        Ok(same.then_some(Held { lock: file }))
    }

    /// Keeps other engines from making or removing what labs share (the root, the cgroup parent).
    pub(crate) fn hold_root(&self) -> Result<File, LabError> {
        let root =
            File::open(&self.root).map_err(LabError::io("open the folder of labs", &self.root))?;
        root.lock()
            .map_err(LabError::io("lock the folder of labs", &self.root))?;
        Ok(root)
    }

    /// Names of all labs, in order.
    pub(crate) fn all(root: &Path) -> Result<Vec<String>, LabError> {
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(LabError::io("list the labs", root)(error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lab_of_the_same_name_is_refused_and_says_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::new(root.path(), "twice");
        let held = place.create().unwrap();
        let error = place.create().unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains("is running"), "{error}");
        assert_eq!(place.hold().unwrap_err().exit_code(), 4);
        drop(held);
        let error = place.create().unwrap_err();
        assert!(error.to_string().contains("weft lab down twice"), "{error}");
        place.hold().unwrap();
        assert_eq!(Place::all(root.path()).unwrap(), ["twice"]);
    }

    #[test]
    fn a_lab_that_is_not_there_is_not_found() {
        let root = tempfile::tempdir().unwrap();
        let error = Place::new(root.path(), "none").hold().unwrap_err();
        assert_eq!(error.exit_code(), 3);
    }
}
