//! Whether a lab fits into the memory that this machine has left. Judged before anything is made: a machine that
//! runs out of memory ends whatever it finds, also what is not the lab's.

use crate::backend::Backend;
use crate::error::LabError;
use crate::file::LabFile;

/// A node in namespaces with its agent, store member and two containers: three of them, debug build, took 405 MiB of
/// MemAvailable on Linux 6.18 (two-tenants, a minute after its start).
const NAMESPACES_MIB: u64 = 136;

/// Refuses a lab that needs more than there is.
pub(super) fn check(lab: &LabFile) -> Result<(), LabError> {
    let path = "/proc/meminfo";
    let text = std::fs::read_to_string(path).map_err(LabError::io("read", path))?;
    // Linux has told it since 3.14 (proc(5)); where it is hidden nothing can be judged.
    available(&text).map_or(Ok(()), |there| judge(lab, there))
}

/// MemAvailable, in MiB.
fn available(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024)
}

fn judge(lab: &LabFile, there: u64) -> Result<(), LabError> {
    let count = lab.nodes.len();
    let (needed, how, help) = match lab.backend {
        Backend::Netns => {
            let how = format!("{count} nodes of about {NAMESPACES_MIB} MiB");
            let help = "take fewer nodes";
            (count as u64 * NAMESPACES_MIB, how, help)
        }
        Backend::Qemu => {
            let sizes = lab
                .machines
                .iter()
                .map(|machine| u64::from(machine.memory_mib));
            let how = format!("the memory of {count} machines");
            let help = "give its nodes less (`memory = \"256M\"`), or take fewer";
            (sizes.sum(), how, help)
        }
    };
    if needed <= there {
        return Ok(());
    }
    Err(LabError::Refused {
        subject: format!("lab {}", lab.name),
        cause: format!("it needs {needed} MiB ({how}), and this machine has {there} MiB available"),
        help: format!("{help}, or take other labs down (`weft lab ls`)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn a_lab_that_does_not_fit_is_refused_with_figures() {
        let said = |backend: &str, there: u64| {
            let (lab, _) = builtin::read("two-tenants", Some(backend)).unwrap();
            judge(&lab, there).map_err(|error| (error.exit_code(), error.to_string()))
        };
        assert_eq!(said("netns", 408), Ok(()));
        let (code, told) = said("netns", 407).unwrap_err();
        assert_eq!(code, 4);
        assert!(
            told.contains(
                "it needs 408 MiB (3 nodes of about 136 MiB), and this machine has 407 MiB"
            ),
            "{told}"
        );
        assert_eq!(said("qemu", 1536), Ok(()));
        let (_, told) = said("qemu", 1535).unwrap_err();
        assert!(
            told.contains("it needs 1536 MiB (the memory of 3 machines)"),
            "{told}"
        );
    }

    #[test]
    fn what_is_available_is_read_in_kib() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:    2048000 kB\n";
        assert_eq!(available(text), Some(2000));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }
}
