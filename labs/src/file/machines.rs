//! What `[[node]]` says of virtual machines, and what a backend cannot do: refused with its place, never ignored.

use std::ops::Range;

use super::nodes::NodeTable;
use crate::backend::{Backend, LACKS_PROGRAMS};
use crate::diagnose::Mistakes;
use crate::tables::{Value, items_of, span_of, text_of};

/// Memory of a machine for which the file names none: three nodes of the built-in topologies fit a small computer.
const MEMORY_MIB: u32 = 512;
/// Less does not hold the kernel, weft and a store.
const MEMORY_MIN_MIB: u32 = 256;
/// What a machine without other programs can run.
const WEFT: [&str; 3] = ["/.weft", "/usr/bin/weft", "weft"];

/// The virtual machine of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineTable {
    /// Its memory, in MiB.
    pub memory_mib: u32,
    /// What it boots: `auto`, or a path.
    pub kernel: String,
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
    let memory_mib = match &table.memory {
        None => MEMORY_MIB,
        Some(text) => mebibytes(text).unwrap_or_else(|| {
            mistakes.add(
                span_of(item, "memory"),
                format!("{text:?} is no memory of a node"),
                "this",
                format!("write \"{MEMORY_MIB}M\" or \"1G\", at least {MEMORY_MIN_MIB}M"),
            );
            MEMORY_MIB
        }),
    };
    MachineTable {
        memory_mib,
        kernel: table.kernel.clone().unwrap_or_else(|| "auto".to_owned()),
    }
}

/// `512M`, `2G`.
fn mebibytes(text: &str) -> Option<u32> {
    let number = |digits: &str| digits.parse::<u32>().ok();
    let mebibytes = match text.strip_suffix('G') {
        Some(digits) => number(digits)?.checked_mul(1024)?,
        None => number(text.strip_suffix('M')?)?,
    };
    (mebibytes >= MEMORY_MIN_MIB).then_some(mebibytes)
}

/// Refuses programs that machines do not have: of containers of the machine's own root, and of `run` steps.
pub(super) fn check_programs(
    backend: Backend,
    containers: &[Value<'_>],
    steps: &[Value<'_>],
    mistakes: &mut Mistakes,
) {
    if backend != Backend::Qemu {
        return;
    }
    for item in containers {
        if text_of(item, "image").is_none_or(|image| image == "host") {
            check(first(item), "/.weft", mistakes);
        }
    }
    for item in steps {
        let run = item.get_ref().as_table().and_then(|step| step.get("run"));
        if let Some(run) = run {
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
                "use a function of weft's own, such as [\"{weft}\", \"function\", \"serve\", \"tcp/80\"], or run the \
                 lab with --backend netns"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_both_units() {
        assert_eq!(mebibytes("512M"), Some(512));
        assert_eq!(mebibytes("2G"), Some(2048));
        for bad in ["512", "64M", "1.5G", "", "9999999G"] {
            assert_eq!(mebibytes(bad), None, "{bad}");
        }
    }
}
