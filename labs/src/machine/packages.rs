//! Programs of the distribution for machines: packages with all that they need, in an image that is never written.
//!
//! Owns `<cache>/packages/`: one image for each set of package files, so that a newer version makes another one. An
//! image is complete when it is there. apt resolves and fetches, as for a machine on which nothing is installed, from
//! the same lists as the kernel: so both are of one release. Packages are unpacked and not installed: none of their
//! scripts runs, here or in the machine; only the links that they would make by `update-alternatives` are there, for
//! programs go by them (awk, ovs-vswitchd). Needs no root.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};

use super::kernel::cache;
use crate::disk::{self, MKFS};
use crate::error::LabError;

/// What stands in the keys of images; another way of making them has another one.
const FORMAT: &str = "2";
/// The folders that are links in every present distribution (file-hierarchy(7)); packages may name either.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Would change folders into links when it is installed, with an interpreter for it; they are made as links here.
const NOT_NEEDED: &str = "usrmerge-";
/// A block of the image's file system, in bytes.
const BLOCK: u64 = 4096;
/// Room in the image for what the file system itself needs, in blocks and files.
const SPARE_BLOCKS: u64 = 4096;
const SPARE_FILES: u64 = 256;

/// The image of these packages and of what they need; made if it is not kept.
pub fn image(packages: &[String], progress: &dyn Fn(&str)) -> Result<PathBuf, LabError> {
    let kept = cache().join("packages");
    fs::create_dir_all(&kept).map_err(LabError::io("create", &kept))?;
    let last = kept.join(format!("last-{}", hash(&packages.join(" "))));
    match newest(packages, &kept, progress) {
        Ok(image) => {
            if let Some(name) = image.file_name() {
                // Only of use when they cannot be fetched any more.
                let _ = fs::write(last, name.as_encoded_bytes());
            }
            Ok(image)
        }
        Err(cause) => match fs::read_to_string(&last).map(|name| kept.join(name)) {
            Ok(image) if image.is_file() => {
                progress("taking packages as they were fetched last");
                Ok(image)
            }
            _ => Err(LabError::failed(
                format!("packages {}", packages.join(" ")),
                cause,
                "they come from this machine's distribution (Debian, Ubuntu), once: look for the names with \
                 `apt-cache search`, and have its lists by `apt-get update`",
            )),
        },
    }
}

/// Of the versions that apt knows of now.
fn newest(packages: &[String], kept: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, String> {
    let files = resolve(packages)?;
    let image = kept.join(format!("{}.ext4", hash(&files)));
    if image.is_file() {
        return Ok(image);
    }
    progress(&format!("fetching packages {} (once)", packages.join(" ")));
    let beside = tempfile::Builder::new()
        .prefix(".make-")
        .tempdir_in(kept)
        .map_err(|e| format!("{}: {e}", kept.display()))?;
    let told = |e: io::Error| format!("{}: {e}", beside.path().display());
    fetch(packages, beside.path())?;
    let tree = beside.path().join("tree");
    merged(&tree).map_err(told)?;
    let mut links = Vec::new();
    for entry in fs::read_dir(archives(beside.path())).map_err(told)? {
        let file = entry.map_err(told)?.path();
        if file.extension().is_some_and(|ending| ending == "deb") {
            unpack(&file, &tree)?;
            links.extend(alternatives(&script(&file)));
        }
    }
    for (link, program) in links {
        let link = tree.join(link.trim_start_matches('/'));
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(told)?;
        }
        // The first of several that offer the same stays.
        let _ = symlink(program, link);
    }
    a_shell(&tree).map_err(told)?;
    let made = beside.path().join("image");
    write(&tree, &made)?;
    // Another lab may have been faster; its image is the same.
    fs::rename(&made, &image).map_err(told)?;
    Ok(image)
}

fn hash(text: &str) -> String {
    let sum = Sha256::digest(format!("{FORMAT}\n{text}"));
    sum.iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// apt for a machine that has nothing yet; it locks nothing, for it changes nothing of this machine's.
fn apt(packages: &[String], more: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-qq", "-y", "--no-install-recommends"])
        .args([
            "-o",
            "Dir::State::status=/dev/null",
            "-o",
            "Debug::NoLocking=1",
        ])
        .args(more)
        .args(packages)
        .arg(NOT_NEEDED)
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// The package files by name, size and sum, a line each, in order.
fn resolve(packages: &[String]) -> Result<String, String> {
    let output = run(&mut apt(packages, &["--print-uris"]))?;
    let files = files(&String::from_utf8_lossy(&output.stdout));
    if files.is_empty() {
        return Err("apt-get names no file for them".to_owned());
    }
    Ok(files)
}

/// `'URI' NAME SIZE SUM`, where the address may change and the file is the same.
fn files(printed: &str) -> String {
    let after = |line: &str| {
        Some(
            line.trim()
                .strip_prefix('\'')?
                .split_once("' ")?
                .1
                .to_owned(),
        )
    };
    let mut files: Vec<String> = printed.lines().filter_map(after).collect();
    files.sort();
    files.join("\n")
}

fn archives(folder: &Path) -> PathBuf {
    folder.join("archives")
}

fn fetch(packages: &[String], folder: &Path) -> Result<(), String> {
    let partial = archives(folder).join("partial");
    fs::create_dir_all(&partial).map_err(|e| format!("{}: {e}", partial.display()))?;
    let to = format!("Dir::Cache={}", folder.display());
    run(&mut apt(packages, &["--download-only", "-o", &to])).map(drop)
}

fn merged(tree: &Path) -> io::Result<()> {
    for name in MERGED {
        fs::create_dir_all(tree.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), tree.join(name))?;
    }
    Ok(())
}

fn unpack(deb: &Path, tree: &Path) -> Result<(), String> {
    let mut package = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("dpkg-deb cannot be started: {e}"))?;
    let mut tar = Command::new("tar");
    // What a package has below /lib goes where the link leads.
    tar.args(["-x", "--keep-directory-symlink", "--numeric-owner", "-C"])
        .arg(tree);
    if let Some(files) = package.stdout.take() {
        tar.stdin(files);
    }
    let unpacked = run(&mut tar);
    let status = package.wait().map_err(|e| format!("dpkg-deb: {e}"))?;
    unpacked?;
    if status.success() {
        return Ok(());
    }
    Err(format!(
        "dpkg-deb --fsys-tarfile {}: {status}",
        deb.display()
    ))
}

/// What a package runs when it has been installed; nothing, if it has no such script.
fn script(deb: &Path) -> String {
    let mut tell = Command::new("dpkg-deb");
    tell.arg("-I").arg(deb).arg("postinst").stdin(Stdio::null());
    let output = run(&mut tell).map(|output| output.stdout);
    String::from_utf8_lossy(&output.unwrap_or_default()).into_owned()
}

/// Link and program of each `update-alternatives --install LINK NAME PROGRAM PRIORITY` of a script.
fn alternatives(script: &str) -> Vec<(String, String)> {
    let joined = script.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in joined
        .lines()
        .filter(|line| line.contains("update-alternatives"))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let options = words.iter().enumerate();
        for (at, _) in options.filter(|(_, word)| matches!(**word, "--install" | "--slave")) {
            if let [link, _, program, ..] = words[at + 1..]
                && link.starts_with('/')
                && program.starts_with('/')
            {
                found.push((link.to_owned(), program.to_owned()));
            }
        }
    }
    found
}

/// Debian's busybox is `sh` only by that name, and brings no link.
fn a_shell(tree: &Path) -> io::Result<()> {
    let programs = tree.join("usr/bin");
    if !programs.join("sh").exists() && programs.join("busybox").exists() {
        symlink("busybox", programs.join("sh"))?;
    }
    Ok(())
}

/// Writes the tree to an image; all of it is root's in a machine, whoever unpacked it.
fn write(tree: &Path, image: &Path) -> Result<(), String> {
    let (mut blocks, mut count) = (SPARE_BLOCKS, SPARE_FILES);
    measure(tree, &mut blocks, &mut count).map_err(|e| format!("{}: {e}", tree.display()))?;
    // A tenth for the tables of the file system.
    let blocks = blocks + blocks / 10;
    let mut mkfs = if nix::unistd::geteuid().is_root() {
        Command::new(MKFS)
    } else {
        let mut mapped = Command::new("unshare");
        mapped.args(["--map-root-user", "--", MKFS]);
        mapped
    };
    mkfs.stdin(Stdio::null())
        .env("PATH", disk::administrators())
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-b"])
        .args([&BLOCK.to_string(), "-N", &count.to_string(), "-d"])
        .args([tree, image])
        .arg(blocks.to_string());
    run(&mut mkfs).map(drop)
}

fn measure(folder: &Path, blocks: &mut u64, count: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        *count += 1;
        *blocks += about.size().div_ceil(BLOCK).max(1);
        if about.is_dir() {
            measure(&entry.path(), blocks, count)?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|e| format!("{name} cannot be started: {e}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{name}: {} {said}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_of_alternatives_are_read_from_scripts() {
        let script = "set -e\nupdate-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n\
                      \t--slave /usr/bin/nawk nawk /usr/bin/mawk\nupdate-alternatives --install $X y $Z 1\n";
        let mawk = "/usr/bin/mawk".to_owned();
        assert_eq!(
            alternatives(script),
            [
                ("/usr/bin/awk".to_owned(), mawk.clone()),
                ("/usr/bin/nawk".to_owned(), mawk)
            ]
        );
    }

    #[test]
    fn the_same_files_from_elsewhere_are_the_same_image() {
        let one = "'http://a/b_1.deb' b_1.deb 10 MD5Sum:0\n'http://a/a_1.deb' a_1.deb 9 \n";
        let two = "'https://m/a_1.deb' a_1.deb 9 \n'https://m/b_1.deb' b_1.deb 10 MD5Sum:0\n";
        assert_eq!(files(one), "a_1.deb 9\nb_1.deb 10 MD5Sum:0");
        assert_eq!(files(one), files(two));
        assert_ne!(hash(&files(one)), hash(&files(one).replace("b_1", "b_2")));
        assert_eq!(files("Reading package lists...\n"), "");
    }

    #[test]
    fn busybox_is_the_shell_only_where_there_is_none() {
        let tree = tempfile::tempdir().unwrap();
        merged(tree.path()).unwrap();
        a_shell(tree.path()).unwrap();
        let shell = tree.path().join("bin/sh");
        assert!(!shell.exists());
        fs::write(tree.path().join("bin/busybox"), "").unwrap();
        a_shell(tree.path()).unwrap();
        assert_eq!(fs::read_link(&shell).unwrap(), Path::new("busybox"));
        // Once more, with one there.
        a_shell(tree.path()).unwrap();
    }
}
