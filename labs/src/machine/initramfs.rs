//! What a machine finds at boot: the archive with weft, its libraries and the kernel's modules.
//!
//! Nothing else is inside: everything that a node and its containers of image `host` run is in the one binary. The
//! archive is not compressed: it never leaves this machine, and unpacking would cost more than copying.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::cpio::Archive;
use super::guest::PROGRAM;
use super::kernel::Kernel;
use super::modules::{DRIVERS, Modules, USED};
use super::program;
use crate::error::LabError;

/// Where the modules are until they are loaded.
pub(super) const MODULES: &str = "/modules";
/// Their file names, one a line, in order.
pub(super) const ORDER: &str = "order";
/// What programs expect of any machine.
const PLAIN: [(&str, &str); 3] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("/etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];
/// Folders that are mounted over, or that programs expect.
const FOLDERS: [(&str, u32); 10] = [
    ("/proc", 0o555),
    ("/sys", 0o555),
    ("/dev", 0o755),
    ("/run", 0o755),
    ("/tmp", 0o1777),
    ("/root", 0o700),
    ("/home", 0o755),
    ("/var/lib", 0o755),
    ("/var/log", 0o755),
    ("/mnt", 0o755),
];

/// Writes the archive for machines with this kernel; modules in `without`, and those that need them, stay away.
pub(crate) fn write(
    to: &Path,
    weft: &Path,
    kernel: &Kernel,
    without: &[String],
) -> Result<(), LabError> {
    let modules = modules_of(kernel, without)?;
    let file = std::fs::File::create(to).map_err(LabError::io("write", to))?;
    fill(Archive::new(BufWriter::new(file)), weft, &modules).map_err(LabError::io("write", to))
}

fn modules_of(
    kernel: &Kernel,
    without: &[String],
) -> Result<Vec<super::modules::Module>, LabError> {
    let subject = || format!("kernel {}", kernel.image.display());
    let Some(folder) = &kernel.modules else {
        // Then everything must be built in; a machine that lacks a driver says so on its console.
        return Ok(Vec::new());
    };
    let bad = |e: io::Error| {
        LabError::failed(
            subject(),
            format!("its modules in {}: {e}", folder.display()),
            "unpack the kernel's package again, with its modules beside it",
        )
    };
    let modules = Modules::of(folder).map_err(bad)?;
    if let Some(missing) = DRIVERS.iter().find(|name| !modules.has(name)) {
        return Err(LabError::failed(
            subject(),
            format!(
                "it has no driver {missing}, neither built in nor in {}",
                folder.display()
            ),
            "take a kernel for virtual machines, such as the distribution's cloud kernel (`auto`)",
        ));
    }
    let wanted: Vec<&str> = DRIVERS.into_iter().chain(USED).collect();
    modules.in_order(&wanted, without).map_err(bad)
}

fn fill(
    mut archive: Archive<impl io::Write>,
    weft: &Path,
    modules: &[super::modules::Module],
) -> io::Result<()> {
    for (folder, mode) in FOLDERS {
        archive.folder(folder, mode)?;
    }
    for (path, text) in PLAIN {
        archive.file(path, 0o644, text.as_bytes())?;
    }
    archive.file(PROGRAM, 0o755, &std::fs::read(weft)?)?;
    for library in program::needs(weft)? {
        place_library(&mut archive, &library)?;
    }
    let mut order = String::new();
    for module in modules {
        let file = format!("{}.ko", module.name);
        archive.file(&format!("{MODULES}/{file}"), 0o644, &module.bytes)?;
        order.push_str(&file);
        order.push('\n');
    }
    archive.file(&format!("{MODULES}/{ORDER}"), 0o644, order.as_bytes())?;
    archive.finish().map(drop)
}

/// Where it is here, with the links that lead there: packages have the same (`/lib` is a link to `usr/lib`).
fn place_library(archive: &mut Archive<impl io::Write>, library: &Path) -> io::Result<()> {
    let bytes = std::fs::read(library)?;
    let mut top: PathBuf = library.components().take(2).collect();
    if let Ok(target) = std::fs::read_link(&top) {
        archive.link(&top.to_string_lossy(), &target.to_string_lossy())?;
    }
    top = std::fs::canonicalize(&top)?;
    let below = library.components().skip(2);
    let there: PathBuf = top.components().chain(below).collect();
    archive.file(&there.to_string_lossy(), 0o755, &bytes)
}
