//! Rules about the repository that a compiler does not check: who may import whom, which crate alone uses
//! what, what stands at the top, that the map in README.md names what is there.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::root;

/// Crate, its folder, the weft crates that it may import.
const MAY_IMPORT: [(&str, &str, &[&str]); 10] = [
    ("weft-store", "store", &[]),
    ("weft-ebpf-abi", "ebpf/abi", &[]),
    ("weft-ebpf", "ebpf", &["weft-ebpf-abi"]),
    ("weft-overlay", "overlay", &["weft-ebpf-abi"]),
    ("weft-runtime", "runtime", &["weft-overlay"]),
    ("weft-chain", "chain", &["weft-overlay", "weft-ebpf-abi"]),
    (
        "weft-agent",
        "agent",
        &[
            "weft-store",
            "weft-overlay",
            "weft-ebpf",
            "weft-ebpf-abi",
            "weft-runtime",
            "weft-chain",
        ],
    ),
    ("weft", "cli", &["weft-agent", "weft-labs"]),
    ("weft-labs", "labs", &["weft-overlay", "weft-chain"]),
    ("weft-bench", "labs/bench", &["weft-labs", "weft-overlay"]),
];

/// Dependency, and the only crate that may use it.
const ALONE: [(&str, &str); 4] = [
    ("aya", "weft-ebpf"),
    ("openraft", "weft-store"),
    ("sled", "weft-store"),
    ("rtnetlink", "weft-overlay"),
];

/// What may be visible at the top.
const TOP: [&str; 13] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "overlay",
    "ebpf",
    "chain",
    "store",
    "runtime",
    "agent",
    "cli",
    "labs",
];

/// Lines after which a file is asked whether it is still one story.
const LONG: usize = 500;

/// Checks all rules and tells every breach.
pub fn run() -> anyhow::Result<()> {
    let mut breaches = Vec::new();
    for (name, folder, may) in MAY_IMPORT {
        imports(name, folder, may, &mut breaches)?;
    }
    top(&mut breaches)?;
    map(&mut breaches)?;
    long_files(&root())?;
    if breaches.is_empty() {
        println!("tidy: every rule holds");
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    bail!("tidy: {} rules broken", breaches.len())
}

fn imports(
    name: &str,
    folder: &str,
    may: &[&str],
    breaches: &mut Vec<String>,
) -> anyhow::Result<()> {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let manifest: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    // Tests may look at more than the product does.
    let Some(dependencies) = manifest.get("dependencies").and_then(|d| d.as_table()) else {
        return Ok(());
    };
    for dependency in dependencies.keys() {
        let ours = dependency == "weft" || dependency.starts_with("weft-");
        if ours && !may.contains(&dependency.as_str()) {
            breaches.push(format!(
                "{folder}/Cargo.toml: {name} may not import {dependency}"
            ));
        }
        for (alone, owner) in ALONE {
            if dependency == alone && name != owner {
                breaches.push(format!("{folder}/Cargo.toml: {alone} is for {owner} alone"));
            }
        }
    }
    Ok(())
}

fn top(breaches: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != "target" && !TOP.contains(&name.as_str()) {
            breaches.push(format!("{name}: does not belong at the top"));
        }
    }
    Ok(())
}

/// Every path that README.md's map names in backquotes at the start of a table row must be there.
fn map(breaches: &mut Vec<String>) -> anyhow::Result<()> {
    let readme = fs::read_to_string(root().join("README.md")).context("README.md")?;
    let Some((_, map)) = readme.split_once("## Map of the code") else {
        breaches.push("README.md: has no section `Map of the code`".to_owned());
        return Ok(());
    };
    for line in map.lines().filter(|line| line.starts_with("| `")) {
        let path = line
            .trim_start_matches("| `")
            .split('`')
            .next()
            .unwrap_or_default();
        if !root().join(path).exists() {
            breaches.push(format!(
                "README.md: the map names {path}, which is not there"
            ));
        }
    }
    for (_, folder, _) in MAY_IMPORT {
        if !map.contains(&format!("`{folder}")) {
            breaches.push(format!("README.md: the map does not name {folder}"));
        }
    }
    Ok(())
}

fn long_files(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                long_files(&path)?;
            }
        } else if name.ends_with(".rs") {
            let lines = fs::read_to_string(&path)?.lines().count();
            if lines > LONG {
                println!(
                    "tidy: {} has {lines} lines; is it still one story?",
                    path.display()
                );
            }
        }
    }
    Ok(())
}
