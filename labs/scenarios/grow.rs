//! `weft lab up` of a lab that runs: it becomes what the file says now, also after an engine that was killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::converge::line_of;
use crate::lab::{Lab, ROOT, UP_WITHIN, machine, objects, text, unique, wait_until, weft};
use crate::machine::Traces;

const SMALL: &str = include_str!("topologies/small.toml");
const GROWN: &str = include_str!("topologies/grown.toml");

/// The files of a lab that changes.
struct Files {
    folder: PathBuf,
    name: String,
}

impl Files {
    fn command(&self, source: &str, more: &[&str]) -> Command {
        let file = self.folder.join("lab.toml");
        std::fs::write(&file, source).unwrap();
        let mut command = Command::new(weft());
        command
            .args(["lab", "up", file.to_str().unwrap(), "--name", &self.name])
            .args(more);
        command
    }

    /// `weft lab up --json`: its objects.
    fn up(&self, source: &str, more: &[&str]) -> Vec<String> {
        let output = self.command(source, more).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let said = objects(&String::from_utf8_lossy(&output.stdout));
        let changes = said.iter().filter_map(|one| one["changes"].as_array());
        changes.flatten().map(line_of).collect()
    }

    fn journal(&self) -> String {
        std::fs::read_to_string(Path::new(ROOT).join(&self.name).join("journal")).unwrap()
    }

    /// `up` that is killed when so many more lines with a word are written than there were in a journal, by it or by
    /// one that was killed before: that runs on until the signal comes.
    fn killed_when(&self, source: &str, journal: &str, word: &str, more: usize) {
        let count = |journal: &str| journal.matches(word).count();
        let before = count(journal);
        let mut engine = self
            .command(source, &[])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(
            &format!("{more} more times {word} in the journal"),
            UP_WITHIN,
            || (count(&self.journal()) >= before + more).then_some(()),
        );
        engine.kill().unwrap();
        engine.wait().unwrap();
    }
}

fn answers(lab: &Lab, from: &str, to: &str) -> Value {
    lab.probe(from, "tcp/80", &lab.address(to), &["--count", "3"])
}

#[test]
fn a_running_lab_grows_changes_and_shrinks_to_what_the_file_says() {
    let ours = machine();
    let name = unique("lf-converge");
    let before = Traces::now(&name);
    let folder = tempfile::tempdir().unwrap();
    let files = Files {
        folder: folder.path().to_owned(),
        name: name.clone(),
    };
    files.up(SMALL, &[]);
    let lab = Lab::adopt(ours, name.clone(), folder);

    // Again: at once, and nothing.
    let begun = Instant::now();
    assert_eq!(files.up(SMALL, &[]), [""; 0]);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );

    let planned = files.up(GROWN, &["--dry-run"]);
    for wanted in [
        "add node n3",
        "add link n2+n3",
        "add link n1+n3",
        "change link n1+n2",
        "start agent n1",
        "start agent n3",
    ] {
        assert!(
            planned.iter().any(|one| one == wanted),
            "{wanted}: {planned:?}"
        );
    }
    assert_eq!(files.up(GROWN, &[]), planned);
    assert_eq!(answers(&lab, "red/a", "red/b")["ok"], true);
    let slow = answers(&lab, "red/a", "red/b")["rtt_us_p50"]
        .as_u64()
        .unwrap();
    assert!(slow >= 20_000, "10 ms each way: {slow} us");

    // A link alone, under packets that flow.
    let faster = GROWN.replace("delay = \"10ms\"", "delay = \"2ms\"");
    assert_eq!(files.up(&faster, &[]), ["change link n1+n3"]);
    let fast = answers(&lab, "red/a", "red/b")["rtt_us_p50"]
        .as_u64()
        .unwrap();
    assert!((4_000..slow).contains(&fast), "2 ms each way: {fast} us");

    // What a running lab keeps is refused, and nothing is touched.
    let journal = files.journal();
    for (change, words) in [
        (
            GROWN.replace("lease_ttl = \"2s\"", "lease_ttl = \"3s\""),
            "lease_ttl: it is 2s",
        ),
        (
            GROWN
                .replace("count = 3", "count = 3 # n0")
                .replace("name = \"n\"", "name = \"m\"")
                .replace("\"n", "\"m"),
            "node n1:",
        ),
    ] {
        let output = files.command(&change, &[]).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(
            said.contains(words) && said.contains("nothing was touched"),
            "{said}"
        );
    }
    assert_eq!(files.journal(), journal);

    // Back, by an engine that is killed on its way, and one that goes on.
    files.killed_when(SMALL, &journal, "\"unlinked\"", 1);
    let rest = files.up(SMALL, &[]);
    assert!(rest.iter().any(|one| one == "remove node n3"), "{rest:?}");
    assert_eq!(files.up(SMALL, &[]), [""; 0]);
    let shown = lab.must("n1", &["weft", "network", "ls", "--json"]);
    assert!(!shown.contains("blue/front"), "{shown}");
    assert!(!lab.log("n3").exists());

    // Killed while it grows, again and again: it goes on, and whatever was made, `down` finds it.
    let journal = files.journal();
    files.killed_when(GROWN, &journal, "\"holder\"", 1);
    files.killed_when(GROWN, &journal, "\"linked\"", 1);
    files.up(GROWN, &[]);
    assert_eq!(answers(&lab, "red/a", "red/b")["ok"], true);
    files.up(SMALL, &[]);
    files.killed_when(GROWN, &files.journal(), "\"link\"", 2);
    lab.down();
    assert_eq!(Traces::now(&name), before);
}
