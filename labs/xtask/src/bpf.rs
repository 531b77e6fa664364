//! Builds the BPF programs. This needs a compiler with its own library's source and bpf-linker; a plain
//! `cargo build` does not, since the object is checked in with a manifest of its sources' hashes.
//!
//! With rustup: `rustup toolchain install nightly --component rust-src`. On Debian: rustc-web, cargo-web,
//! rust-web-src, which are found at /usr/bin. bpf-linker either way: `cargo install bpf-linker`.
//!
//! When the ABI's version is raised, what was checked in stays as `weft-abi<N>.bpf.o`, without what only debuggers read: the
//! upgrade from it is tested. Those of older versions go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use object::{Object, ObjectSection};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{needs, root};

/// Where the checked-in object comes from. Another compiler makes another object of the same sources.
#[derive(Serialize, Deserialize, PartialEq)]
struct Manifest {
    /// Version of the ABI.
    abi: u32,
    object: String,
    sources: BTreeMap<String, String>,
    toolchain: BTreeMap<String, String>,
}

/// Debian's compiler, which comes with the source of its library.
const DEBIAN: (&str, &str) = ("/usr/bin/rustc", "/usr/bin/cargo");
const TARGET: &str = "bpfel-unknown-none";

/// Whether the toolchain that made the checked-in object is here.
pub fn can_build() -> bool {
    let made_by = read_manifest().map(|m| m.toolchain).unwrap_or_default();
    needs::find("bpf-linker") && toolchain().is_ok_and(|here| here == made_by)
}

/// Builds `ebpf/prebuilt`; with `check`, builds elsewhere and compares.
pub fn run(check: bool) -> anyhow::Result<()> {
    let built = build()?;
    let prebuilt = root().join("ebpf/prebuilt");
    let manifest = Manifest {
        abi: abi()?,
        object: hash(&built)?,
        sources: sources()?,
        toolchain: toolchain()?,
    };
    if check {
        let listed = read_manifest()?;
        let same = listed.sources == manifest.sources
            && listed.toolchain == manifest.toolchain
            && loaded(&prebuilt.join("weft.bpf.o"))? == loaded(&built)?;
        if !same {
            bail!(
                "ebpf/prebuilt is not what ebpf/programs builds to: run `cargo xtask bpf` and commit"
            );
        }
        println!("bpf: ebpf/prebuilt is what the sources build to");
        return Ok(());
    }
    fs::create_dir_all(&prebuilt)?;
    // Without a manifest there is nothing to keep yet.
    if let Ok(listed) = read_manifest()
        && listed.abi + 1 == manifest.abi
    {
        keep(&prebuilt, listed.abi)?;
    }
    fs::copy(&built, prebuilt.join("weft.bpf.o"))?;
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    fs::write(prebuilt.join("manifest.json"), text)?;
    println!("bpf: wrote ebpf/prebuilt/weft.bpf.o");
    Ok(())
}

/// What a kernel gets of an object: code, maps, BTF and the relocations between them. Names of symbols and
/// debug information are left out, since they carry a hash of the folder that was built in.
fn loaded(path: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let file = object::File::parse(&*bytes).with_context(|| path.display().to_string())?;
    let mut sections = BTreeMap::new();
    for section in file.sections() {
        let name = section.name()?.to_owned();
        if !name.contains(".debug") && ![".strtab", ".symtab", ""].contains(&name.as_str()) {
            sections.insert(name, section.data()?.to_vec());
        }
    }
    Ok(sections)
}

/// Keeps the object of this version of the ABI beside the one that is to come, and no other.
fn keep(prebuilt: &Path, abi: u32) -> anyhow::Result<()> {
    let bytes = fs::read(prebuilt.join("weft.bpf.o"))?;
    let mut object = object::build::elf::Builder::read(&*bytes)?;
    for section in &mut object.sections {
        section.delete |= section.name.as_slice().windows(6).any(|w| w == b".debug");
    }
    object.delete_orphans();
    // LLVM has one table for names of sections and of symbols, which the writer keeps apart.
    let names = object.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = object::build::elf::SectionData::SectionString;
    let mut small = Vec::new();
    object.write(&mut small)?;
    for entry in fs::read_dir(prebuilt)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("weft-abi") {
            fs::remove_file(entry.path())?;
        }
    }
    let name = format!("weft-abi{abi}.bpf.o");
    fs::write(prebuilt.join(&name), small)?;
    println!(
        "bpf: kept the object before as ebpf/prebuilt/{name}; say in ebpf/src/migrate.rs which maps mean something else"
    );
    Ok(())
}

/// The version that the sources say.
fn abi() -> anyhow::Result<u32> {
    let path = root().join("ebpf/abi/src/lib.rs");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("pub const ABI_VERSION: u32 = "));
    let number = line.and_then(|rest| rest.trim_end_matches(';').parse().ok());
    number.with_context(|| format!("{}: no ABI_VERSION", path.display()))
}

fn read_manifest() -> anyhow::Result<Manifest> {
    let path = root().join("ebpf/prebuilt/manifest.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn build() -> anyhow::Result<PathBuf> {
    if !needs::find("bpf-linker") {
        bail!(
            "bpf-linker is not here: cargo install bpf-linker (see the header of labs/xtask/src/bpf.rs)"
        );
    }
    let target = root().join("target/bpf");
    let mut command = match Path::new(DEBIAN.0).exists() {
        true => {
            let mut command = Command::new(DEBIAN.1);
            command.env("RUSTC", DEBIAN.0).env("RUSTC_BOOTSTRAP", "1");
            command
        }
        false => {
            let mut command = Command::new("cargo");
            command.arg("+nightly");
            command
        }
    };
    // Paths of this machine stay out of the object, so that it can be rebuilt elsewhere.
    let home = std::env::var("CARGO_HOME")
        .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap_or_default()));
    let flags = format!(
        "-C debuginfo=2 -C link-arg=--btf --remap-path-prefix={}=/weft --remap-path-prefix={home}=/cargo",
        root().display()
    );
    let status = command
        .args([
            "build",
            "--release",
            "-Z",
            "build-std=core",
            "--locked",
            "--target",
            TARGET,
        ])
        .current_dir(root().join("ebpf/programs"))
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", flags)
        .env_remove("RUSTUP_TOOLCHAIN")
        .status()
        .context("cargo cannot be started")?;
    if !status.success() {
        bail!("building ebpf/programs: {status}");
    }
    Ok(target.join(TARGET).join("release/weft"))
}

fn toolchain() -> anyhow::Result<BTreeMap<String, String>> {
    let says = |mut command: Command| -> anyhow::Result<String> {
        let output = command.arg("--version").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" "))
    };
    let rustc = match Path::new(DEBIAN.0).exists() {
        true => Command::new(DEBIAN.0),
        false => {
            let mut command = Command::new("rustc");
            command.arg("+nightly");
            command
        }
    };
    Ok(BTreeMap::from([
        ("rustc".to_owned(), says(rustc)?),
        ("bpf-linker".to_owned(), says(Command::new("bpf-linker"))?),
    ]))
}

fn sources() -> anyhow::Result<BTreeMap<String, String>> {
    let ebpf = root().join("ebpf");
    let mut all = BTreeMap::new();
    for dir in ["abi/src", "programs/src"] {
        for entry in fs::read_dir(ebpf.join(dir))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let path = format!("{dir}/{name}");
            all.insert(path.clone(), hash(&ebpf.join(path))?);
        }
    }
    for path in ["programs/Cargo.toml", "programs/Cargo.lock"] {
        all.insert(path.to_owned(), hash(&ebpf.join(path))?);
    }
    Ok(all)
}

fn hash(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
