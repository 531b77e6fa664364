//! The kernel that machines boot: the distribution's cloud kernel, brought once and kept, or one by path.
//!
//! Owns `<cache>/kernels/`: one folder for each package, unpacked and never installed. A folder is complete when it
//! is there: it is unpacked beside and renamed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::LabError;

/// The package whose dependency is the distribution's present kernel for virtual machines.
const META: &str = "linux-image-cloud-amd64";
/// Where `auto` looks when the user has no home.
const SYSTEM_CACHE: &str = "/var/cache/weft";

/// A kernel that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The image, as QEMU takes it.
    pub image: PathBuf,
    /// Its modules: `lib/modules/RELEASE`; none if all is built in.
    pub modules: Option<PathBuf>,
    /// Its release, `6.1.0-56-cloud-amd64`, by the names of its files.
    pub release: String,
}

/// The folder below which labs keep what is costly to bring: `$XDG_CACHE_HOME/weft`, `~/.cache/weft`.
pub fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match (set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(cache), _) => PathBuf::from(cache).join("weft"),
        (None, Some(home)) => PathBuf::from(home).join(".cache/weft"),
        (None, None) => PathBuf::from(SYSTEM_CACHE),
    }
}

impl Kernel {
    /// `auto`, a kernel image, an unpacked package, or a package's file.
    pub fn find(wanted: &str, progress: &dyn Fn(&str)) -> Result<Kernel, LabError> {
        if wanted == "auto" {
            return auto(&cache().join("kernels"), progress);
        }
        let path = Path::new(wanted);
        if path.is_dir() {
            return unpacked(path).ok_or_else(|| no_kernel(wanted, "no boot/vmlinuz-* is in it"));
        }
        if wanted.ends_with(".deb") && path.is_file() {
            let kernels = cache().join("kernels");
            // linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let package = file.split('_').next().unwrap_or(&file);
            return unpack(path, &kernels.join(package));
        }
        if path.is_file() {
            return Ok(image(path));
        }
        Err(no_kernel(wanted, "there is no such file or folder"))
    }
}

fn no_kernel(wanted: &str, cause: &str) -> LabError {
    LabError::NotFound {
        subject: format!("kernel {wanted}"),
        cause: cause.to_owned(),
        help:
            "name a kernel image, a kernel package (.deb) or a folder into which one was unpacked; \
               `auto` takes the distribution's cloud kernel"
                .to_owned(),
    }
}

/// An image by itself: its modules are found where packages put them.
fn image(path: &Path) -> Kernel {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let release = file.split_once('-').map_or("", |(_, release)| release);
    let beside = path.ancestors().nth(2).map(|top| top.join("lib/modules"));
    let modules = beside
        .into_iter()
        .chain(["/lib/modules".into()])
        .map(|folder| folder.join(release))
        .find(|folder| !release.is_empty() && folder.is_dir());
    Kernel {
        image: path.to_owned(),
        modules,
        release: release.to_owned(),
    }
}

/// The newest kernel of a folder into which packages were unpacked.
fn unpacked(folder: &Path) -> Option<Kernel> {
    let mut images: Vec<PathBuf> = fs::read_dir(folder.join("boot"))
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinuz-")
        })
        .collect();
    images.sort_by_key(|path| numbers(&path.to_string_lossy()));
    let image_path = images.pop()?;
    let mut kernel = image(&image_path);
    // Newer distributions keep modules below /usr only.
    let below_usr = folder.join("usr/lib/modules").join(&kernel.release);
    if below_usr.is_dir() {
        kernel.modules = Some(below_usr);
    }
    Some(kernel)
}

/// The numbers of a name, so that 6.1.0-56 is newer than 6.1.0-9.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn auto(kernels: &Path, progress: &dyn Fn(&str)) -> Result<Kernel, LabError> {
    if let Some(kernel) = newest(kernels) {
        return Ok(kernel);
    }
    let package = package_of_distribution()?;
    progress(&format!("fetching {package} (once)"));
    fs::create_dir_all(kernels).map_err(LabError::io("create", kernels))?;
    let folder = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(kernels)
        .map_err(LabError::io("create a folder in", kernels))?;
    let output = Command::new("apt-get")
        .args(["download", "--quiet", &package])
        .current_dir(folder.path())
        .output()
        .map_err(|e| offline(&format!("apt-get cannot be started: {e}")))?;
    if !output.status.success() {
        return Err(offline(&format!(
            "apt-get download {package}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    let deb = fs::read_dir(folder.path())
        .map_err(LabError::io("list", folder.path()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "deb"))
        .ok_or_else(|| offline(&format!("apt-get download {package} brought nothing")))?;
    unpack(&deb, &kernels.join(&package))
}

/// The newest of those that are kept.
fn newest(kernels: &Path) -> Option<Kernel> {
    let mut folders: Vec<PathBuf> = fs::read_dir(kernels)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("linux-image-")
        })
        .collect();
    folders.sort_by_key(|path| numbers(&path.to_string_lossy()));
    folders
        .into_iter()
        .rev()
        .find_map(|folder| unpacked(&folder))
}

fn package_of_distribution() -> Result<String, LabError> {
    let output = Command::new("apt-cache")
        .args(["depends", META])
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| offline(&format!("apt-cache cannot be started: {e}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .map(|rest| format!("linux-image-{rest}"))
        .ok_or_else(|| {
            offline(&format!(
                "apt-cache knows no package {META}; `apt-get update` may help"
            ))
        })
}

fn offline(cause: &str) -> LabError {
    LabError::failed(
        "kernel auto",
        cause,
        format!(
            "machines boot the distribution's cloud kernel: put its package (linux-image-*-cloud-amd64_*.deb) on \
             this machine and say `weft lab kernel FILE.deb`, which unpacks it into {}",
            cache()
                .join("kernels/linux-image-VERSION-cloud-amd64")
                .display()
        ),
    )
}

/// Unpacks a package beside `to` and renames it there.
fn unpack(deb: &Path, to: &Path) -> Result<Kernel, LabError> {
    let no_kernel_in = || no_kernel(&deb.display().to_string(), "no boot/vmlinuz-* is in it");
    if to.is_dir() {
        return unpacked(to).ok_or_else(no_kernel_in);
    }
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(LabError::io("create", parent))?;
    let beside = tempfile::Builder::new()
        .prefix(".unpack-")
        .tempdir_in(parent)
        .map_err(LabError::io("create a folder in", parent))?;
    let failed = |cause: String| {
        LabError::failed(
            format!("kernel {}", deb.display()),
            cause,
            "install the package dpkg, or unpack it elsewhere and name the folder",
        )
    };
    let tree = beside.path().join("tree");
    let output = Command::new("dpkg-deb")
        .arg("-x")
        .arg(deb)
        .arg(&tree)
        .output()
        .map_err(|e| failed(format!("dpkg-deb cannot be started: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("dpkg-deb -x: {}", said.trim())));
    }
    unpacked(&tree).ok_or_else(no_kernel_in)?;
    match fs::rename(&tree, to) {
        Ok(()) => {}
        // Another lab was faster.
        Err(_) if to.is_dir() => {}
        Err(error) => return Err(LabError::io("rename to", to)(error)),
    }
    unpacked(to).ok_or_else(no_kernel_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(folder: &Path, release: &str) {
        fs::create_dir_all(folder.join("boot")).unwrap();
        fs::create_dir_all(folder.join("lib/modules").join(release)).unwrap();
        fs::write(folder.join("boot").join(format!("vmlinuz-{release}")), "").unwrap();
    }

    #[test]
    fn the_newest_kernel_that_is_kept_is_taken_with_its_modules() {
        let dir = tempfile::tempdir().unwrap();
        for release in ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64"] {
            tree(&dir.path().join(format!("linux-image-{release}")), release);
        }
        fs::create_dir_all(dir.path().join("linux-image-9.9-broken")).unwrap();
        let kernel = newest(dir.path()).unwrap();
        assert_eq!(kernel.release, "6.1.0-56-cloud-amd64");
        assert!(
            kernel
                .modules
                .unwrap()
                .ends_with("lib/modules/6.1.0-56-cloud-amd64")
        );
    }

    #[test]
    fn what_is_not_there_is_said_with_what_would_do() {
        let error = Kernel::find("/no/such/kernel", &|_| {}).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("auto"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let error = Kernel::find(&dir.path().to_string_lossy(), &|_| {}).unwrap_err();
        assert!(error.to_string().contains("boot/vmlinuz"), "{error}");
    }
}
