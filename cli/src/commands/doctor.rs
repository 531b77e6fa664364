//! `weft doctor`: what this machine offers, and what to do about what it lacks. Nodes and labs ask it
//! before they start.

use std::path::Path;

use serde_json::json;
use weft_agent::features::{Feature, probe};

use crate::fail::{Done, Failure};
use crate::output;

/// Fewer open files than this do not carry a node with many containers and watches.
const OPEN_FILES: u64 = 4096;

/// Runs it; exit code 1 when something required is missing.
pub fn run(json: bool) -> Done {
    let features = look();
    let missing = features.iter().any(|f| f.required && !f.present);
    if json {
        for f in &features {
            println!(
                "{}",
                json!({ "name": f.name, "present": f.present, "required": f.required, "why": f.why })
            );
        }
    } else {
        let rows = features.iter().map(|f| [f.name.to_owned(), verdict(f), f.why.to_owned()]);
        output::table(["FEATURE", "HERE", "WHAT IT IS FOR"], rows);
    }
    Ok(u8::from(missing))
}

fn verdict(feature: &Feature) -> String {
    match (feature.present, feature.required) {
        (true, _) => "yes",
        (false, true) => "MISSING",
        (false, false) => "no",
    }
    .to_owned()
}

/// Refuses to go on without what is required.
pub fn require(subject: &str) -> Result<(), Failure> {
    if !nix_root() {
        return Err(Failure::refused(
            format!("{subject}: needs root: namespaces, links and BPF programs are made"),
            "run it with sudo",
        ));
    }
    judge(subject, &look())
}

fn judge(subject: &str, features: &[Feature]) -> Result<(), Failure> {
    let missing: Vec<&Feature> = features.iter().filter(|f| f.required && !f.present).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|f| f.name).collect();
    let why: Vec<String> = missing.iter().map(|f| format!("{}: {}", f.name, f.why)).collect();
    Err(Failure::refused(
        format!("{subject}: this machine lacks {}", names.join(", ")),
        format!("{}; `weft doctor` shows all", why.join("; ")),
    ))
}

fn look() -> Vec<Feature> {
    let feature = |name, present, required, why| Feature { name, present, required, why };
    let mut all = vec![feature("root", nix_root(), true, "namespaces, links and BPF programs: use sudo")];
    all.extend(probe());
    all.extend([
        feature(
            "namespaces",
            ["net", "mnt", "pid", "uts", "ipc"]
                .iter()
                .all(|kind| Path::new("/proc/self/ns").join(kind).exists()),
            true,
            "containers: needs CONFIG_NAMESPACES",
        ),
        feature(
            "user-namespaces",
            Path::new("/proc/self/ns/user").exists(),
            false,
            "containers whose root is nobody outside: needs CONFIG_USER_NS",
        ),
        feature(
            "cgroups",
            Path::new("/sys/fs/cgroup").exists(),
            true,
            "containers' limits and clean-up: mount cgroup v2 (or v1) at /sys/fs/cgroup",
        ),
        feature(
            "veth",
            Path::new("/sys/module/veth").exists() || builtin("veth"),
            false,
            "containers' interfaces: needs CONFIG_VETH (loaded on first use where it is a module)",
        ),
        feature(
            "open-files",
            open_files().is_none_or(|limit| limit >= OPEN_FILES),
            false,
            "many containers on a node: raise it with `ulimit -n 65536`",
        ),
    ]);
    all
}

/// Whether a module is part of the kernel itself.
fn builtin(module: &str) -> bool {
    Path::new("/sys/module").join(module).exists()
        || std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .ok()
            .and_then(|release| {
                let list = format!("/lib/modules/{}/modules.builtin", release.trim());
                std::fs::read_to_string(list).ok()
            })
            .is_some_and(|list| list.contains(&format!("/{module}.ko")))
}

fn nix_root() -> bool {
    // Capabilities decide, not the number: effective CAP_SYS_ADMIN is bit 21 (linux/capability.h).
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok())
        .is_some_and(|caps| caps & (1 << 21) != 0)
}

fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(name: &'static str, present: bool, required: bool) -> Feature {
        Feature { name, present, required, why: "use a newer kernel" }
    }

    #[test]
    fn a_kernel_without_what_is_required_is_named_with_the_next_step() {
        let features = [feature("bpf-tc", false, true), feature("tcx", false, false)];
        let failure = judge("lab two-tenants", &features).unwrap_err();
        assert_eq!(failure.code, 4);
        assert_eq!(failure.message, "lab two-tenants: this machine lacks bpf-tc");
        assert!(failure.help.contains("bpf-tc: use a newer kernel"));
        assert!(judge("x", &features[1..]).is_ok());
    }
}
