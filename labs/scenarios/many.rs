//! Labs come up in time, with many nodes and many times over, and leave nothing of theirs on the machine.
//! Needs `bpftool`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, ROOT, down, machine, objects, text, unique, wait_until, weft};
use crate::machine::{Traces, busy, namespaces_from_before, namespaces_of, processes_of, ticks};

/// Labs in a row, unless WEFT_LABS says otherwise.
const LABS: usize = 3;
/// So many more for a time that is missed: whatever else runs on the machine only adds to it.
const MORE: usize = 2;
/// Three nodes are up and ready.
const THREE_WITHIN: Duration = Duration::from_secs(3);
/// The same for twenty nodes.
const TWENTY_WITHIN: Duration = Duration::from_secs(15);
/// What hangs off a namespace the kernel removes later than it ends its last process.
const KERNEL_WITHIN: Duration = Duration::from_secs(20);

/// What a running lab has made that is not known by the lab's name.
#[derive(Debug, Default)]
struct Made {
    /// Of the latest one only.
    namespaces: BTreeSet<String>,
    programs: BTreeSet<u64>,
    links: BTreeSet<u64>,
}

#[test]
fn labs_in_a_row_are_up_in_time_and_leave_nothing() {
    let labs = std::env::var("WEFT_LABS").ok();
    let labs = labs.map_or(LABS, |text| text.parse().expect("WEFT_LABS: a number"));
    let _machine = machine();
    // One name for all: what one leaves is in the way of the next.
    let name = unique("row");
    let before = Traces::now(&name);
    let mut made = Made::default();
    let mut ready = Vec::new();
    while ready.len() < labs || ready.len() < labs + MORE && !in_time(&ready, THREE_WITHIN) {
        ready.push(up("two-tenants", &name));
        let id = look(&name, &mut made);
        let then = ticks();
        let output = down(&name);
        assert!(output.status.success(), "weft lab down: {}", text(&output));
        wait_until("its namespaces are gone", KERNEL_WITHIN, || {
            let left = namespaces_from_before(then);
            made.namespaces.is_disjoint(&left).then_some(())
        });
        assert_eq!(Traces::now(&name), before);
        assert_eq!(processes_of(&[&name, &id]), BTreeSet::new());
    }
    println!("{} labs of three nodes ready after {ready:?}", ready.len());
    assert!(in_time(&ready, THREE_WITHIN), "{ready:?}");
    let Made {
        namespaces,
        programs,
        links,
    } = made;
    println!(
        "{} namespaces a lab; {} BPF programs and {} BPF links in all",
        namespaces.len(),
        programs.len(),
        links.len()
    );
    assert!(!namespaces.is_empty() && !programs.is_empty());
    wait_until(
        "their BPF programs and links are gone",
        KERNEL_WITHIN,
        || {
            let gone =
                programs.is_disjoint(&ids(&bpf("prog"))) && links.is_disjoint(&ids(&bpf("link")));
            gone.then_some(())
        },
    );
}

#[test]
fn twenty_nodes_are_up_in_time() {
    let mut ready = Vec::new();
    while ready.is_empty() || ready.len() <= MORE && !in_time(&ready, TWENTY_WITHIN) {
        let machine = machine();
        let files = tempfile::tempdir().expect("a folder for the lab's file");
        let file = files.path().join("lab.toml");
        let source = "[lab]\nname = \"twenty\"\n\n[[node]]\nname = \"n\"\ncount = 20\n";
        std::fs::write(&file, source).expect("write the lab's file");
        let name = unique("twenty");
        ready.push(up(file.to_str().expect("a path"), &name));
        let lab = Lab::adopt(machine, name, files);
        lab.wait_ready("n20", 20);
        lab.down();
    }
    println!("twenty nodes ready after {ready:?}");
    assert!(in_time(&ready, TWENTY_WITHIN), "{ready:?}");
}

/// Whether the fastest one was.
fn in_time(ready: &[Duration], within: Duration) -> bool {
    ready.iter().any(|took| *took <= within)
}

/// Brings a lab up; how long its nodes took until all were ready, less what other programs had of the processors.
fn up(source: &str, name: &str) -> Duration {
    let own = BTreeSet::from([std::process::id() as i32]);
    let (all_before, own_before) = busy(&own);
    let begun = Instant::now();
    let output = Command::new(weft())
        .args(["lab", "up", source, "--name", name, "--json"])
        .output()
        .expect("run weft lab up");
    let said = text(&output);
    assert!(output.status.success(), "weft lab up: {said}");
    let phases = objects(&said);
    let phases = ["hosts and underlay", "nodes ready"].map(|wanted| {
        let phase = phases.iter().find(|phase| phase["phase"] == wanted);
        phase
            .and_then(|phase| phase["ms"].as_f64())
            .unwrap_or_else(|| panic!("{wanted}: {said}"))
    });
    let took = phases.iter().sum::<f64>() / 1000.0;
    // The engine is an ended child of this process.
    let ((all, engine), whole) = (busy(&own), begun.elapsed());
    let (_, nodes) = busy(&processes_of(&[name, &id_of(name)]));
    let of_others = (all - all_before).saturating_sub(engine - own_before + nodes);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = of_others as f64 / 100.0 / processors as f64 / whole.as_secs_f64();
    println!(
        "{name}: {took:.2} s, others had {:.0} % of the processors",
        share * 100.0
    );
    Duration::from_secs_f64(took * (1.0 - share.min(1.0)))
}

/// On the command line of all that its engine starts.
fn id_of(name: &str) -> String {
    let journal = Path::new(ROOT).join(name).join("journal");
    let journal = std::fs::read_to_string(journal).expect("the journal");
    let entries = objects(&journal);
    let mut ids = entries.iter().filter_map(|entry| entry["id"].as_str());
    ids.next().expect("the lab's id").to_owned()
}

/// Notes what a running lab has made; its id.
fn look(name: &str, made: &mut Made) -> String {
    let id = id_of(name);
    let own: BTreeSet<String> = namespaces_of(std::process::id() as i32).collect();
    let theirs = processes_of(&[name, &id]);
    assert!(!theirs.is_empty());
    let spaces = theirs.into_iter().flat_map(namespaces_of);
    made.namespaces = spaces.filter(|space| !own.contains(space)).collect();
    for node in ["n1", "n2", "n3"] {
        for (kind, seen) in [("prog", &mut made.programs), ("link", &mut made.links)] {
            // What is pinned where the node is, is the node's.
            let line = [
                "lab", "exec", name, node, "--", "bpftool", "-f", "-j", kind, "show",
            ];
            let output = Command::new(weft()).args(line).output().expect("run weft");
            assert!(output.status.success(), "{}", text(&output));
            let all = objects(&String::from_utf8_lossy(&output.stdout));
            let pinned = all
                .iter()
                .filter(|one| one["pinned"].as_array().is_some_and(|at| !at.is_empty()));
            seen.extend(pinned.filter_map(|one| one["id"].as_u64()));
        }
    }
    id
}

/// All of a kind that the kernel has.
fn bpf(kind: &str) -> Vec<Value> {
    let output = Command::new("bpftool").args(["-j", kind, "show"]).output();
    let output = output.expect("start bpftool (package bpftool)");
    assert!(output.status.success(), "{}", text(&output));
    objects(&String::from_utf8_lossy(&output.stdout))
}

fn ids(all: &[Value]) -> BTreeSet<u64> {
    all.iter().filter_map(|one| one["id"].as_u64()).collect()
}
