//! What weft did not make joins a tenant's network: a namespace, and a virtual machine behind a tap device. Needs `ip`
//! and `qemu-system-x86_64`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use weft_labs::machine::{Card, Kernel, Machine, Plug, Spec};
use weft_overlay::netns;

use crate::lab::{Inside, Lab, UP_WITHIN, last_object, objects, text, wait_until, weft};

const SITE: &str = r#"
[lab]
name = "attach"
[[node]]
name = "n"
count = 2
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
cidr6 = "fd00:10::/48"
[[network]]
name = "blue/front"
cidr = "10.10.0.0/16"
[[container]]
name = "red/far"
node = "n2"
networks = [{ network = "red/front", address = "10.10.200.2" }]
command = ["/.weft", "function", "serve", "tcp/80", "udp/9000"]
[[container]]
name = "red/near"
node = "n1"
networks = ["red/front"]
command = ["/.weft", "function", "serve", "tcp/80", "udp/9000"]
"#;
const FIXED: &str = "10.10.200.9";

fn attach(lab: &Lab, more: &[&str]) -> Output {
    let line = ["weft", "endpoint", "attach", "--json"];
    lab.exec("n1", &[&line, more].concat())
}

fn attached(lab: &Lab, more: &[&str]) -> Value {
    let output = attach(lab, more);
    assert!(output.status.success(), "{}", text(&output));
    last_object(&text(&output))
}

/// All addresses of an endpoint.
fn addresses(lab: &Lab, endpoint: &str) -> Vec<String> {
    let shown = objects(&lab.must("n1", &["weft", "endpoint", "show", endpoint, "--json"]));
    let all = shown[0]["addresses"].as_array().expect("addresses").clone();
    all.iter()
        .map(|a| a.as_str().expect("text").to_owned())
        .collect()
}

/// TCP and UDP to every address, by whoever runs the words of a probe.
fn reaches(who: &str, to: &[String], probe: impl Fn(&[&str]) -> Output) {
    for address in to {
        for traffic in ["tcp/80", "udp/9000"] {
            wait_until(
                &format!("{who} reaches {address} by {traffic}"),
                UP_WITHIN,
                || {
                    let line = ["function", "probe", traffic, address, "--timeout", "1s"];
                    (last_object(&text(&probe(&line)))["ok"] == true).then_some(())
                },
            );
        }
    }
}

/// A probe in a container's network, which needs no agent.
fn past_agents(inside: &Inside, line: &[&str]) -> Output {
    let probe = inside.spawn_weft(line);
    probe.wait_with_output().expect("it ends")
}

#[test]
fn a_namespace_of_somebody_else_joins_a_network() {
    let lab = Lab::up(SITE);
    lab.must("n1", &["ip", "netns", "add", "theirs"]);
    let there = ["red/front/job", "--netns", "/run/netns/theirs"];
    let facts = attached(
        &lab,
        &[&there[..], &["--address", FIXED, "--label", "role=job"]].concat(),
    );
    assert_eq!(facts["node"], "n1", "{facts}");
    let own = addresses(&lab, "red/front/job");
    assert!(own.len() == 2 && own[0] == FIXED, "{own:?}");

    let inside = |line: &[&str]| {
        let enter = ["ip", "netns", "exec", "theirs", "weft"];
        lab.exec("n1", &[&enter[..], line].concat())
    };
    let far = addresses(&lab, "red/front/far");
    let near = addresses(&lab, "red/front/near");
    reaches("theirs", &[&far[..], &near].concat(), inside);
    let serve = [
        "ip", "netns", "exec", "theirs", "weft", "function", "serve", "tcp/80", "udp/9000",
    ];
    let mut server = lab.spawn("n1", &serve);
    let by = |container: &'static str| {
        let lab = &lab;
        move |line: &[&str]| lab.exec(container, &[&["/.weft"][..], line].concat())
    };
    reaches("red/far", &own, by("red/far"));
    reaches("red/near", &own, by("red/near"));

    // What cannot be is refused, and changes nothing.
    for (line, code, words) in [
        (
            vec![
                "red/front/other",
                "--netns",
                "/run/netns/theirs",
                "--address",
                FIXED,
            ],
            4,
            "red/front/job",
        ),
        (vec!["red/front/other", "--netns", "theirs"], 2, "absolute"),
        (
            vec!["red/front/other", "--tap", "wv000001"],
            2,
            "weft's own",
        ),
        (
            vec!["red/front/other", "--tap", "t0", "--netns", "/x"],
            2,
            "cannot be used with",
        ),
        (vec!["red/none/other", "--tap", "t0"], 3, "does not exist"),
        (vec!["red/front/near", "--tap", "t0"], 4, "something else"),
        (vec!["red/front/card0", "--tap", "t0"], 0, "red/front/card0"),
        (vec!["blue/front/card0", "--tap", "t0"], 4, "red/card0"),
        (
            vec!["red/front/card", "--tap", "eth0"],
            1,
            "tap device eth0",
        ),
        (
            vec!["red/front/file", "--netns", "/etc/passwd"],
            1,
            "no namespace",
        ),
        (
            vec!["red/front/own", "--netns", "/proc/self/ns/net"],
            1,
            "own network namespace",
        ),
        (
            vec!["red/front/gone", "--netns", "/run/netns/none"],
            1,
            "/run/netns/none",
        ),
    ] {
        let output = attach(&lab, &line);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{line:?}: {said}");
        assert!(said.contains(words), "{line:?}: {said}");
    }
    for name in ["red/gone", "red/own", "red/card", "red/file", "red/card0"] {
        lab.must("n1", &["weft", "rm", name]);
    }
    let none = lab.exec("n1", &["weft", "endpoint", "detach", "red/front/none"]);
    assert_eq!(none.status.code(), Some(3), "{}", text(&none));

    // The agent may go and come.
    let outside = lab.enter("red/far");
    let agent = lab.kill_agent("n1");
    reaches("red/far", &own, |line| past_agents(&outside, line));
    lab.start_agent("n1", &agent);
    lab.wait_ready("n1", 2);
    reaches("red/far", &own, by("red/far"));
    server.kill().expect("end the server");
    server.wait().expect("it ends");

    let detached = lab.exec("n1", &["weft", "endpoint", "detach", "red/front/near"]);
    assert_eq!(detached.status.code(), Some(4), "{}", text(&detached));
    lab.must("n1", &["weft", "endpoint", "detach", "red/front/job"]);
    wait_until("its device is gone", UP_WITHIN, || {
        let links = lab.must("n1", &["ip", "netns", "exec", "theirs", "ip", "-o", "link"]);
        (!links.contains("eth0")).then_some(())
    });
    wait_until("its endpoint is gone", UP_WITHIN, || {
        let left = objects(&lab.must("n1", &["weft", "endpoint", "ls", "--json"]));
        (left.len() == 2).then_some(())
    });
    lab.must("n1", &["ip", "netns", "del", "theirs"]);
    lab.down();
}

/// The tap device's machine: Debian's kernel, `ip` from this machine, and weft.
fn boot(lab: &Lab, folder: &Path, mac: &str, device: &str) -> Machine {
    let kernel = Kernel::find("auto", &|_| {}).unwrap_or_else(|e| panic!("{e}"));
    let mut spec = Spec::new("vm1", folder, &weft(), kernel).expect("a machine");
    let (mac, plug) = (mac.to_owned(), Plug::Tap(device.to_owned()));
    spec.cards = vec![Card { mac, plug }];
    // It ends with the thread that boots it, which the namespace's does.
    spec.bound = false;
    let agent = lab.agent("n1").expect("the agent of n1");
    let node = netns::of_pid(agent.unsigned_abs()).expect("the node's namespace");
    let booted = netns::run_in_netns(node, || Machine::boot(&spec));
    let guest = booted.expect("enter n1").unwrap_or_else(|e| panic!("{e}"));
    let ip = std::fs::canonicalize("/sbin/ip").expect("ip (package iproute2)");
    // With its libraries (ldd(1): `name => path (address)`), beside those that weft runs with.
    let needed = Command::new("ldd").arg(&ip).output();
    let needed = text(&needed.expect("ldd (package libc-bin)"));
    let paths = needed.lines().filter_map(|line| line.split_once("=> "));
    let paths = paths.filter_map(|(_, rest)| rest.split_whitespace().next());
    for path in paths.map(Path::new).chain([ip.as_path()]) {
        let name = path.file_name().expect("a name").to_string_lossy();
        let from = std::fs::canonicalize(path).expect("the file");
        let put = guest.copy_in(&from, &format!("/opt/{name}"), 0o755);
        put.unwrap_or_else(|e| panic!("{e}"));
    }
    guest
}

/// Ends the machine, also when the scenario fails.
struct Ends(Machine);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill() {
            eprintln!("the machine does not end: {error}");
        }
    }
}

#[test]
fn a_virtual_machine_joins_a_network_by_a_tap_device() {
    let lab = Lab::up(SITE);
    let folder = tempfile::tempdir().expect("a folder for the machine");
    let facts = attached(&lab, &["red/front/vm1", "--tap", "vm1"]);
    let mac = facts["mac"].as_str().expect("a MAC");
    let own = addresses(&lab, "red/front/vm1");
    let guest = Ends(boot(&lab, folder.path(), mac, "vm1"));
    let inside = |line: &[&str]| guest.0.run(line).unwrap_or_else(|e| panic!("{e}"));
    let ip = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let loader = [
            "/lib64/ld-linux-x86-64.so.2",
            "--library-path",
            "/opt",
            "/opt/ip",
        ];
        let output = inside(&[&loader[..], &words].concat());
        assert!(output.status.success(), "ip {line}: {}", text(&output));
    };
    // As the words of `attach` say.
    let gateways = facts["gateways"].as_array().expect("gateways");
    ip("link set eth0 mtu 1450 up");
    for (address, gateway) in own.iter().zip(gateways) {
        let gateway = gateway.as_str().expect("text");
        ip(&format!("addr add {address} dev eth0 nodad"));
        ip(&format!("route replace {gateway} dev eth0"));
        ip(&format!(
            "route replace default via {gateway} dev eth0 onlink"
        ));
    }
    let weft = |line: &[&str]| inside(&[&["weft"][..], line].concat());
    let all = [
        addresses(&lab, "red/front/far"),
        addresses(&lab, "red/front/near"),
    ]
    .concat();
    reaches("vm1", &all, weft);
    let serve = ["weft", "function", "serve", "tcp/80", "udp/9000"];
    let mut server = guest
        .0
        .command(&serve)
        .spawn()
        .expect("start a server inside");
    for from in ["red/far", "red/near"] {
        let lab = &lab;
        reaches(from, &own, move |line| {
            lab.exec(from, &[&["/.weft"][..], line].concat())
        });
    }
    // More than a packet, both ways.
    let large = lab.probe(
        "red/far",
        "tcp/80",
        &own[0],
        &["--size", "1000000", "--timeout", "20s"],
    );
    assert_eq!(large["ok"], true, "{large}");

    // The machine is held to its address, as a container is.
    let spoofed = || {
        let drops = objects(&lab.must("n1", &["weft", "drops", "--json"]));
        let ours = drops
            .iter()
            .find(|d| d["node"] == "n1" && d["reason"] == "spoofed_address");
        ours.and_then(|d| d["packets"].as_u64()).unwrap_or(0)
    };
    let before = spoofed();
    ip("addr add 10.10.77.77/32 dev eth0");
    ip("route replace 10.10.200.2 via 10.10.0.1 dev eth0 onlink src 10.10.77.77");
    let output = weft(&[
        "function",
        "probe",
        "udp/9000",
        "10.10.200.2",
        "--timeout",
        "300ms",
    ]);
    assert_eq!(
        last_object(&text(&output))["ok"],
        false,
        "{}",
        text(&output)
    );
    assert!(spoofed() > before, "counted");
    ip("route del 10.10.200.2");
    ip("addr del 10.10.77.77/32 dev eth0");

    let outside = lab.enter("red/far");
    let agent = lab.kill_agent("n1");
    reaches("red/far", &own, |line| past_agents(&outside, line));
    lab.start_agent("n1", &agent);
    lab.wait_ready("n1", 2);
    server.kill().expect("end the server");
    server.wait().expect("it ends");
    lab.must("n1", &["weft", "endpoint", "detach", "red/front/vm1"]);
    wait_until("its endpoint is gone", UP_WITHIN, || {
        let left = objects(&lab.must("n1", &["weft", "endpoint", "ls", "--json"]));
        (left.len() == 2).then_some(())
    });
    let lost = weft(&[
        "function",
        "probe",
        "tcp/80",
        "10.10.200.2",
        "--timeout",
        "300ms",
    ]);
    assert_eq!(last_object(&text(&lost))["ok"], false, "{}", text(&lost));
    drop(guest);
    lab.down();
}

#[test]
fn what_moves_to_another_node_keeps_its_addresses() {
    let lab = Lab::up(SITE);
    let before = addresses(&lab, "red/front/near");
    let nodes = ["n1", "n2"];
    for node in nodes {
        lab.must(node, &["ip", "netns", "add", "theirs"]);
    }
    let there = ["red/front/job", "--netns", "/run/netns/theirs"];
    attached(&lab, &there);
    let job = addresses(&lab, "red/front/job");
    // A container of the file, and what somebody else made; there, and back again.
    for node in ["n2", "n1"] {
        let run = [
            "weft",
            "run",
            "red/near",
            "--net",
            "red/front",
            "--node",
            node,
            "host",
            "--",
        ];
        let serve = ["/.weft", "function", "serve", "tcp/80", "udp/9000"];
        lab.must("n1", &[&run[..], &serve].concat());
        attached(&lab, &[&there[..], &["--node", node]].concat());
        assert_eq!(addresses(&lab, "red/front/near"), before, "on {node}");
        assert_eq!(addresses(&lab, "red/front/job"), job, "on {node}");
        let lab = &lab;
        reaches("red/far", &before, move |line| {
            lab.exec("red/far", &[&["/.weft"][..], line].concat())
        });
        let far = addresses(lab, "red/front/far");
        reaches("theirs", &far, move |line| {
            let enter = ["ip", "netns", "exec", "theirs", "weft"];
            lab.exec(node, &[&enter[..], line].concat())
        });
    }
    for name in ["red/near", "red/job"] {
        lab.must("n1", &["weft", "rm", name]);
    }
    wait_until("no claim is left", UP_WITHIN, || {
        let claims = crate::etcdctl::etcdctl(
            &lab,
            "n1",
            &["get", "--prefix", "--keys-only", "/weft/v1/tenants/red"],
        );
        let said = text(&claims);
        let mut keys = said.lines().filter(|key| key.contains("/front/"));
        // But for the address that red/far was given by the file.
        let left = keys.find(|key| {
            (key.contains("/addresses/") && !key.ends_with("/10.10.200.2"))
                || key.ends_with("/endpoints/near")
                || key.ends_with("/endpoints/job")
        });
        left.is_none().then_some(())
    });
    lab.down();
}
