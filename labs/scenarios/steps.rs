//! Steps: each kind does what it says, and each fails with its sentence where its promise is broken.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::lab::{machine, text, unique, weft};
use crate::machine::Traces;

const STEPS: &str = include_str!("topologies/steps.toml");
const MORE: &str = include_str!("topologies/steps-more.toml");
const BROKEN: &str = include_str!("topologies/steps-broken.toml");
const MACHINES: &str = include_str!("topologies/steps-machines.toml");
const MACHINES_MORE: &str = include_str!("topologies/steps-machines-more.toml");
const GUARD: &str = include_str!("../topologies/web-guard.toml");

/// Runs a lab from a folder with the files that its steps apply.
fn run(folder: &Path, source: &str, name: &str, more: &[&str]) -> Output {
    let write = |file: &str, text: &str| std::fs::write(folder.join(file), text).expect(file);
    write("lab.toml", source);
    write("more.toml", MORE);
    write("steps-machines-more.toml", MACHINES_MORE);
    write("web-guard.toml", GUARD);
    write("green.toml", &GUARD.replace("\"red\"", "\"green\""));
    let file = folder.join("lab.toml");
    Command::new(weft())
        .args(["lab", "run", file.to_str().unwrap(), "--name", name])
        .args(more)
        .output()
        .expect("run weft")
}

#[test]
fn each_kind_of_step_does_what_it_says_and_leaves_nothing() {
    all_pass("steps", STEPS);
}

/// Needs `qemu-system-x86_64`.
#[test]
fn the_steps_that_hurt_a_lab_do_so_inside_virtual_machines_too() {
    all_pass("inside", MACHINES);
}

fn all_pass(stem: &str, source: &str) {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let name = unique(stem);
    let before = Traces::now(&name);
    let output = run(folder.path(), source, &name, &[]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let steps = source.matches("[[step]]").count();
    let all = format!("{steps} of {steps} steps passed");
    assert!(said.contains(&all), "{said}");
    assert_eq!(Traces::now(&name), before);
}

/// The number in `step 3 at .../lab.toml:40, tried for 1s`.
fn step_at(line: &str) -> Option<usize> {
    let (number, place) = line.strip_prefix("step ")?.split_once(" at ")?;
    place.contains("lab.toml:").then(|| number.parse().ok())?
}

/// The kinds of these steps of a file.
fn kinds_of(source: &str, numbers: &[usize]) -> BTreeSet<String> {
    let file: toml::Table = source.parse().expect("TOML");
    let steps = file["step"].as_array().expect("steps");
    let keys = numbers.iter().flat_map(|number| {
        let step = steps[number - 1].as_table().expect("a table");
        step.keys().cloned()
    });
    keys.filter(|key| key != "within").collect()
}

/// Every kind of step that there is, so that a new one without a broken case fails.
fn all_kinds() -> BTreeSet<String> {
    let schema = weft_labs::schema();
    let step = schema["properties"]["step"]["items"]["properties"].as_object();
    let keys = step.expect("the keys of a step").keys().cloned();
    keys.filter(|key| key != "within").collect()
}

/// What each step that must fail says, in order.
const SENTENCES: [&str; 20] = [
    "expected: an answer from red/web on tcp/81; seen: no answer",
    "expected: the packet goes in and out of firewall; seen: an answer",
    "expected: firewall takes the packet in and keeps it; seen: an answer",
    "expected: no answer, and a drop with reason no_endpoint; seen: an answer",
    "expected: containers in red/front and red/empty; seen: none with an address",
    "expected: `sh -c echo no luck; exit 7` on n1 ends with 0; seen: it ended with 7, no luck; look at: ",
    "expected: `true` on red/a ends with 0 and says \"something\"; seen: it ended with 0",
    "expected: agent n1 does not run and can be started; seen: it runs; look at: ",
    "expected: container red/a is paused; seen: all its 1 processes go on; look at: weft ps",
    "expected: container red/a is exited; seen: running; look at: weft ps, weft logs red/a",
    "expected: node n2 is lost to the others; seen: alive to n1, n3; look at: weft node ls",
    "expected: the file is taken; seen: ",
    "expected: the first answer to stream deaf; seen: ",
    "expected: stream deaf: at most 0 lost; seen: 100 of 100 lost",
    "expected: stream gap: at most 0 lost, no gap over 200ms; seen: ",
    "expected: agent n2 ends by SIGTERM; seen: it goes on; look at: ",
    "expected: node n2 is ready; seen: ",
    "expected: container red/once runs; seen: no process of it; look at: weft ps",
    "expected: link n1 to n2 is set down; seen: ",
    "expected: some frames of tcp/9 on link n1 to n3; seen: 0; look at: ",
];

#[test]
fn each_kind_of_step_fails_with_its_sentence_where_its_promise_is_broken() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("junit.xml");
    let junit = junit.to_str().unwrap();
    let name = unique("broken");
    let output = run(folder.path(), BROKEN, &name, &["--junit", junit]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let whys: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("        "))
        .collect();
    let told: Vec<&str> = whys
        .iter()
        .copied()
        .filter(|line| line.starts_with("expected: "))
        .collect();
    for (sentence, told) in SENTENCES.iter().zip(&told) {
        assert!(told.starts_with(sentence), "{sentence}\n{told}\n{said}");
        assert!(told.contains("; look at: "), "{told}");
    }
    assert_eq!(told.len(), SENTENCES.len(), "{said}");
    let failed: Vec<usize> = whys.iter().filter_map(|line| step_at(line)).collect();
    assert_eq!(failed.len(), SENTENCES.len(), "{said}");
    assert_eq!(kinds_of(BROKEN, &failed), all_kinds(), "{said}");
    let steps = BROKEN.matches("[[step]]").count();
    let held = steps - SENTENCES.len();
    let count = format!("{held} of {steps} steps passed");
    assert!(said.contains(&count), "{said}");
    let report = std::fs::read_to_string(junit).expect("the JUnit report");
    let failures = format!("failures=\"{}\"", SENTENCES.len());
    assert!(report.contains(&failures), "{report}");
}

#[test]
fn one_step_is_run_alone_and_a_lab_whose_step_failed_is_kept_if_asked() {
    let _machine = machine();
    let folder = tempfile::tempdir().unwrap();
    let name = unique("only");
    let more = ["--only", "6", "--only", "is paused", "--keep-on-failure"];
    let source = BROKEN.replace("[[chain]]\nfile = \"web-guard.toml\"\n", "");
    let source = without_chain_steps(&source);
    let output = run(folder.path(), &source, &name, &more);
    let said = text(&output);
    let down = crate::lab::down(&name);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(" of 4 steps passed"), "{said}");
    assert!(said.contains("The lab stays up"), "{said}");
    assert!(down.status.success(), "{}", text(&down));
    let output = run(folder.path(), &source, &name, &["--only", "nonsense"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
}

/// Steps that name the chain's hop become plain ones, so that numbers stay.
fn without_chain_steps(source: &str) -> String {
    source.replace(", via = [\"firewall\"]", "").replace(
        "blocked = { from = \"red/a\", to = \"red/web\", traffic = \"tcp/80\", by = \"firewall\" }",
        "run = { node = \"n1\", command = [\"true\"] }",
    )
}

#[test]
fn the_schema_is_printed_as_json() {
    let output = Command::new(weft())
        .args(["lab", "schema"])
        .output()
        .expect("run weft");
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let steps = &schema["properties"]["step"]["items"]["properties"];
    assert!(
        steps["traffic"]["properties"]["gap"].is_object(),
        "{schema}"
    );
}
