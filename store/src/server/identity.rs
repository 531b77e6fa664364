//! The data folder: whose it is, and how far it is a member's. Made for its owner only: the log holds every tenant's secrets.
//!
//! `member.json` is replaced as a whole and fsynced before anything relies on what it says.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, InitialClusterState};

const FILE: &str = "member.json";

/// How far the folder is a member's; `standing` says what follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Empty, and nothing is known of a cluster.
    #[default]
    New,
    /// Bound to found the cluster with exactly the folders noted.
    Promised,
    /// Empty, for a cluster that lives.
    Returning,
    /// Votes and acknowledges.
    Member,
}

/// What a data folder says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) cluster_id: u64,
    /// Drawn when the folder was made. 0: made before folders were told apart.
    #[serde(default)]
    pub(crate) incarnation: u64,
    #[serde(default)]
    pub(crate) phase: Phase,
    /// Incarnation of every founding member by id.
    #[serde(default)]
    pub(crate) founders: BTreeMap<u64, u64>,
}

pub(super) fn data(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Data {
        path,
        doing,
        source,
    }
}

/// Makes the folder, and what is missing above it, for its owner only. A folder that exists stays as it is.
pub(super) fn make(dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(data(dir, "make the folder"))
}

/// Makes the folder this process's alone until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(data(&path, "make the lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(data(&path, "lock")(source)),
    }
}

/// What the folder says, `fresh` if it says nothing. A folder once used by a member serves that member only: with
/// another's log it could vote twice.
pub(super) fn read(dir: &Path, fresh: Record) -> Result<Record, Error> {
    let path = dir.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
        Err(error) => return Err(data(&path, "read")(error)),
    };
    let found: Record = serde_json::from_slice(&bytes)
        .map_err(io::Error::from)
        .map_err(data(&path, "read"))?;
    if (found.format, &found.name, found.id, found.cluster_id)
        == (fresh.format, &fresh.name, fresh.id, fresh.cluster_id)
    {
        return Ok(found);
    }
    let tell = |r: &Record| {
        format!(
            "member {} ({:x}) of cluster {:x}",
            r.name, r.id, r.cluster_id
        )
    };
    Err(Error::Foreign {
        path: dir.to_owned(),
        found: tell(&found),
        wanted: tell(&fresh),
    })
}

/// Writes the record lastingly.
pub(super) fn write(dir: &Path, record: &Record) -> io::Result<()> {
    let part = dir.join("member.json.part");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    file.sync_all()?;
    fs::rename(&part, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

/// The record said that it is a member's, but its log is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogGone;

/// The phase in which a member starts, from what its folder says and whether its log holds anything.
pub(super) fn phase_at_start(
    noted: Phase,
    log_used: bool,
    asked: InitialClusterState,
) -> Result<Phase, LogGone> {
    match (noted, log_used) {
        (Phase::Member, false) => Err(LogGone),
        // The log is written before the founding is noted as done; a folder of before the phases says nothing.
        (Phase::Member | Phase::Promised | Phase::New, true) => Ok(Phase::Member),
        // Half filled: whatever is asked now, it has not caught up yet.
        (Phase::Returning, true) => Ok(Phase::Returning),
        (Phase::Promised, false) => Ok(Phase::Promised),
        (Phase::New | Phase::Returning, false) => Ok(match asked {
            InitialClusterState::New => Phase::New,
            InitialClusterState::Existing => Phase::Returning,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn folders_are_made_for_their_owner_only() {
        let dir = tempfile::tempdir().expect("tempdir");
        let inner = dir.path().join("a/b");
        make(&inner).expect("made");
        for path in [dir.path().join("a"), inner.clone()] {
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o750)).expect("set");
        make(&inner).expect("is there");
        let mode = fs::metadata(&inner).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o750, "what the operator set stays");
    }

    #[test]
    fn a_folder_starts_in_the_phase_that_its_log_proves() {
        use InitialClusterState::{Existing, New};
        let cases = [
            (Phase::New, false, New, Ok(Phase::New)),
            (Phase::New, false, Existing, Ok(Phase::Returning)),
            // Asked to rejoin by mistake, nothing was taken yet.
            (Phase::Returning, false, New, Ok(Phase::New)),
            (Phase::Returning, true, New, Ok(Phase::Returning)),
            (Phase::Promised, false, Existing, Ok(Phase::Promised)),
            // Crashed between the first log entry and the note of it.
            (Phase::Promised, true, New, Ok(Phase::Member)),
            (Phase::Member, true, Existing, Ok(Phase::Member)),
            (Phase::Member, false, New, Err(LogGone)),
        ];
        for (noted, used, asked, expected) in cases {
            assert_eq!(
                phase_at_start(noted, used, asked),
                expected,
                "{noted:?} {used} {asked:?}"
            );
        }
    }
}
