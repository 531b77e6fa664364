//! A lab as a scenario sees it: brought up from a file, asked and hurt by name, taken down on drop.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine;

/// The folder of labs, as in the product.
pub const ROOT: &str = weft_labs::DEFAULT_ROOT;
/// How long a whole cluster may take to come up, on a busy machine.
pub const UP_WITHIN: Duration = Duration::from_secs(60);

/// One lab at a time: scenarios measure times, and share the machine's processors.
static MACHINE: Mutex<()> = Mutex::new(());
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The binary under test.
pub fn weft() -> PathBuf {
    let path = match std::env::var_os("WEFT_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let own = std::env::current_exe().expect("this test's own path");
            // target/PROFILE/deps/scenarios-HASH
            own.parent()
                .and_then(Path::parent)
                .expect("target folder")
                .join("weft")
        }
    };
    assert!(
        path.is_file(),
        "{} is missing: build it with `cargo build -p weft`, or name it in WEFT_BIN",
        path.display()
    );
    assert!(
        nix::unistd::geteuid().is_root(),
        "scenarios make namespaces and load BPF programs: run them as root"
    );
    path
}

/// A lab name that no other test uses.
pub fn unique(stem: &str) -> String {
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{}-{count}", std::process::id())
}

/// Waits for the machine to be ours.
pub fn machine() -> MutexGuard<'static, ()> {
    // A scenario that failed does not spoil the others.
    MACHINE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Waits until `look` says something.
pub fn wait_until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Output as text, for messages and comparisons.
pub fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// Whether labs are to have an underlay of IPv6: `WEFT_UNDERLAY=ipv6` runs the same scenarios over the other family.
pub fn six() -> bool {
    match std::env::var("WEFT_UNDERLAY") {
        Ok(underlay) => {
            assert!(
                ["ipv4", "ipv6"].contains(&underlay.as_str()),
                "WEFT_UNDERLAY: {underlay}"
            );
            underlay == "ipv6"
        }
        Err(_) => false,
    }
}

/// The lab's file with that underlay.
pub fn over(source: &str) -> String {
    if !six() || source.contains("underlay =") {
        return source.to_owned();
    }
    assert!(source.contains("[lab]\n"));
    source.replacen("[lab]\n", "[lab]\nunderlay = \"ipv6\"\n", 1)
}

/// What the tunnel takes of each packet, bytes: outer IP, UDP, VXLAN, inner Ethernet (RFC 7348 section 5).
pub fn overhead() -> usize {
    if six() { 70 } else { 50 }
}

/// The address of a node, n1 first.
pub fn node_address(number: u8) -> IpAddr {
    let text = if six() {
        format!("2001:db8::{}", 10 + number)
    } else {
        format!("192.0.2.{}", 10 + number)
    };
    text.parse().expect("an address")
}

/// A lab that is up.
pub struct Lab {
    pub name: String,
    _files: tempfile::TempDir,
    _machine: MutexGuard<'static, ()>,
}

impl Lab {
    /// Brings up the lab file in `text`; chain files by name are in `topologies/`.
    pub fn up(source: &str) -> Lab {
        Lab::up_on("netns", source)
    }

    /// The same on a backend by name.
    pub fn up_on(backend: &str, source: &str) -> Lab {
        let machine = machine();
        let name = unique("scenario");
        let files = tempfile::tempdir().expect("a folder for the lab's file");
        let file = files.path().join("lab.toml");
        let source = &over(source);
        std::fs::write(&file, source).expect("write the lab's file");
        let guard = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/web-guard.toml");
        std::fs::copy(guard, files.path().join("web-guard.toml")).expect("copy the chain's file");
        let output = Command::new(weft())
            .args(["lab", "up", file.to_str().unwrap(), "--name", &name])
            .args(["--backend", backend])
            .output()
            .expect("run weft lab up");
        let lab = Lab {
            name,
            _files: files,
            _machine: machine,
        };
        assert!(output.status.success(), "weft lab up: {}", text(&output));
        lab
    }

    /// One that is up already: whose it is that the machine is ours, its name, and the folder of its file.
    pub fn adopt(machine: MutexGuard<'static, ()>, name: String, files: tempfile::TempDir) -> Lab {
        Lab {
            name,
            _files: files,
            _machine: machine,
        }
    }

    /// `weft lab exec`: a command on a node, or in a container (`tenant/name`).
    pub fn command(&self, target: &str, line: &[&str]) -> Command {
        let mut command = Command::new(weft());
        command
            .args(["lab", "exec", &self.name, target, "--"])
            .args(line);
        command
    }

    /// Runs it to the end.
    pub fn exec(&self, target: &str, line: &[&str]) -> Output {
        self.command(target, line)
            .output()
            .expect("run weft lab exec")
    }

    /// Runs it; it must succeed. What it printed.
    pub fn must(&self, target: &str, line: &[&str]) -> String {
        let output = self.exec(target, line);
        assert!(
            output.status.success(),
            "{target}: {}: {}",
            line.join(" "),
            text(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts it in the background.
    pub fn spawn(&self, target: &str, line: &[&str]) -> Child {
        self.command(target, line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start weft lab exec")
    }

    /// Probes from a container: the JSON line of `weft function probe`.
    pub fn probe(&self, from: &str, traffic: &str, address: &str, more: &[&str]) -> Value {
        let line = ["/.weft", "function", "probe", traffic, address];
        let line: Vec<&str> = line.iter().chain(more).copied().collect();
        last_object(&text(&self.exec(from, &line)))
    }

    /// A way into a container's network, past its agent.
    pub fn enter(&self, container: &str) -> Inside {
        let netns = self.must(container, &["readlink", "/proc/self/ns/net"]);
        let pid = machine::process_in(netns.trim())
            .unwrap_or_else(|| panic!("no process in {container}'s {netns}"));
        Inside { pid }
    }

    /// The first address of a container.
    pub fn address(&self, container: &str) -> String {
        let listed = self.must("n1", &["weft", "ps", "--json"]);
        objects(&listed)
            .iter()
            .find(|one| one["name"] == container)
            .and_then(|one| first_text(&one["addresses"]))
            .unwrap_or_else(|| panic!("{container} has no address in {listed}"))
    }

    /// The state folder of a node.
    pub fn state(&self, node: &str) -> PathBuf {
        Path::new(ROOT).join(&self.name).join(node).join("state")
    }

    /// The log of a node.
    pub fn log(&self, node: &str) -> PathBuf {
        Path::new(ROOT).join(&self.name).join(node).join("log")
    }

    /// The process of a node's agent.
    pub fn agent(&self, node: &str) -> Option<i32> {
        let state = self.state(node);
        machine::processes().into_iter().find_map(|process| {
            let is_it = process.args.get(1).is_some_and(|word| word == "node")
                && process.args.iter().any(|arg| Path::new(arg) == state);
            is_it.then_some(process.pid)
        })
    }

    /// SIGKILL to a node's agent; gone when this returns. Its arguments.
    pub fn kill_agent(&self, node: &str) -> Vec<String> {
        let pid = self
            .agent(node)
            .unwrap_or_else(|| panic!("{node} has no agent"));
        let args = machine::args(pid).expect("the agent's arguments");
        machine::signal(pid, "KILL");
        wait_until("the agent is gone", UP_WITHIN, || {
            machine::has_ended(pid).then_some(())
        });
        args
    }

    /// Starts a node's agent anew with these arguments; its output goes on in the node's log.
    pub fn start_agent(&self, node: &str, args: &[String]) {
        let log = self.log(node);
        let script = format!("\"$@\" >>{} 2>&1 </dev/null &", log.display());
        let mut line = vec!["sh", "-c", &script, "sh"];
        line.extend(args.iter().map(String::as_str));
        self.must(node, &line);
    }

    /// The state of a container, if the cluster answers to n2.
    pub fn state_of(&self, container: &str) -> Option<String> {
        let output = self.exec("n2", &["weft", "ps", "--json"]);
        let all = objects(&text(&output));
        let one = all.iter().find(|one| one["name"] == container)?;
        Some(one["status"]["state"].as_str()?.to_owned())
    }

    /// Waits until a node's agent is ready and sees `alive` nodes.
    pub fn wait_ready(&self, node: &str, alive: usize) {
        wait_until(&format!("{node} is ready"), UP_WITHIN, || {
            let output = self.exec(node, &["weft", "status", "--json"]);
            let status = objects(&text(&output)).into_iter().next()?;
            let seen = status["nodes"]
                .as_array()?
                .iter()
                .filter(|n| n["alive"] == true)
                .count();
            (status["ready"] == true && seen == alive).then_some(())
        });
    }

    /// Takes it down; it must succeed.
    pub fn down(self) {
        let output = down(&self.name);
        assert!(output.status.success(), "weft lab down: {}", text(&output));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The end of each node's log, before it goes.
            for entry in std::fs::read_dir(Path::new(ROOT).join(&self.name))
                .into_iter()
                .flatten()
            {
                let log = entry.expect("entry").path().join("log");
                if let Ok(text) = std::fs::read_to_string(&log) {
                    let lines: Vec<&str> = text.lines().collect();
                    let tail = &lines[lines.len().saturating_sub(15)..];
                    eprintln!("--- {}\n{}", log.display(), tail.join("\n"));
                }
            }
        }
        if Path::new(ROOT).join(&self.name).exists() {
            down(&self.name);
        }
    }
}

/// The network of a container, as the machine's root sees it.
pub struct Inside {
    /// A process in it, by its number here.
    pub pid: i32,
}

impl Inside {
    /// A program of the machine in that network.
    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.pid.to_string(), "-n", "--"])
            .args(line);
        command
    }

    /// Starts `weft` there in the background.
    pub fn spawn_weft(&self, line: &[&str]) -> Child {
        let weft = weft();
        let line: Vec<&str> = std::iter::once(weft.to_str().unwrap())
            .chain(line.iter().copied())
            .collect();
        self.command(&line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start nsenter (package util-linux)")
    }

    /// Its namespace.
    pub fn netns(&self) -> std::os::fd::OwnedFd {
        weft_overlay::netns::of_pid(self.pid as u32).expect("the container's namespace")
    }

    /// Runs something there, e.g. opens a socket that stays there.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        weft_overlay::netns::run_in_netns(self.netns(), work).expect("enter the namespace")
    }

    /// A counter of /proc/net/snmp there.
    pub fn counter(&self, protocol: &str, name: &str) -> u64 {
        let output = self
            .command(&["cat", "/proc/self/net/snmp"])
            .output()
            .expect("nsenter");
        let said = text(&output);
        let mut lines = said
            .lines()
            .filter(|line| line.starts_with(&format!("{protocol}:")));
        let names = lines.next().expect("names").split_whitespace();
        let values = lines.next().expect("values").split_whitespace();
        let found = names.zip(values).find(|(key, _)| *key == name);
        found.expect("that counter").1.parse().expect("a number")
    }
}

/// `weft lab down`.
pub fn down(name: &str) -> Output {
    Command::new(weft())
        .args(["lab", "down", name])
        .output()
        .expect("run weft lab down")
}

/// JSON objects, one after the other or in one array.
pub fn objects(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .map_while(Result::ok)
        .flat_map(|value| match value {
            Value::Array(items) => items,
            one => vec![one],
        })
        .collect()
}

/// The last line that is a JSON object.
pub fn last_object(text: &str) -> Value {
    text.lines()
        .rev()
        .find_map(|line| {
            serde_json::from_str::<Value>(line)
                .ok()
                .filter(Value::is_object)
        })
        .unwrap_or_else(|| panic!("no JSON in: {text}"))
}

/// The first string in a value of lists and maps, without a prefix length.
fn first_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.split('/').next().unwrap_or(text).to_owned()),
        Value::Array(items) => items.iter().find_map(first_text),
        Value::Object(map) => map.values().find_map(first_text),
        _ => None,
    }
}

/// Two nodes' worth of containers on three nodes, without a chain: `red/a` on n1, `red/b` on n3.
pub const PLAIN: &str = include_str!("topologies/plain.toml");
