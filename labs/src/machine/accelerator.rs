//! Whether the processor can carry out a machine's instructions: found out by booting one, for a device that is there
//! and opens says nothing (KVM inside a virtual machine may hang at the guest's first steps).
//!
//! The answer is kept for this machine's kernel and this guest kernel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::qemu::Accelerator;
use super::{Kernel, Spec, boot, cache};
use crate::error::LabError;

/// A machine under KVM is up in well under a second; one that is not after this long never will be.
const PROBE_WITHIN: Duration = Duration::from_secs(6);

/// The answer that is kept, or a new one.
pub(crate) fn probe(kernel: &Kernel, weft: &Path) -> Result<Accelerator, LabError> {
    if std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(Accelerator::Tcg);
    }
    let kept = kept_in(&cache(), kernel);
    match std::fs::read_to_string(&kept).as_deref().map(str::trim) {
        Ok("kvm") => return Ok(Accelerator::Kvm),
        Ok("tcg") => return Ok(Accelerator::Tcg),
        _ => {}
    }
    super::qemu::program()?;
    let folder = tempfile::Builder::new()
        .prefix("weft-kvm-")
        .tempdir()
        .map_err(LabError::io("create a folder in", std::env::temp_dir()))?;
    let mut spec = Spec::new("probe", folder.path(), weft, kernel.clone())?;
    spec.accelerator = Some(Accelerator::Kvm);
    let found = match boot(&spec, Accelerator::Kvm, PROBE_WITHIN) {
        Ok(machine) => {
            machine.kill()?;
            Accelerator::Kvm
        }
        Err(_) => Accelerator::Tcg,
    };
    let word = match found {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    if let Some(parent) = kept.parent() {
        // A cache that cannot be written only costs the next probe.
        let _ = std::fs::create_dir_all(parent);
    }
    let _ = std::fs::write(&kept, format!("{word}\n"));
    Ok(found)
}

/// One file for each pair of kernels.
fn kept_in(cache: &Path, kernel: &Kernel) -> PathBuf {
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let safe = |text: &str| text.trim().replace('/', "_");
    let guest = match kernel.release.as_str() {
        "" => kernel.image.to_string_lossy().into_owned(),
        release => release.to_owned(),
    };
    cache
        .join("accelerator")
        .join(format!("{}+{}", safe(&host), safe(&guest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_belongs_to_both_kernels_and_is_one_file() {
        let kernel = Kernel {
            image: "/boot/vmlinuz".into(),
            modules: None,
            release: String::new(),
        };
        let kept = kept_in(Path::new("/c"), &kernel);
        assert_eq!(kept.parent(), Some(Path::new("/c/accelerator")));
        assert!(kept.to_string_lossy().ends_with("+_boot_vmlinuz"));
    }
}
