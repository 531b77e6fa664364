//! What `[[node]]` says of virtual machines, and what a backend cannot do: refused with its place, never ignored.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use weft_overlay::NodeName;

use super::nodes::NodeTable;
use crate::backend::{Backend, LACKS_PROGRAMS};
use crate::diagnose::Mistakes;
use crate::tables::{Value, items_of, span_of, text_of};

/// Memory of a machine for which the file names none: three nodes of the built-in topologies fit a small computer.
const MEMORY_MIB: u32 = 512;
/// Less does not hold the kernel, weft and a store.
const MEMORY_MIN_MIB: u32 = 256;
/// Less does not hold a store's log and its snapshots.
const DISK_MIN_MIB: u32 = 64;
/// What a machine without other programs can run.
const WEFT: [&str; 3] = ["/.weft", "/usr/bin/weft", "weft"];

/// The virtual machine of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineTable {
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// What it boots: `auto`, or a path.
    pub kernel: String,
    /// The disk that holds its state, in MiB; none: it is in memory and ends with the machine.
    pub disk_mib: Option<u32>,
    /// The packages whose programs it has, in order and each once.
    pub packages: Vec<String>,
}

/// Reads it from a node's table.
pub(super) fn read(
    table: &NodeTable,
    backend: Backend,
    item: &Value<'_>,
    mistakes: &mut Mistakes,
) -> MachineTable {
    if table.kernel.is_some() && backend == Backend::Netns {
        mistakes.add(
            span_of(item, "kernel"),
            "a node of the backend netns runs on this machine's kernel",
            "another kernel",
            "remove `kernel`, or run the lab with --backend qemu".to_owned(),
        );
    }
    let packages = packages(table, backend, item, mistakes);
    let memory_mib = match &table.memory {
        None => MEMORY_MIB,
        Some(text) => mebibytes(text, MEMORY_MIN_MIB).unwrap_or_else(|| {
            mistakes.add(
                span_of(item, "memory"),
                format!("{text:?} is no memory of a node"),
                "this",
                format!("write \"{MEMORY_MIB}M\" or \"1G\", at least {MEMORY_MIN_MIB}M"),
            );
            MEMORY_MIB
        }),
    };
    let disk_mib = table.disk.as_ref().and_then(|text| {
        let size = mebibytes(text, DISK_MIN_MIB);
        if size.is_none() {
            mistakes.add(
                span_of(item, "disk"),
                format!("{text:?} is no size of a disk"),
                "this",
                format!("write \"1G\" or \"512M\", at least {DISK_MIN_MIB}M"),
            );
        }
        size
    });
    MachineTable {
        packages,
        disk_mib,
        memory_mib,
        kernel: table.kernel.clone().unwrap_or_else(|| "auto".to_owned()),
    }
}

fn packages(
    table: &NodeTable,
    backend: Backend,
    item: &Value<'_>,
    mistakes: &mut Mistakes,
) -> Vec<String> {
    let mut packages = table.packages.clone().unwrap_or_default();
    if backend == Backend::Netns && !packages.is_empty() {
        mistakes.add(
            span_of(item, "packages"),
            "a node of the backend netns has this machine's own programs",
            "other programs",
            "install them on this machine and remove `packages`, or run the lab with --backend qemu"
                .to_owned(),
        );
    }
    for word in items_of(item, "packages") {
        if let Some(name) = word.get_ref().as_str().filter(|name| !is_package(name)) {
            mistakes.add(
                word.span(),
                format!("{name:?} cannot be a package's name"),
                "this",
                "write a name as `apt-cache search` prints it, such as \"busybox-static\""
                    .to_owned(),
            );
        }
    }
    packages.sort();
    packages.dedup();
    packages
}

/// Debian Policy 5.6.7; one that ends with '-' or '+' tells apt something else.
fn is_package(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    name.len() >= 2
        && name.chars().all(inner)
        && !name.starts_with(['+', '-', '.'])
        && !name.ends_with('-')
        && (!name.ends_with('+') || name.ends_with("++"))
}

/// The nodes that are machines with a disk.
pub(super) fn disks(
    backend: Backend,
    nodes: &[NodeName],
    machines: &[MachineTable],
) -> Vec<NodeName> {
    let all = nodes.iter().zip(machines);
    all.filter(|(_, machine)| backend == Backend::Qemu && machine.disk_mib.is_some())
        .map(|(node, _)| node.clone())
        .collect()
}

/// `512M`, `2G`.
fn mebibytes(text: &str, least: u32) -> Option<u32> {
    let number = |digits: &str| digits.parse::<u32>().ok();
    let mebibytes = match text.strip_suffix('G') {
        Some(digits) => number(digits)?.checked_mul(1024)?,
        None => number(text.strip_suffix('M')?)?,
    };
    (mebibytes >= least).then_some(mebibytes)
}

/// Refuses programs that machines do not have: of containers of the machine's own root, and of `run` steps. What is in
/// packages is not known here.
pub(super) fn check_programs(
    backend: Backend,
    nodes: &[NodeName],
    machines: &[MachineTable],
    containers: &[Value<'_>],
    steps: &[Value<'_>],
    mistakes: &mut Mistakes,
) {
    if backend != Backend::Qemu {
        return;
    }
    // A container that may run anywhere has what all nodes have.
    let lacks = |node: Option<&str>| {
        let mut all = nodes.iter().zip(machines);
        all.any(|(name, machine)| {
            node.is_none_or(|node| name.as_str() == node) && machine.packages.is_empty()
        })
    };
    let own_root = |item: &Value<'_>| text_of(item, "image").is_none_or(|image| image == "host");
    for item in containers {
        if own_root(item) && lacks(text_of(item, "node")) {
            check(first(item), "/.weft", mistakes);
        }
    }
    for item in steps {
        let run = item.get_ref().as_table().and_then(|step| step.get("run"));
        let Some(run) = run else { continue };
        let container = text_of(run, "container");
        let container =
            container.and_then(|name| containers.iter().find(|c| text_of(c, "name") == Some(name)));
        let lacking = match container {
            Some(container) => own_root(container) && lacks(text_of(container, "node")),
            None => lacks(text_of(run, "node")),
        };
        if lacking {
            check(first(run), "weft", mistakes);
        }
    }
}

/// The program of a `command`, with its place.
fn first(item: &Value<'_>) -> Option<(String, Range<usize>)> {
    let word = *items_of(item, "command").first()?;
    Some((word.get_ref().as_str()?.to_owned(), word.span()))
}

fn check(program: Option<(String, Range<usize>)>, weft: &str, mistakes: &mut Mistakes) {
    let Some((program, span)) = program else {
        return;
    };
    if !WEFT.contains(&program.as_str()) {
        mistakes.add(
            span,
            format!("{program}: {LACKS_PROGRAMS}"),
            "not there",
            format!(
                "use a function of weft's own, such as [\"{weft}\", \"function\", \"serve\", \"tcp/80\"], give \
                 the node packages = [\"busybox-static\"], or run the lab with --backend netns"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_both_units() {
        assert_eq!(mebibytes("512M", 256), Some(512));
        assert_eq!(mebibytes("2G", 256), Some(2048));
        for bad in ["512", "64M", "1.5G", "", "9999999G"] {
            assert_eq!(mebibytes(bad, 256), None, "{bad}");
        }
    }
}
