//! A lab that is up is brought to a file that has changed; what stays goes on undisturbed.

use std::process::Output;

use crate::lab::{Lab, objects, text};
use crate::standstill::command;

const BEFORE: &str = r#"
[lab]
name = "converge"
[[node]]
name = "n"
count = 2
[[link]]
between = ["n1", "n2"]
delay = "1ms"
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
[[network]]
name = "red/old"
cidr = "10.20.0.0/16"
[[container]]
name = "red/a"
node = "n1"
networks = ["red/front"]
command = ["/.weft", "function", "serve", "tcp/80"]
[[container]]
name = "red/gone"
node = "n2"
networks = ["red/old"]
command = ["sleep", "infinity"]
"#;

/// Another network and container, a worse link.
fn after() -> String {
    let text = BEFORE.replace("delay = \"1ms\"", "delay = \"30ms\"");
    let text = text
        .replace("red/old", "red/new")
        .replace("10.20.", "10.30.");
    text.replace("red/gone", "red/b")
}

#[test]
fn a_lab_that_is_up_is_brought_to_its_file() {
    let lab = Lab::up(BEFORE);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lab.toml");
    let up = |source: &str, more: &[&str]| -> Output {
        std::fs::write(&file, source).unwrap();
        let words = ["up", file.to_str().unwrap(), "--name", &lab.name];
        command(&words.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let pid = lab.enter("red/a").pid;

    let same = up(BEFORE, &[]);
    assert!(same.status.success(), "{}", text(&same));
    assert!(
        text(&same).contains("all as the file says"),
        "{}",
        text(&same)
    );

    // Told, and nothing touched.
    let plan = objects(&text(&up(&after(), &["--dry-run", "--json"]))).remove(0);
    let changes: Vec<String> = plan["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(line_of)
        .collect();
    assert_eq!(
        changes,
        [
            "remove container red/gone",
            "change link n1+n2",
            "create network red/new",
            "create container red/b",
            "remove network red/old",
        ]
    );
    lab.must("n1", &["weft", "network", "show", "red/old"]);

    let done = up(&after(), &[]);
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(lab.enter("red/a").pid, pid, "what stays goes on");
    let listed = lab.must("n1", &["weft", "ps", "--json"]);
    let names: Vec<String> = objects(&listed)
        .iter()
        .map(|one| one["name"].to_string())
        .collect();
    assert_eq!(names, ["\"red/a\"", "\"red/b\""]);
    assert!(
        !lab.exec("n1", &["weft", "network", "show", "red/old"])
            .status
            .success()
    );
    let seen = text(&command(&["inspect", &lab.name]));
    assert!(seen.contains("delay 30ms"), "{seen}");
    let again = up(&after(), &[]);
    assert!(
        text(&again).contains("all as the file says"),
        "{}",
        text(&again)
    );

    // What cannot be is told before anything is done.
    let refused = up(
        &after().replace("[[node]]", "lease_ttl = \"3s\"\n[[node]]"),
        &[],
    );
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
    assert!(
        text(&refused).contains("lease_ttl: it is the usual and the file says 3s"),
        "{}",
        text(&refused)
    );
    let refused = up(&after().replace("10.30.0.0/16", "10.31.0.0/16"), &[]);
    assert!(
        text(&refused).contains("it cannot become 10.31.0.0/16"),
        "{}",
        text(&refused)
    );
    assert!(text(&up(&after(), &[])).contains("all as the file says"));
    lab.down();
}

/// Action, kind and name of a change.
pub fn line_of(change: &serde_json::Value) -> String {
    let words = ["action", "kind", "name"].map(|key| change[key].as_str().unwrap_or("?"));
    words.join(" ")
}
