//! The process that holds one container.

use std::path::Path;

/// Runs the shim of the container whose folder is `dir`.
pub fn main(dir: &Path) -> ! {
    unimplemented!("{}", dir.display())
}
