//! The binary as a person meets it when something is wrong: each refusal names the subject, the cause and
//! the next step, on one screen, with the exit code that scripts rely on. Needs no agent and no root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One screen.
const LINES: usize = 24;

const CHAIN: &str = r#"format = 1
[chain]
name = "web-guard"
tenant = "red"
[[match]]
from = { network = "front", labels = { role = "client" } }
to = { network = "front", labels = { role = "web" } }
traffic = ["tcp/80"]
[[hop]]
name = "firewall"
select = { role = "fw" }
mode = "inline"
interfaces = ["in0", "out0"]
on_failure = "drop"
"#;

/// What a run left.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(command: &mut Command) -> Said {
    let output = command
        .env_remove("WEFT_HOST")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("weft can be started");
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn weft(args: &[&str]) -> Said {
    run(Command::new(env!("CARGO_BIN_EXE_weft")).args(args))
}

impl Said {
    /// Refused with this code, on one screen, naming all of `words`.
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(
            self.err.lines().count() <= LINES,
            "more than a screen:\n{}",
            self.err
        );
        assert!(!self.err.contains("panicked"), "{}", self.err);
        for word in words {
            assert!(
                self.err.contains(word),
                "{word:?} is not said:\n{}",
                self.err
            );
        }
    }
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file in a temporary folder");
    path.display().to_string()
}

#[test]
fn an_agent_that_does_not_run_is_named_with_how_to_start_it() {
    let host = ["--host", "unix:/nonexistent/weft.sock"];
    for command in [
        &["status"] as &[&str],
        &["node", "ls"],
        &["tenant", "ls"],
        &["network", "ls"],
        &["endpoint", "ls"],
        &["ps"],
        &["logs", "red/a"],
        &["exec", "red/a", "--", "true"],
        &["rm", "red/a"],
        &["chain", "ls"],
        &["chain", "stats"],
        &["trace", "live", "red/a", "red/b", "tcp/80"],
        &["drops"],
    ] {
        let line = [&host[..], command].concat();
        weft(&line).refused(
            5,
            &[
                "error: ",
                "/nonexistent/weft.sock",
                "help: ",
                "weft node run",
            ],
        );
    }
}

#[test]
fn the_agent_may_be_named_by_the_environment_and_must_be_an_address() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    let output = command
        .arg("ps")
        .env("WEFT_HOST", "nonsense")
        .output()
        .expect("weft");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.contains("nonsense") && err.contains("host:port"),
        "{err}"
    );
}

#[test]
fn names_and_ranges_are_judged_before_anybody_is_asked() {
    weft(&["network", "create", "Red/front", "--cidr", "10.10.0.0/16"]).refused(2, &["Red/front"]);
    weft(&["network", "create", "front", "--cidr", "10.10.0.0/16"]).refused(2, &["front"]);
    weft(&["network", "create", "red/front"]).refused(2, &["--cidr"]);
    weft(&["network", "create", "red/front", "--cidr", "10.10.0.0"]).refused(
        2,
        &["error: network red/front", "10.10.0.0", "help: ", "/16"],
    );
    let twice = ["--cidr", "10.0.0.0/8", "--cidr", "10.1.0.0/16"];
    weft(&[&["network", "create", "red/front"], &twice[..]].concat())
        .refused(2, &["second range", "help: "]);
    weft(&["tenant", "create", "-red"]).refused(2, &["-r"]);
    weft(&["run", "red/a", "--memory", "1X", "host", "--", "true"]).refused(2, &["1X", "256M"]);
    weft(&["run", "red/a", "host"]).refused(2, &["COMMAND"]);
}

#[test]
fn commands_of_later_versions_are_unknown_not_stubs() {
    for (line, word) in [
        (&["node", "join", "192.0.2.1"] as &[&str], "join"),
        (&["image", "ls"], "image"),
        (&["chain", "rollback", "red/web-guard"], "rollback"),
    ] {
        weft(line).refused(2, &["unrecognized subcommand", word]);
    }
}

#[test]
fn mistakes_in_a_chain_file_are_shown_where_they_stand() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let good = file(dir.path(), "good.toml", CHAIN);
    let said = weft(&["chain", "check", &good]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("red/web-guard"), "{}", said.out);

    let typo = CHAIN.replace("on_failure", "on_failur");
    let said = weft(&["chain", "check", &file(dir.path(), "typo.toml", &typo)]);
    said.refused(2, &["typo.toml:14:1", "on_failur", "error: ", "help: "]);

    let broken = CHAIN.replace("mode = \"inline\"", "mode = \"inline");
    let said = weft(&["chain", "check", &file(dir.path(), "broken.toml", &broken)]);
    said.refused(2, &["broken.toml:12", "error: "]);

    let traffic = CHAIN.replace("tcp/80", "http");
    let said = weft(&[
        "chain",
        "check",
        &file(dir.path(), "traffic.toml", &traffic),
    ]);
    said.refused(2, &["traffic.toml:8", "http", "tcp/80"]);
}

#[test]
fn mistakes_in_a_site_file_are_shown_where_they_stand() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let text = "[[network]]\nname = \"red/front\"\ncider = \"10.10.0.0/16\"\n";
    for command in ["apply", "diff", "delete"] {
        let said = weft(&[command, "-f", &file(dir.path(), "site.toml", text)]);
        said.refused(2, &["site.toml:3", "cider", "error: ", "help: "]);
    }
}

#[test]
fn files_and_labs_that_are_not_there_are_not_found() {
    weft(&["chain", "check", "/nonexistent.toml"]).refused(3, &["/nonexistent.toml", "help: "]);
    weft(&["apply", "-f", "/nonexistent.toml"]).refused(3, &["/nonexistent.toml", "help: "]);
    weft(&["trace", "render", "/nonexistent.json"]).refused(3, &["/nonexistent.json"]);
}

#[test]
fn names_and_traffic_of_every_command_are_judged_before_anybody_is_asked() {
    for (line, words) in [
        (&["ps", "Red"] as &[&str], &["Red", "a-z"] as &[&str]),
        (&["network", "ls", "Red"], &["Red", "a-z"]),
        (&["endpoint", "ls", "Red"], &["Red", "a-z"]),
        (&["chain", "ls", "Red"], &["Red", "a-z"]),
        (&["chain", "show", "guard"], &["guard", "TENANT/CHAIN"]),
        (&["chain", "rm", "red/Guard"], &["Guard", "a-z"]),
        (&["chain", "stats", "red/"], &["a-z"]),
        (
            &["trace", "live", "a", "red/b"],
            &["'a'", "TENANT/CONTAINER"],
        ),
        (
            &["trace", "live", "red/a", "red/b", "x/80"],
            &["x/80", "tcp"],
        ),
    ] {
        weft(line).refused(2, words);
    }
}

#[test]
fn functions_tell_wrong_usage_and_missing_files_apart() {
    weft(&["function", "serve", "icmp"]).refused(2, &["serve icmp", "help: ", "tcp/80"]);
    weft(&["function", "status", "--file", "/nonexistent.json"])
        .refused(3, &["/nonexistent.json", "help: "]);
}

#[test]
fn a_store_that_does_not_answer_is_told_without_an_empty_table() {
    let said = weft(&["store", "status", "--endpoints", "http://127.0.0.1:1"]);
    said.refused(5, &["error: store http://127.0.0.1:1", "help: "]);
    assert_eq!(said.out, "");
}

/// With `--json` a script reads one object from standard error, whatever went wrong.
#[test]
fn errors_are_json_where_json_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let typo = CHAIN.replace("on_failure", "on_failur");
    let typo = file(dir.path(), "typo.toml", &typo);
    for (line, code, word) in [
        (
            &["--host", "unix:/nonexistent/weft.sock", "ps"] as &[&str],
            5,
            "weft.sock",
        ),
        (&["--host", "nonsense", "ps"], 2, "nonsense"),
        (&["ps", "Red"], 2, "Red"),
        (&["nosuch"], 2, "nosuch"),
        (&["network", "create", "red/front"], 2, "--cidr"),
        (
            &["apply", "-f", "/nonexistent.toml"],
            3,
            "/nonexistent.toml",
        ),
        (&["lab", "run", "nosuch"], 3, "nosuch"),
        (&["function", "serve", "icmp"], 2, "icmp"),
        (&["chain", "check", &typo], 2, "typo.toml"),
    ] {
        let said = weft(&[&["--json"], line].concat());
        said.refused(code, &[word]);
        assert_eq!(said.out, "", "{line:?}");
        let object: serde_json::Value = serde_json::from_str(&said.err)
            .unwrap_or_else(|e| panic!("{line:?}: {e}: {}", said.err));
        assert_eq!(object["code"], code, "{line:?}");
        for key in ["error", "help"] {
            let text = object[key].as_str();
            assert!(text.is_some_and(|t| !t.is_empty()), "{line:?}: {object}");
        }
        assert!(
            !object["error"]
                .as_str()
                .is_some_and(|t| t.starts_with("error"))
        );
    }
    let said = weft(&["chain", "check", &typo, "--json"]);
    let object: serde_json::Value = serde_json::from_str(&said.err).expect("JSON");
    let mistake = &object["mistakes"][0];
    assert_eq!(
        (&mistake["line"], &mistake["column"]),
        (&14.into(), &1.into())
    );
    // Behind `--` it is the container's own.
    let said = weft(&["exec", "--", "x", "--json"]);
    said.refused(2, &["error: "]);
}

#[test]
fn the_shim_is_not_for_people() {
    weft(&["shim"]).refused(2, &["error: ", "agent"]);
}

/// A copy that an unprivileged user may run.
fn for_nobody(dir: &Path) -> PathBuf {
    let copy = dir.join("weft");
    fs::copy(env!("CARGO_BIN_EXE_weft"), &copy).expect("a copy of weft");
    for (path, mode) in [(dir, 0o755), (copy.as_path(), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    }
    copy
}

/// Needs root, to become somebody else; run as somebody else it is just that.
#[test]
fn without_root_a_node_and_a_lab_say_so() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let copy = for_nobody(dir.path());
    let node = [
        "node",
        "run",
        "--advertise",
        "192.0.2.1",
        "--underlay",
        "lo",
    ];
    for line in [
        &node[..],
        &["lab", "run", "two-tenants"],
        &["lab", "up", "two-tenants"],
    ] {
        let mut command = Command::new(&copy);
        command.args(line).current_dir("/");
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
        {
            command.uid(65_534).gid(65_534);
        }
        run(&mut command).refused(4, &["error: ", "root", "help: ", "sudo"]);
    }
}
