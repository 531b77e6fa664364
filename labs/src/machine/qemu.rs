//! The command line of QEMU for one machine. Pure, but for looking up where the program is.

use std::path::{Path, PathBuf};

use super::kernel::Kernel;
use super::protocol::{LOG_PORT, PORT};
use crate::error::LabError;

/// The program; its package on Debian and Ubuntu is qemu-system-x86.
const PROGRAM: &str = "qemu-system-x86_64";
/// Files in a machine's folder, which is QEMU's working folder: paths of sockets are limited to 107 bytes (unix(7)).
pub(super) const CONTROL: &str = "control.sock";
pub(super) const CONSOLE: &str = "console";
pub(super) const LOG: &str = "log";
pub(super) const MONITOR: &str = "qmp.sock";
pub(super) const SAID: &str = "qemu.log";

/// Who carries out the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's own translator: works everywhere.
    Tcg,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its address.
    pub mac: String,
    /// What it is joined to.
    pub plug: Plug,
}

/// What a card is joined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plug {
    /// A segment, by datagrams over unix sockets; relative paths begin in the machine's folder.
    Sockets {
        /// The socket of this end.
        local: String,
        /// The socket of the other end.
        remote: String,
    },
    /// A tap device of the network namespace from which the machine is booted.
    Tap(String),
}

impl Plug {
    fn netdev(&self, number: usize) -> String {
        match self {
            Plug::Sockets { local, remote } => format!(
                "dgram,id=net{number},local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"
            ),
            Plug::Tap(device) => {
                format!("tap,id=net{number},ifname={device},script=no,downscript=no")
            }
        }
    }
}

/// What a machine is made of.
pub(super) struct Parts<'a> {
    pub(super) name: &'a str,
    /// On the command line by itself, so that the process is found by it.
    pub(super) id: &'a str,
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a str,
    pub(super) memory_mib: u32,
    pub(super) cpus: u32,
    pub(super) cards: &'a [Card],
    /// The folder of the disk, relative to the machine's.
    pub(super) disk: Option<&'a str>,
    /// The image of its packages.
    pub(super) packages: Option<&'a Path>,
    pub(super) accelerator: Accelerator,
}

/// Where QEMU is.
pub(crate) fn program() -> Result<PathBuf, LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(PROGRAM))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            LabError::failed(
                "backend qemu",
                format!("there is no {PROGRAM} on this machine"),
                "install it (Debian, Ubuntu: `apt-get install qemu-system-x86`; Fedora: `dnf install \
                 qemu-system-x86-core`), or use the backend netns",
            )
        })
}

/// QEMU's arguments.
pub(super) fn arguments(parts: &Parts<'_>) -> Vec<String> {
    let mut args = Args(Vec::new());
    let (machine, cpu) = match parts.accelerator {
        Accelerator::Kvm => ("q35,accel=kvm", "host"),
        Accelerator::Tcg => ("q35,accel=tcg", "max"),
    };
    args.0
        .extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    args.add("-name", parts.id);
    args.add("-display", "none");
    args.add("-machine", machine);
    args.add("-cpu", cpu);
    args.add("-smp", parts.cpus.to_string());
    args.add("-m", format!("{}M", parts.memory_mib));
    args.add("-kernel", parts.kernel.image.to_string_lossy());
    args.add("-initrd", parts.initramfs);
    args.add("-append", kernel_line(parts));
    args.add("-serial", format!("file:{CONSOLE}"));
    args.add("-device", "virtio-rng-pci");
    args.add("-device", "virtio-serial-pci");
    args.add("-chardev", format!("socket,id=control,path={CONTROL}"));
    args.add(
        "-device",
        format!("virtserialport,chardev=control,name={PORT}"),
    );
    args.add("-chardev", format!("socket,id=qmp,path={MONITOR}"));
    args.add("-mon", "chardev=qmp,mode=control");
    args.add("-chardev", format!("file,id=log,path={LOG},append=on"));
    args.add(
        "-device",
        format!("virtserialport,chardev=log,name={LOG_PORT}"),
    );
    if let Some(folder) = parts.disk {
        // What the machine flushes reaches the disk as a flush: nothing is cached here.
        let socket = format!("{folder}/{}", crate::disk::NBD);
        args.add(
            "-blockdev",
            format!("driver=nbd,node-name=disk0,server.type=unix,server.path={socket}"),
        );
        args.add("-device", "virtio-blk-pci,drive=disk0,write-cache=on");
    }
    // After the disk, whose name is the first.
    if let Some(image) = parts.packages {
        // A comma in a value is written twice.
        let image = image.to_string_lossy().replace(',', ",,");
        args.add(
            "-blockdev",
            format!(
                "driver=raw,node-name=packages,read-only=on,file.driver=file,file.filename={image}"
            ),
        );
        args.add("-device", "virtio-blk-pci,drive=packages");
    }
    for (number, card) in parts.cards.iter().enumerate() {
        let mac = &card.mac;
        args.add("-netdev", card.plug.netdev(number));
        // No boot code of the card's own: nothing is booted from it.
        args.add(
            "-device",
            format!("virtio-net-pci,netdev=net{number},mac={mac},romfile="),
        );
    }
    args.0
}

/// What the kernel is told: to say little on the slow console, to end at once when it panics, and to run weft.
fn kernel_line(parts: &Parts<'_>) -> String {
    // Guards against other tenants of a processor cost a translator a quarter of its speed, and guard nobody there.
    let guards = match parts.accelerator {
        Accelerator::Kvm => "",
        Accelerator::Tcg => "mitigations=off ",
    };
    let name = parts.name;
    let disk = if parts.disk.is_some() {
        super::guest::ON_DISK
    } else {
        ""
    };
    let packages = match (parts.packages, parts.disk) {
        (None, _) => "",
        (Some(_), None) => "weft.packages=/dev/vda ",
        (Some(_), Some(_)) => "weft.packages=/dev/vdb ",
    };
    format!(
        "console=ttyS0 loglevel=4 panic=-1 {guards}rdinit={} weft.name={name} {disk}{packages}-- {}",
        super::guest::PROGRAM,
        super::guest::WORD
    )
}

struct Args(Vec<String>);

impl Args {
    fn add(&mut self, name: &str, value: impl AsRef<str>) {
        self.0.extend([name.to_owned(), value.as_ref().to_owned()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_s_id_stands_alone_and_each_card_has_its_segment() {
        let kernel = Kernel {
            image: "/k".into(),
            modules: None,
            release: "6.1".into(),
        };
        let card = |number: usize| Card {
            mac: format!("52:54:00:00:00:0{number}"),
            plug: Plug::Sockets {
                local: format!("net{number}.sock"),
                remote: format!("../segment/{number}.sock"),
            },
        };
        let args = arguments(&Parts {
            name: "n1",
            id: "0123abcd",
            kernel: &kernel,
            initramfs: "../initramfs",
            memory_mib: 512,
            cpus: 1,
            cards: &[card(0), card(1)],
            disk: Some("disk"),
            packages: Some(Path::new("/a,b")),
            accelerator: Accelerator::Tcg,
        });
        assert!(args.iter().any(|arg| arg == "0123abcd"));
        assert_eq!(args.iter().filter(|arg| *arg == "-netdev").count(), 2);
        let line = args.iter().find(|arg| arg.starts_with("console=")).unwrap();
        assert!(
            line.ends_with("weft.name=n1 weft.disk=/dev/vda weft.packages=/dev/vdb -- lab-guest"),
            "{line}"
        );
        assert!(args.iter().any(|arg| arg.ends_with("file.filename=/a,,b")));
    }
}
