//! What this kernel offers to the datapath, for `weft doctor` and for refusing to start with a reason.

use std::path::Path;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};
use aya::util::KernelVersion;

/// A feature of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// Whether weft cannot run without it.
    pub required: bool,
    /// What it is for, and what to do without it.
    pub why: &'static str,
}

/// Oldest kernel that is supported.
pub const OLDEST: (u8, u8, u16) = (6, 1, 0);

/// Looks at the running kernel. Needs root for the BPF probes.
pub fn probe() -> Vec<Feature> {
    let feature = |name, present, required, why| Feature {
        name,
        present,
        required,
        why,
    };
    vec![
        feature(
            "linux-6.1",
            KernelVersion::current()
                .is_ok_and(|kernel| kernel >= KernelVersion::new(OLDEST.0, OLDEST.1, OLDEST.2)),
            true,
            "tunnel keys with a local address and redirect_peer: use Linux 6.1 or newer",
        ),
        feature(
            "bpf-tc",
            is_program_supported(ProgramType::SchedClassifier).unwrap_or(false),
            true,
            "the datapath's programs: needs CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_ACT and root",
        ),
        feature(
            "bpf-ringbuf",
            is_map_supported(MapType::RingBuf).unwrap_or(false),
            true,
            "trace events: needs Linux 5.8 or newer",
        ),
        feature(
            "bpf-lpm-trie",
            is_map_supported(MapType::LpmTrie).unwrap_or(false),
            true,
            "chain selectors by CIDR: needs CONFIG_BPF_SYSCALL",
        ),
        feature(
            "bpffs",
            std::fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("bpf")),
            true,
            "pins that outlive the agent: needs CONFIG_BPF_SYSCALL",
        ),
        feature(
            "tcx",
            crate::hook::Hook::of_kernel() == crate::hook::Hook::Tcx,
            false,
            "program links that are pinned: from Linux 6.6; before, clsact filters are used",
        ),
        feature(
            "btf",
            Path::new("/sys/kernel/btf/vmlinux").exists(),
            false,
            "readable map dumps: needs CONFIG_DEBUG_INFO_BTF",
        ),
    ]
}
