//! Capabilities by name: which exist, which a container may ask for, and why others are refused.
//! Numbers are those of linux/capability.h. Pure.

use crate::error::Error;

/// Every capability, at its number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Harmless where the container's root is an unprivileged user of the host.
const IN_USER_NAMESPACE: [&str; 19] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_CHROOT",
    "SYS_NICE",
    "SETFCAP",
    "SYS_PTRACE",
];

/// Harmless also where the container's user is one of the host's: none of them leads to another user or to its files.
const IN_HOST_NAMESPACE: [&str; 4] = ["KILL", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW"];

/// How many numbers the kernel may know: it is asked for each up to the first that it does not.
pub(crate) const NUMBERS: u32 = 64;

/// The set that `names` ask for, as a mask of bits.
pub(crate) fn mask(id: &str, names: &[String], user_namespace: bool) -> Result<u64, Error> {
    names.iter().try_fold(0, |mask, name| {
        Ok(mask | 1 << number(id, name, user_namespace)?)
    })
}

fn number(id: &str, name: &str, user_namespace: bool) -> Result<usize, Error> {
    let Some(number) = NAMES.iter().position(|known| *known == name) else {
        return Err(Error::UnknownCapability {
            id: id.to_owned(),
            name: name.to_owned(),
        });
    };
    let refused = |cause| {
        Err(Error::RefusedCapability {
            id: id.to_owned(),
            name: name.to_owned(),
            cause,
        })
    };
    if !IN_USER_NAMESPACE.contains(&name) {
        refused("it reaches beyond a container, to the machine itself")
    } else if !user_namespace && !IN_HOST_NAMESPACE.contains(&name) {
        refused(
            "without user namespaces, which this machine does not offer, it reaches the machine itself",
        )
    } else {
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, user_namespace: bool) -> Result<u64, Error> {
        mask("c", &[name.to_owned()], user_namespace)
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(one("NET_RAW", true).unwrap(), 1 << 13);
        assert_eq!(one("SETFCAP", true).unwrap(), 1 << 31);
        assert_eq!(mask("c", &[], true).unwrap(), 0);
    }

    #[test]
    fn the_rest_is_refused_with_a_reason() {
        assert!(matches!(
            one("CAP_NET_RAW", true),
            Err(Error::UnknownCapability { .. })
        ));
        for name in ["SYS_ADMIN", "SYS_MODULE", "BPF", "SYS_RAWIO", "MKNOD"] {
            assert!(
                matches!(one(name, true), Err(Error::RefusedCapability { .. })),
                "{name}"
            );
        }
        assert!(one("DAC_OVERRIDE", true).is_ok());
        for name in [
            "DAC_OVERRIDE",
            "DAC_READ_SEARCH",
            "SETUID",
            "SETGID",
            "CHOWN",
        ] {
            let refused = one(name, false);
            assert!(
                matches!(refused, Err(Error::RefusedCapability { .. })),
                "{name}"
            );
        }
        assert!(one("NET_RAW", false).is_ok());
    }
}
