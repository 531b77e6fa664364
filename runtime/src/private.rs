//! Files and folders that only root may look into: made so from the first moment, whatever umask this process was
//! started with. Logs, environments and states of containers may hold their users' secrets.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a folder for root alone; those above it that are missing are made for root alone too. One that is there already
/// is left as it is.
pub(crate) fn folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// As `folders`, for one folder that must be new.
pub(crate) fn new_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Takes a folder that others may have been let into back for root alone.
pub(crate) fn restrict(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// As `restrict`, for a file or socket that could not be made with its mode.
pub(crate) fn restrict_file(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// An empty file to write; one that was there is emptied and restricted.
pub(crate) fn file(path: &Path) -> io::Result<File> {
    open(
        path,
        OpenOptions::new().write(true).create(true).truncate(true),
    )
}

/// A file to append to.
pub(crate) fn appended(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().append(true).create(true))
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A file with this content.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    file(path)?.write_all(bytes)
}
