//! The schema and the readers know the same keys.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weft_overlay::documents::Resources;
use weft_overlay::site::{AttachmentTable, Container, Network};

use super::super::shape::{self, Key, Kind};
use super::super::steps::StepKind;
use super::*;
use crate::file::schema;

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&schema()).expect("the schema is a schema")
}

fn of_toml(text: &str) -> Value {
    toml::from_str(text).expect("TOML")
}

fn errors(text: &str) -> Vec<String> {
    let file = of_toml(text);
    validator()
        .iter_errors(&file)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_built_in_topologies_and_those_of_the_scenarios_fit_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut labs = 0;
    for folder in ["topologies", "scenarios/topologies"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            if !text.lines().any(|line| line == "[lab]") {
                continue;
            }
            labs += 1;
            assert_eq!(errors(&text), [""; 0], "{}", path.display());
        }
    }
    assert!(labs >= 5, "{labs}");
}

#[test]
fn what_the_reader_refuses_by_its_shape_does_not_fit_the_schema() {
    let head = "[lab]\nname = \"x\"\n[[node]]\nname = \"n\"\n";
    assert_eq!(errors(head), [""; 0]);
    for tail in [
        "size = 3\n",
        "count = 0\n",
        "[[step]]\n",
        "[[step]]\nraech = 1\n",
        "[[step]]\nisolated = [\"a/b\"]\n",
        "[[step]]\nwait = { time = \"soon\" }\n",
        "[[step]]\nwait = { time = \"1s\" }\nisolated = [\"a/b\", \"a/c\"]\n",
        "[[step]]\nreach = { from = \"a/b\", to = \"a/c\", traffic = \"sctp/1\" }\n",
        "[[step]]\nblocked = { from = \"a/b\", to = \"a/c\", traffic = \"tcp/1\" }\n",
        "[[step]]\nreach = { from = \"a/b\", to = \"a/c\", traffic = \"icmp\", family = \"ipx\" }\n",
        "[[step]]\nkill = { agent = \"n\", signal = \"BANG\" }\n",
        "[[link]]\nbetween = [\"n\", \"m\"]\ndelay = \"5\"\n",
        "[[link]]\nbetween = [\"n\"]\n",
        "[[link]]\nbetween = [\"n\", \"m\"]\nloss = \"1\"\n",
        "[[link]]\nbetween = [\"n\", \"m\"]\nrate = \"0mbit\"\n",
        "[[link]]\nbetween = [\"n\", \"m\"]\nfrom.n.los = \"1%\"\n",
        "[[container]]\nname = \"a/b\"\ncommand = \"x\"\n",
    ] {
        let text = format!("{head}{tail}");
        assert!(!errors(&text).is_empty(), "{tail} fits");
        let read = LabFile::parse("x.toml", &text, Path::new("."), None);
        assert!(read.is_err(), "{tail} is read");
    }
}

/// The keys that a table's own reader names when it meets one that it does not know.
fn keys_of_reader<T: DeserializeOwned>() -> BTreeSet<String> {
    let error = serde_json::from_value::<T>(json!({"no-such-key": 1}));
    let message = error.err().expect("unknown keys are refused").to_string();
    let known = message.split("expected").nth(1).expect("a list of keys");
    known
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn keys_of_shape(keys: &[Key]) -> BTreeSet<String> {
    keys.iter().map(|key| key.name.to_owned()).collect()
}

#[test]
fn the_shape_of_a_sites_tables_has_the_keys_of_their_readers() {
    assert_eq!(keys_of_shape(shape::NETWORK), keys_of_reader::<Network>());
    assert_eq!(
        keys_of_shape(shape::CONTAINER),
        keys_of_reader::<Container>()
    );
    assert_eq!(
        keys_of_shape(shape::RESOURCES),
        keys_of_reader::<Resources>()
    );
    let attachment = keys_of_reader::<AttachmentTable>();
    assert_eq!(keys_of_shape(shape::ATTACHMENT), attachment);
}

/// One good step of each kind.
const EACH: &str = r#"
[[step]]
reach = { from = "red/a", to = "red/a", traffic = "tcp/80", via = [] }
[[step]]
blocked = { from = "red/a", to = "red/a", traffic = "tcp/23", by = "firewall" }
[[step]]
dropped = { from = "red/a", to = "10.10.0.9", traffic = "icmp", reason = "no_endpoint" }
[[step]]
isolated = ["red/front", "red/back"]
[[step]]
link = { between = ["n1", "n2"], state = "down" }
[[step]]
capture = { link = ["n1", "n2"], filter = "udp/4789", present = false, to = "n2" }
[[step]]
run = { node = "n1", command = ["false"], exit = 1, text = "x" }
[[step]]
kill = { agent = "n1", signal = "TERM" }
[[step]]
start = { agent = "n1" }
[[step]]
pause = { node = "n1" }
[[step]]
resume = { node = "n1" }
[[step]]
wait = { container = "red/a", state = "exited" }
[[step]]
apply = { file = "web-guard.toml" }
[[step]]
traffic = { name = "s", from = "red/a", to = "red/a", traffic = "udp/9", rate = 10, duration = "1s" }
[[step]]
traffic = { name = "s", lost = 0, gap = "100ms" }
within = "20s"
"#;

#[test]
fn a_step_of_each_kind_is_read_and_fits_the_schema() {
    let text = format!(
        "{HEAD}[[network]]\nname = \"red/back\"\ncidr = \"10.20.0.0/16\"\n[[link]]\nbetween = [\"n1\", \"n2\"]\n[[chain]]\nfile = \"web-guard.toml\"\n{EACH}"
    );
    assert_eq!(errors(&text), [""; 0]);
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/topologies"));
    let lab = LabFile::parse("lab.toml", &text, folder, None).unwrap();
    assert_eq!(lab.steps.len(), shape::STEP_KINDS.len() + 1);
    assert!(matches!(lab.steps[12].kind, StepKind::Apply(_)));
    // Every kind's table of keys is closed and every key says what it is for.
    for kind in shape::STEP_KINDS {
        assert!(
            EACH.contains(&format!("\n{} =", kind.name)),
            "{}",
            kind.name
        );
        if let Kind::Table(keys) = &kind.kind {
            assert!(
                keys.iter().all(|key| key.about.ends_with(['.', ','])),
                "{}",
                kind.name
            );
        }
    }
}
