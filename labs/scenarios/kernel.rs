//! The oldest kernel that is supported, in a machine of its own: what it has, weft works with; what it lacks, weft
//! names. Needs `qemu-system-x86_64`, and the kernel that `weft lab kernel` brings.

use std::process::Output;

use weft_labs::machine::{Kernel, Machine, Spec};

use crate::lab::{machine as machine_is_ours, objects, text, weft};

/// A machine, ended with the scenario.
struct Booted {
    machine: Machine,
    _folder: tempfile::TempDir,
}

impl Booted {
    /// Boots the distribution's kernel without these modules.
    fn without(modules: &[&str]) -> Booted {
        let folder = tempfile::tempdir().expect("a folder for the machine");
        let kernel = Kernel::find("auto", &|what| eprintln!("{what}"))
            .unwrap_or_else(|e| panic!("a kernel to boot: {e}"));
        let mut spec = Spec::new("old", folder.path(), &weft(), kernel).expect("a machine");
        spec.without = modules.iter().map(|&name| name.to_owned()).collect();
        let machine = Machine::boot(&spec).unwrap_or_else(|e| panic!("{e}"));
        eprintln!("{} in {:?}", machine.kernel, machine.booted_in);
        assert_eq!(machine.not_loaded, [""; 0], "every module is loaded");
        Booted {
            machine,
            _folder: folder,
        }
    }

    fn weft(&self, args: &[&str]) -> Output {
        let line: Vec<&str> = std::iter::once("weft")
            .chain(args.iter().copied())
            .collect();
        self.machine.run(&line).expect("a command in the machine")
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the machine's console\n{}", self.machine.console());
        }
        // It ends with us at the latest.
        let _ = self.machine.kill();
    }
}

#[test]
fn doctor_is_content_with_it() {
    let _ours = machine_is_ours();
    let booted = Booted::without(&[]);
    let output = booted.weft(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let checks = objects(&text(&booted.weft(&["doctor", "--json"])));
    let found = |name: &str| checks.iter().find(|check| check["name"] == name).cloned();
    let kernel = found("linux-6.1").expect("the kernel's check");
    assert_eq!(kernel["found"], booted.machine.kernel.as_str(), "{kernel}");
    if booted.machine.kernel.starts_with("6.1.") {
        let tcx = found("tcx").expect("the check of TCX");
        assert_eq!(tcx["present"], false, "TCX came with 6.6: {tcx}");
    }
    booted.machine.power_off().expect("it switches itself off");
}

#[test]
fn without_vxlan_a_node_is_refused_with_subject_cause_and_next_step() {
    let _ours = machine_is_ours();
    let booted = Booted::without(&["vxlan"]);
    let doctor = booted.weft(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1), "{}", text(&doctor));

    let line = [
        "node",
        "run",
        "--advertise",
        "127.0.0.1",
        "--underlay",
        "lo",
    ];
    let output = booted.weft(&line);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for words in [booted.machine.kernel.as_str(), "vxlan", "modprobe vxlan"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.lines().count() < 24, "one screen: {said}");
}
