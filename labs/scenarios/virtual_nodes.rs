//! The same labs on virtual machines, with the oldest kernel that is supported. Needs `qemu-system-x86_64`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::lab::{ROOT, down, machine, text, unique, wait_until, weft};
use crate::machine::{self as seen, Traces};

/// Without acceleration, and with other work on the machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn two_tenants_passes_on_machines_and_leaves_nothing() {
    let _machine = machine();
    let name = unique("machines");
    let before = Traces::now(&name);
    let output = Command::new(weft())
        .args([
            "lab",
            "run",
            "two-tenants",
            "--backend",
            "qemu",
            "--name",
            &name,
        ])
        .output()
        .expect("run weft");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for words in [
        "6 of 6 steps passed",
        "into hop",
        "delivered to red/front/web1",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    eprintln!("{said}");
    assert_eq!(Traces::now(&name), before);
}

#[test]
fn a_lab_of_machines_that_is_killed_is_removed_by_its_journal() {
    let _machine = machine();
    let name = unique("cut");
    let before = Traces::now(&name);
    // Once while its machines boot, once later; the journal must do for both.
    for keepers in [1, 3] {
        let mut engine = Command::new(weft())
            .args([
                "lab",
                "up",
                "two-tenants",
                "--backend",
                "qemu",
                "--name",
                &name,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start weft");
        wait_until("machines are started", PATIENCE, || {
            let there = Traces::now(&name).processes;
            let keeps = there.iter().filter(|line| line.contains(" keep ")).count();
            (keeps >= keepers).then_some(())
        });
        seen::signal(engine.id() as i32, "KILL");
        engine.wait().expect("it ends");
        let output = down(&name);
        assert!(output.status.success(), "{}", text(&output));
        assert!(!Path::new(ROOT).join(&name).exists());
        assert_eq!(Traces::now(&name), before);
        let machines = seen::processes().into_iter();
        let left: Vec<_> = machines
            .filter(|process| process.args.iter().any(|arg| arg.contains(&name)))
            .map(|process| process.args)
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
