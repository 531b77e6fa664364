//! A firewall between two namespaces, on real packets: bulk TCP in large segments without checksums
//! arrives unharmed, denied ports are blocked and counted, UDP loses nothing.
//!
//! Needs root and iproute2. The binary is also the functions' own process (`namespaces function ...`).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use weft_chain::functions::{
    CounterArgs, FirewallArgs, FunctionArgs, ProbeArgs, ProbeReport, ServeArgs, Status, probe, run,
};
use weft_overlay::netns::{create, run_in_netns};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "function") {
        return function(&args[2..]);
    }
    if args.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces: run it as root (sudo cargo xtask test)"
    );
    let wanted = |name: &str| {
        args[1..]
            .iter()
            .all(|a| a.starts_with('-') || name.contains(a.as_str()))
    };
    let tests: [(&str, fn()); 3] = [
        (
            "the_firewall_carries_bulk_tcp_and_blocks",
            the_firewall_carries_bulk_tcp_and_blocks,
        ),
        (
            "the_counter_lets_everything_through",
            the_counter_lets_everything_through,
        ),
        ("a_missing_interface_is_named", a_missing_interface_is_named),
    ];
    let mut ran = 0;
    for (name, test) in tests.into_iter().filter(|(name, _)| wanted(name)) {
        test();
        println!("test {name} ... ok");
        ran += 1;
    }
    println!("\ntest result: ok. {ran} passed; 0 failed");
    ExitCode::SUCCESS
}

/// `firewall STATUS`, `counter STATUS`, `serve TRAFFIC...`
fn function(args: &[String]) -> ExitCode {
    let of = |texts: &[&str]| texts.iter().map(|t| t.parse().expect("traffic")).collect();
    let function = match args[0].as_str() {
        "firewall" => FunctionArgs::Firewall(FirewallArgs {
            allow: of(&["tcp/80", "udp/9000", "icmp"]),
            deny: of(&["tcp/23"]),
            status: args[1].clone().into(),
            ..FirewallArgs::default()
        }),
        "counter" => FunctionArgs::Counter(CounterArgs {
            status: args[1].clone().into(),
            ..CounterArgs::default()
        }),
        _ => {
            let texts: Vec<&str> = args[1..].iter().map(String::as_str).collect();
            FunctionArgs::Serve(ServeArgs {
                traffic: of(&texts),
            })
        }
    };
    match run(function) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("{error}\nhelp: {}", error.help());
            ExitCode::FAILURE
        }
    }
}

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(netns: &OwnedFd, args: &[&str]) -> Process {
        let exe = std::env::current_exe().expect("this binary");
        let spawn = || Command::new(exe).arg("function").args(args).spawn();
        Process(
            run_in_netns(netns, spawn)
                .expect("entered")
                .expect("started"),
        )
    }
    /// SIGTERM, and the exit code.
    fn stop(mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signalled");
        let mut code = None;
        wait_until("the function to end", || {
            code = self.0.try_wait().expect("waited");
            code.is_some()
        });
        code.and_then(|c| c.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or to be ended: either way nothing is left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ip(netns: &OwnedFd, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let output = run_in_netns(netns, || Command::new("ip").args(&words).output());
    let output = output.expect("entered").expect("ip runs: install iproute2");
    assert!(
        output.status.success(),
        "ip {line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Client - middle - server, in namespaces that go with it.
struct Bed {
    client: OwnedFd,
    middle: OwnedFd,
    server: OwnedFd,
    status: PathBuf,
    _files: tempfile::TempDir,
}

impl Bed {
    fn new() -> Bed {
        let files = tempfile::tempdir().expect("a folder");
        let make = || create().expect("a namespace");
        let status = files.path().join("status.json");
        Bed {
            client: make(),
            middle: make(),
            server: make(),
            status,
            _files: files,
        }
    }

    /// Joins client and server to the middle's `in0` and `out0`.
    fn wire(&self) {
        let path = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
        for (end, inside, address) in [
            (&self.client, "in0", "10.9.0.1/24"),
            (&self.server, "out0", "10.9.0.2/24"),
        ] {
            ip(
                end,
                &format!(
                    "link add eth0 type veth peer name {inside} netns {}",
                    path(&self.middle)
                ),
            );
            ip(end, "link set lo up");
            ip(end, &format!("address add {address} dev eth0"));
            ip(end, "link set eth0 up");
            ip(&self.middle, &format!("link set {inside} up"));
        }
    }

    fn ask(&self, traffic: &str, change: impl FnOnce(&mut ProbeArgs)) -> ProbeReport {
        let to = "10.9.0.2".parse().expect("an address");
        let mut args = ProbeArgs::new(traffic.parse().expect("traffic"), to);
        change(&mut args);
        run_in_netns(&self.client, || probe(&args))
            .expect("entered")
            .expect("probes")
    }

    fn until_reached(&self) {
        let quick = |args: &mut ProbeArgs| args.timeout = Duration::from_millis(300);
        wait_until("the server to answer", || self.ask("tcp/80", quick).ok);
    }

    fn status(&self) -> Status {
        read(&self.status)
    }
}

fn read(path: &Path) -> Status {
    let text = fs::read_to_string(path).expect("a status file");
    serde_json::from_str(&text).expect("a status")
}

/// A counter of /proc/net/snmp.
fn counter(netns: &OwnedFd, group: &str, name: &str) -> u64 {
    let text = run_in_netns(netns, || fs::read_to_string("/proc/thread-self/net/snmp"));
    let text = text.expect("entered").expect("counters");
    let mut lines = text.lines().filter(|l| l.starts_with(group));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let found = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(n, _)| *n == name);
    found.and_then(|(_, value)| value.parse().ok()).expect(name)
}

fn the_firewall_carries_bulk_tcp_and_blocks() {
    let bed = Bed::new();
    let status_file = bed.status.to_string_lossy().into_owned();
    // Before its interfaces are there: it waits for them.
    let firewall = Process::start(&bed.middle, &["firewall", &status_file]);
    bed.wire();
    let _server = Process::start(&bed.server, &["serve", "tcp/80", "tcp/23", "udp/9000"]);
    bed.until_reached();

    let bulk = bed.ask("tcp/80", |args| {
        args.size = 200 << 20;
        args.timeout = Duration::from_secs(30);
    });
    assert!(bulk.ok, "{bulk:?}");
    for end in [&bed.client, &bed.server] {
        assert_eq!(counter(end, "Tcp:", "InCsumErrors"), 0);
    }
    wait_until("the bytes to be counted", || {
        bed.status().bytes_in_to_out > 200 << 20
    });
    let status = bed.status();
    assert_eq!(
        (status.oversize, status.receive_errors),
        (0, 0),
        "{status:?}"
    );
    let mean = status.bytes_in_to_out / status.forwarded_in_to_out.max(1);
    println!(
        "bulk: {} Mbit/s, mean frame {mean} bytes",
        bulk.bits_per_second.unwrap_or(0) / 1_000_000
    );
    assert!(
        mean > 1514,
        "frames of {mean} bytes: large segments were cut"
    );

    let denied = bed.ask("tcp/23", |args| args.timeout = Duration::from_millis(500));
    assert!(!denied.ok, "{denied:?}");
    wait_until("the denial to be counted", || bed.status().denied > 0);
    assert!(
        bed.status()
            .by_rule
            .get("deny tcp/23")
            .is_some_and(|n| *n > 0),
        "{:?}",
        bed.status()
    );

    let stream = bed.ask("udp/9000", |args| {
        args.rate = Some(1000);
        args.duration = Duration::from_secs(1);
    });
    assert_eq!(
        (stream.sent, stream.lost, stream.duplicates),
        (1000, 0, 0),
        "{stream:?}"
    );
    // Ping sockets are for these groups; weft's runtime sets it in every container.
    let path = "/proc/sys/net/ipv4/ping_group_range";
    run_in_netns(&bed.client, || fs::write(path, "0 0"))
        .expect("entered")
        .expect("written");
    let ping = bed.ask("icmp", |args| {
        args.count = 3;
        args.interval = Duration::from_millis(1);
        args.size = 4000;
    });
    assert!(ping.ok, "fragments pass: {ping:?}");

    assert_eq!(firewall.stop(), Some(0));
    let last = bed.status();
    assert!(
        last.allowed > 0 && last.other > 0 && last.function == "firewall",
        "{last:?}"
    );
}

fn the_counter_lets_everything_through() {
    let bed = Bed::new();
    bed.wire();
    let status_file = bed.status.to_string_lossy().into_owned();
    let counting = Process::start(&bed.middle, &["counter", &status_file]);
    let _server = Process::start(&bed.server, &["serve", "tcp/80", "tcp/23"]);
    bed.until_reached();
    assert!(bed.ask("tcp/23", |_| {}).ok);
    assert_eq!(counting.stop(), Some(0));
    assert!(
        bed.status().by_rule.get("tcp").is_some_and(|n| *n > 4),
        "{:?}",
        bed.status()
    );
}

fn a_missing_interface_is_named() {
    let bed = Bed::new();
    let status_file = bed.status.to_string_lossy().into_owned();
    // It waits; told to stop, it ends at once and without complaint.
    let waiting = Process::start(&bed.middle, &["firewall", &status_file]);
    let pid = waiting.0.id();
    wait_until("the signals to be taken over", || {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let blocked = text
            .lines()
            .find_map(|l| l.strip_prefix("SigBlk:"))
            .unwrap_or("0")
            .trim()
            .to_owned();
        u64::from_str_radix(&blocked, 16).unwrap_or(0) & (1 << 14) != 0
    });
    assert_eq!(waiting.stop(), Some(0));
    assert!(!bed.status.exists());
}
