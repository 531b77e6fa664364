//! The same labs on virtual machines, with the oldest kernel that is supported. Needs `qemu-system-x86_64`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{
    Lab, PLAIN, ROOT, down, last_object, machine, objects, text, unique, wait_until, weft,
};
use crate::machine::{self as seen, Traces};
use crate::main_job::two_tenants;
use crate::standstill::goes_on_from_a_snapshot;

/// Without acceleration, and with other work on the machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Datagrams a second, and for how long: a translated processor's pace.
const RATE: &str = "100";
const SECONDS: &str = "30s";
const SENT_AT_LEAST: u64 = 2_700;
/// When the agents are killed, and how long they stay away: three lease periods of the lab file.
const KILL_AFTER: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(6);

#[test]
fn two_tenants_passes_on_machines_and_leaves_nothing() {
    two_tenants("machines", &["--backend", "qemu"]);
}

#[test]
fn no_datagram_is_lost_while_agents_are_dead_and_when_the_lab_is_restored() {
    let lab = Lab::up_on("qemu", PLAIN);
    let doctor = objects(&text(&lab.exec("n1", &["weft", "doctor", "--json"])));
    let tcx = doctor.iter().find(|check| check["name"] == "tcx");
    eprintln!(
        "tcx: {}",
        tcx.map_or(&Value::Null, |check| &check["present"])
    );
    let address = lab.address("red/b");
    // As a container of its own: an exec session ends with its agent.
    let line = [
        "weft",
        "run",
        "red/probe",
        "--net",
        "red/front",
        "--node",
        "n1",
        "--restart",
        "no",
        "host",
        "--",
        "/.weft",
        "function",
        "probe",
        "udp/9000",
        &address,
        "--rate",
        RATE,
        "--duration",
        SECONDS,
    ];
    lab.must("n1", &line);
    wait_until("the probe runs", PATIENCE, || {
        (lab.state_of("red/probe")? == "running").then_some(())
    });
    // The times of the scenario itself, not waits for something.
    std::thread::sleep(KILL_AFTER);
    for node in ["n1", "n3"] {
        agent(&lab, "kill", node);
        let asked = lab.exec(node, &["weft", "status"]);
        assert!(
            !asked.status.success(),
            "no agent answers: {}",
            text(&asked)
        );
    }
    std::thread::sleep(AWAY);
    for node in ["n1", "n3"] {
        agent(&lab, "start", node);
    }
    wait_until("the probe has ended", PATIENCE, || {
        (lab.state_of("red/probe")? != "running").then_some(())
    });
    let result = last_object(&lab.must("n1", &["weft", "logs", "red/probe"]));
    eprintln!("{result}");
    assert_eq!(result["lost"], 0, "{result}");
    let sent = result["sent"].as_u64();
    assert!(sent.is_some_and(|sent| sent >= SENT_AT_LEAST), "{result}");
    assert_eq!(lab.address("red/b"), address, "nothing is renumbered");
    goes_on_from_a_snapshot(&lab);
    lab.down();
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

/// `weft lab kill` and `start`.
fn agent(lab: &Lab, verb: &str, node: &str) {
    let output = Command::new(weft())
        .args(["lab", verb, &lab.name, node])
        .output()
        .expect("run weft");
    assert!(output.status.success(), "{}", text(&output));
}
