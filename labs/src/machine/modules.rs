//! The kernel's modules that a machine loads, with what each needs, in the order of loading.
//!
//! Read from the modules themselves: a kernel package that was only unpacked has no `modules.dep`. Owns the list
//! of what nodes and labs use. Never: loads anything here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::{Object, ObjectSection};

/// Without these a machine neither speaks to its keeper nor sends a packet.
pub(crate) const DRIVERS: [&str; 3] = ["virtio_pci", "virtio_console", "virtio_net"];
/// What nodes and labs use, where the kernel has it as a module.
pub(crate) const USED: [&str; 19] = [
    "virtio_rng",
    "virtio_blk",
    "veth",
    "vxlan",
    "bridge",
    "overlay",
    "sch_ingress",
    "cls_bpf",
    "sch_netem",
    "openvswitch",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_ct",
    "nft_nat",
    "nft_connlimit",
    "nft_fib_inet",
    "nf_conntrack",
    "macvlan",
];

/// A module as its own `.modinfo` section tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its name, with `_` for `-`.
    pub(crate) name: String,
    /// The file, decompressed.
    pub(crate) bytes: Vec<u8>,
}

/// The modules of one kernel.
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Lists `lib/modules/RELEASE`.
    pub(crate) fn of(folder: &Path) -> io::Result<Modules> {
        let mut files = BTreeMap::new();
        collect(folder, &mut files)?;
        let builtin = std::fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin.lines().filter_map(name_of).collect();
        Ok(Modules { files, builtin })
    }

    /// Whether the kernel has it at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.builtin.contains(name)
    }

    /// These and all that they need, each after what it needs, without what is built in and without
    /// `left_out` and what needs those.
    pub(crate) fn in_order(&self, wanted: &[&str], left_out: &[String]) -> io::Result<Vec<Module>> {
        let mut order = Order {
            modules: self,
            left_out,
            done: BTreeMap::new(),
            order: Vec::new(),
        };
        for name in wanted {
            order.add(name)?;
        }
        Ok(order.order)
    }
}

struct Order<'a> {
    modules: &'a Modules,
    left_out: &'a [String],
    /// Whether it can be loaded; set before its needs are followed, so that a circle ends.
    done: BTreeMap<String, bool>,
    order: Vec<Module>,
}

impl Order<'_> {
    /// Whether this one will be there.
    fn add(&mut self, name: &str) -> io::Result<bool> {
        if let Some(known) = self.done.get(name) {
            return Ok(*known);
        }
        if self.left_out.iter().any(|out| out == name) {
            self.done.insert(name.to_owned(), false);
            return Ok(false);
        }
        let Some(path) = self.modules.files.get(name) else {
            return Ok(self.modules.builtin.contains(name));
        };
        self.done.insert(name.to_owned(), true);
        let bytes = read(path)?;
        let (needs, wishes) = needs(&bytes).map_err(|e| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {e}", path.display()),
            )
        })?;
        for wish in &wishes {
            self.add(wish)?;
        }
        for need in &needs {
            if !self.add(need)? {
                self.done.insert(name.to_owned(), false);
                return Ok(false);
            }
        }
        self.order.push(Module {
            name: name.to_owned(),
            bytes,
        });
        Ok(true)
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = path.to_str().and_then(name_of) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/net/sched/cls_bpf.ko.xz` is `cls_bpf`; file names may have `-` for `_`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, ending) = file.split_once(".ko")?;
    matches!(ending, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

/// The module, decompressed by the program for it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let program = match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return std::fs::read(path),
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| io::Error::other(format!("{program}: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{program}: {}", said.trim())));
    }
    Ok(output.stdout)
}

/// What must be loaded before it, and what should be: `depends=a,b` and `softdep=pre: c d`.
fn needs(module: &[u8]) -> Result<(Vec<String>, Vec<String>), object::Error> {
    let file = object::File::parse(module)?;
    let info = match file.section_by_name(".modinfo") {
        Some(section) => section.data()?,
        None => &[],
    };
    Ok(read_info(info))
}

fn read_info(info: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut needs, mut wishes) = (Vec::new(), Vec::new());
    let name = |text: &str| text.replace('-', "_");
    for line in info.split(|byte| *byte == 0) {
        let line = String::from_utf8_lossy(line);
        if let Some(names) = line.strip_prefix("depends=") {
            needs.extend(names.split(',').filter(|n| !n.is_empty()).map(name));
        } else if let Some(names) = line.strip_prefix("softdep=pre:") {
            let pre = names.split("post:").next().unwrap_or_default();
            wishes.extend(pre.split_whitespace().map(name));
        }
    }
    (needs, wishes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_become_module_names() {
        assert_eq!(
            name_of("kernel/lib/crc-t10dif.ko").as_deref(),
            Some("crc_t10dif")
        );
        assert_eq!(name_of("net/cls_bpf.ko.xz").as_deref(), Some("cls_bpf"));
        assert_eq!(name_of("modules.order"), None);
        assert_eq!(name_of("a.ko.old"), None);
    }

    #[test]
    fn a_module_tells_what_it_needs() {
        let info = b"license=GPL\0depends=udp_tunnel,ip6-udp-tunnel\0softdep=pre: crc32c post: x\0name=vxlan\0";
        let (needs, wishes) = read_info(info);
        assert_eq!(needs, ["udp_tunnel", "ip6_udp_tunnel"]);
        assert_eq!(wishes, ["crc32c"]);
        assert_eq!(read_info(b"depends=\0").0, Vec::<String>::new());
    }
}
