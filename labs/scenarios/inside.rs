//! What a person does with a lab that is up: files, a shell, logs, and what would be made if it were not.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::lab::{Lab, ROOT, text, unique, weft};

const PLAIN: &str = include_str!("topologies/plain.toml");

fn lab_command(words: &[&str]) -> Command {
    let mut command = Command::new(weft());
    command.arg("lab").args(words);
    command
}

fn run(words: &[&str]) -> Output {
    lab_command(words).output().expect("run weft")
}

#[test]
fn files_go_in_and_out_a_shell_answers_and_logs_are_told() {
    let lab = Lab::up(PLAIN);
    let name = lab.name.as_str();
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    std::fs::write(&there, "as it was").unwrap();

    // /run is the node's own.
    let output = run(&["cp", name, there.to_str().unwrap(), "n1:/run/there"]);
    assert!(output.status.success(), "{}", text(&output));
    let mut shell = lab_command(&["shell", name, "n1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a shell");
    let mut stdin = shell.stdin.take().unwrap();
    stdin
        .write_all(b"cat /run/there; hostname; exit 7\n")
        .unwrap();
    drop(stdin);
    let output = shell.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "as it wasn1\n");
    assert!(!std::path::Path::new("/run/there").exists());

    let back = folder.path().join("back");
    std::fs::create_dir(&back).unwrap();
    let output = run(&["cp", name, "n1:/run/there", back.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        std::fs::read_to_string(back.join("there")).unwrap(),
        "as it was"
    );
    let output = run(&["cp", name, "n1:/run/none", back.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let output = run(&["cp", name, "here", "there"]);
    assert!(text(&output).contains("NODE:/PATH"), "{}", text(&output));

    // An agent that is content says nothing.
    for node in ["n1", "n2"] {
        let log = format!("{ROOT}/{name}/{node}/log");
        let mut log = std::fs::File::options().append(true).open(log).unwrap();
        log.write_all(b"noted by the test\n").unwrap();
    }
    let one = text(&run(&["logs", name, "n2"]));
    assert!(one.lines().any(|line| line == "noted by the test"), "{one}");
    let all = text(&run(&["logs", name]));
    for node in ["n1", "n2"] {
        let wanted = format!("{node}  noted by the test");
        assert!(all.lines().any(|line| line == wanted), "{all}");
    }
    assert_eq!(run(&["logs", name, "n9"]).status.code(), Some(3));
    it_is_drawn_as_it_runs(&lab);
    lab.down();
}

fn it_is_drawn_as_it_runs(lab: &Lab) {
    let name = lab.name.as_str();
    let output = run(&["graph", name, "--format", "mermaid"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let address = lab.address("red/b");
    for wanted in [
        "red/front  vni ",
        "[\"red/b\"]",
        &address,
        "{{\"underlay\"}}",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let drawn = text(&run(&["graph", name]));
    assert!(
        drawn.starts_with("<svg ") && drawn.contains(&address),
        "{drawn}"
    );
    let inspected = text(&run(&["inspect", name, "--json"]));
    let seen: serde_json::Value = serde_json::from_str(&inspected).expect("one object");
    assert_eq!(seen["links"][0]["up"], true, "{inspected}");
    assert_eq!(seen["links"][0]["nodes"][2], "n3", "{inspected}");
    let output = run(&["snapshot", name]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(
        text(&output).contains("--backend qemu"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_dry_run_tells_the_plan_and_makes_nothing() {
    let output = run(&["up", "two-tenants", "--dry-run", "--name", "never-made"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for word in [
        "n3",
        "red/front",
        "web-guard",
        "firewall",
        "nothing is made",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(run(&["inspect", "never-made"]).status.code(), Some(3));
}

/// The first indented block after this line of README.md.
fn block_of_readme(after: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    let (_, rest) = readme.split_once(after).expect("the heading");
    let block = rest.lines().skip_while(|line| !line.starts_with("    "));
    let block = block.take_while(|line| line.starts_with("    ") || line.is_empty());
    block
        .map(|line| line.trim_start_matches("    ").to_owned() + "\n")
        .collect()
}

#[test]
fn the_lab_of_ten_lines_in_the_readme_runs() {
    let _ours = crate::lab::machine();
    let lab = block_of_readme("## A lab of your own");
    let lines = lab.lines().filter(|line| !line.is_empty()).count();
    assert!((8..=14).contains(&lines), "{lab}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, &lab).unwrap();
    let output = run(&["run", file.to_str().unwrap(), "--name", &unique("mine")]);
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("1 of 1 steps passed"),
        "{said}"
    );
}
