//! A lab of machines is saved while a stream passes through it, hurt, and brought back: the stream goes on where it
//! stood, and so do clocks and leases.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::lab::{Lab, ROOT, last_object, objects, text, wait_until, weft};
use crate::machine;

/// Without acceleration, and with other work on the machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Datagrams a second, for how long, and of these how many before the snapshot: a translated processor's pace.
const RATE: &str = "100";
const SECONDS: &str = "20s";
const SENT_AT_LEAST: u64 = 1_800;
const BEFORE: Duration = Duration::from_secs(4);
/// A restored lab is there within this time.
const RESTORED_WITHIN: Duration = Duration::from_secs(5);

/// Of a lab as in `plain.toml`.
pub fn goes_on_from_a_snapshot(lab: &Lab) {
    killed_while_the_lab_stands(lab);
    let address = lab.address("red/b");
    let line = [
        "weft",
        "run",
        "red/steady",
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
    wait_until("the stream runs", PATIENCE, || {
        (lab.state_of("red/steady")? == "running").then_some(())
    });
    // The time of the scenario itself, not a wait for something.
    std::thread::sleep(BEFORE);
    let taken = must(&["snapshot", &lab.name, "mid", "--json"]);
    eprintln!("{taken}");
    assert_eq!(taken["machines"], 3);
    assert_eq!(lab.state_of("red/steady").as_deref(), Some("running"));
    let up = uptime(lab);
    nothing_is_lost(lab);

    // Of the lab as it was nothing is left: one machine is dead, another has lost its agent.
    machine::signal(holder(lab, "n3"), "KILL");
    let output = command(&["kill", &lab.name, "n2"]);
    assert!(output.status.success(), "{}", text(&output));
    let back = must(&["restore", &lab.name, "mid", "--json"]);
    eprintln!("{back}");
    let took = back["restored_in_ms"].as_u64().map(Duration::from_millis);
    assert!(took.is_some_and(|took| took < RESTORED_WITHIN), "{back}");
    assert_eq!(lab.state_of("red/steady").as_deref(), Some("running"));
    let again = uptime(lab);
    assert!(
        again < up + PATIENCE.as_secs_f64() && again > up - 5.0,
        "time since boot goes on from {up} s, not from {again} s"
    );
    let behind = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
        - day(lab);
    assert!(
        behind.abs() < 3.0,
        "the time of day is ours: {behind} s behind"
    );
    // Its lease was of two seconds, and is minutes old by our clock.
    lab.wait_ready("n1", 3);
    assert_eq!(lab.address("red/b"), address);
    nothing_is_lost(lab);

    let output = command(&["restore", &lab.name, "none"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("it has mid"), "{}", text(&output));
}

/// Who takes a snapshot is killed in the middle of it: the lab goes on.
fn killed_while_the_lab_stands(lab: &Lab) {
    let mut engine = Command::new(weft())
        .args(["lab", "snapshot", &lab.name, "cut"])
        .stdout(Stdio::null())
        .spawn()
        .expect("start weft");
    let memory = Path::new(ROOT)
        .join(&lab.name)
        .join("_snapshots/.new/n1.memory");
    wait_until("n1 is being written", PATIENCE, || {
        memory.exists().then_some(())
    });
    machine::signal(engine.id() as i32, "KILL");
    engine.wait().expect("it ends");
    for node in ["n1", "n2", "n3"] {
        lab.wait_ready(node, 3);
    }
}

/// The stream goes on to its end.
fn nothing_is_lost(lab: &Lab) {
    wait_until("the stream has ended", PATIENCE, || {
        let state = lab.state_of("red/steady")?;
        (state != "running").then_some(())
    });
    let result = last_object(&lab.must("n1", &["weft", "logs", "red/steady"]));
    eprintln!("{result}");
    assert_eq!(result["lost"], 0, "{result}");
    let sent = result["sent"].as_u64();
    assert!(sent.is_some_and(|sent| sent >= SENT_AT_LEAST), "{result}");
}

/// Seconds since the boot of n1.
fn uptime(lab: &Lab) -> f64 {
    let text = file(lab, "/proc/uptime");
    let first = text.split_whitespace().next();
    first.and_then(|s| s.parse().ok()).expect("proc(5), uptime")
}

/// The time of day on n1, seconds since the epoch.
fn day(lab: &Lab) -> f64 {
    let stat = file(lab, "/proc/stat");
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
    let boot: f64 = boot.and_then(|s| s.parse().ok()).expect("proc(5), btime");
    boot + uptime(lab)
}

fn file(lab: &Lab, path: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file");
    let from = format!("n1:{path}");
    let output = command(&["cp", &lab.name, &from, to.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    std::fs::read_to_string(to).unwrap()
}

/// The process that a node lives and dies with.
pub fn holder(lab: &Lab, node: &str) -> i32 {
    let inspected = must(&["inspect", &lab.name, "--json"]);
    let nodes = inspected["nodes"].as_array().expect("nodes").iter();
    let mut found = nodes.filter(|one| one["node"] == node);
    found
        .next()
        .and_then(|one| one["holder"].as_i64())
        .expect("a holder") as i32
}

pub fn command(words: &[&str]) -> Output {
    let mut command = Command::new(weft());
    command.arg("lab").args(words).output().expect("run weft")
}

/// What a command of `weft lab` says in JSON.
pub fn must(words: &[&str]) -> Value {
    let output = command(words);
    assert!(output.status.success(), "{}", text(&output));
    objects(&String::from_utf8_lossy(&output.stdout))
        .pop()
        .expect("an object")
}
