//! Two tenants with equal addresses reach outside and are reached from there at the same time, by the same node. Outside
//! is a host on the underlay's segment that is no node. Needs `ip` and `nft`.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use weft_overlay::{filter, gateway, netns};

use crate::lab::{Inside, Lab, UP_WITHIN, last_object, node_address, objects, text, wait_until};

const SITE: &str = r#"
[lab]
name = "egress"
[[node]]
name = "n"
count = 2
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
cidr6 = "fd00:10::/48"
egress = "nat"
[[network]]
name = "blue/front"
cidr = "10.10.0.0/16"
cidr6 = "fd00:10::/48"
egress = "nat"
[[network]]
name = "red/closed"
cidr = "10.10.0.0/16"
[[container]]
name = "red/web"
node = "n1"
networks = [{ network = "red/front", address = "10.10.4.7" }]
command = ["/.weft", "function", "serve", "tcp/80", "udp/9000"]
publish = ["8080:tcp/80", "9000:udp/9000"]
[[container]]
name = "blue/web"
node = "n1"
networks = [{ network = "blue/front", address = "10.10.4.7" }]
command = ["/.weft", "function", "serve", "tcp/80", "udp/9000"]
publish = ["8081:tcp/80", "9001:udp/9000"]
[[container]]
name = "red/inner"
node = "n1"
networks = [{ network = "red/closed", address = "10.10.4.7" }]
command = ["/.weft", "function", "serve", "tcp/80"]
publish = ["8082:tcp/80"]
"#;
/// The node, and the host outside, by both families.
const NODE: [&str; 2] = ["192.0.2.11", "2001:db8:5::11"];
const OUTSIDE: [&str; 2] = ["192.0.2.200", "2001:db8:5::200"];
/// An address of the node by which no other node knows it.
const OTHER: &str = "203.0.113.5";
/// What somebody took away is back within.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Puts a host on the segment, by a device of n2's, and gives n1 an IPv6 address and one more of IPv4.
fn outside(lab: &Lab) {
    let [four, six] = OUTSIDE;
    let lines = format!(
        "ip netns add out && ip link add link eth0 name m0 type macvlan mode bridge && ip link set m0 netns out && \
         ip -n out link set lo up && ip -n out link set m0 up && ip -n out addr add {four}/24 dev m0 && \
         ip -n out addr add {six}/64 dev m0 nodad && ip -n out route add {OTHER}/32 via {}",
        NODE[0]
    );
    lab.must("n2", &["sh", "-ec", &lines]);
    let lines = format!(
        "ip addr replace {}/24 dev eth0 && ip addr add {}/64 dev eth0 nodad && ip addr add {OTHER}/32 dev lo",
        NODE[0], NODE[1]
    );
    lab.must("n1", &["sh", "-ec", &lines]);
}

fn ask(output: &Output) -> Value {
    last_object(&text(output))
}

/// A probe by the host outside.
fn from_outside(lab: &Lab, traffic: &str, to: &str) -> Value {
    let line = [
        "ip", "netns", "exec", "out", "weft", "function", "probe", traffic, to,
    ];
    ask(&lab.exec("n2", &[&line[..], &["--timeout", "1s"]].concat()))
}

/// A probe in a container's network, which needs no agent.
fn from_inside(inside: &Inside, traffic: &str, to: &str) -> Value {
    let probe = inside.spawn_weft(&["function", "probe", traffic, to, "--timeout", "1s"]);
    ask(&probe.wait_with_output().expect("it ends"))
}

/// Waits for an answer; whose it is.
fn answered(what: &str, probe: impl Fn() -> Value) -> String {
    wait_until(what, UP_WITHIN, || {
        let seen = probe();
        let by = seen["answer"].as_str().unwrap_or_default().to_owned();
        (seen["ok"] == true).then_some(by)
    })
}

/// Both tenants, in and out, by all that can be, with nobody's answer for another's.
fn all_flows(lab: &Lab, red: &Inside, blue: &Inside) {
    let mut answers = Vec::new();
    for (tcp, udp) in [("tcp/8080", "udp/9000"), ("tcp/8081", "udp/9001")] {
        let mut by = Vec::new();
        for node in NODE {
            for traffic in [tcp, udp] {
                let what = format!("{node} {traffic} from outside");
                by.push(answered(&what, || from_outside(lab, traffic, node)));
            }
        }
        by.dedup();
        assert_eq!(by.len(), 1, "one container answers: {by:?}");
        answers.extend(by);
    }
    assert_ne!(answers[0], answers[1], "each tenant its own");
    for (who, inside) in [("red", red), ("blue", blue)] {
        for host in OUTSIDE {
            for traffic in ["tcp/80", "udp/9000"] {
                let what = format!("{who} to {host} by {traffic}");
                answered(&what, || from_inside(inside, traffic, host));
            }
        }
    }
}

fn must_not(what: &str, seen: &Value) {
    assert_eq!(seen["ok"], false, "{what}: {seen}");
}

/// How often n1 told that it put something back.
fn told(lab: &Lab, lost: &str) -> usize {
    let status = objects(&lab.must("n1", &["weft", "status", "--json"]));
    let repairs = status[0]["repairs"].as_array().expect("repairs").iter();
    repairs
        .filter(|one| {
            let text = one.to_string();
            text.contains("gateway of network") && text.contains(lost)
        })
        .count()
}

#[test]
fn equal_addresses_of_two_tenants_go_out_and_are_published_at_once() {
    let lab = Lab::up(SITE);
    outside(&lab);
    let (red, blue) = (lab.enter("red/web"), lab.enter("blue/web"));
    let serve = [
        "ip", "netns", "exec", "out", "weft", "function", "serve", "tcp/80", "udp/9000",
    ];
    let mut server = lab.spawn("n2", &serve);
    all_flows(&lab, &red, &blue);
    for who in ["red/web", "blue/web"] {
        for host in OUTSIDE {
            let ping = || lab.probe(who, "icmp", host, &["--timeout", "1s"]);
            answered(&format!("{who} pings {host}"), ping);
        }
    }
    // A node's own processes, and another node's, are clients like any other.
    let own = node_address(1).to_string();
    for node in ["n1", "n2"] {
        let line = [
            "weft",
            "function",
            "probe",
            "tcp/8080",
            &own,
            "--timeout",
            "1s",
        ];
        answered(node, || ask(&lab.exec(node, &line)));
    }
    // Published, and nothing else: its network stays closed.
    answered("red/inner", || from_outside(&lab, "tcp/8082", NODE[0]));
    let inner = lab.enter("red/inner");
    must_not(
        "a closed network",
        &from_inside(&inner, "tcp/80", OUTSIDE[0]),
    );

    // No address of the node, known to others or not.
    let mut listens = lab.spawn("n1", &["weft", "function", "serve", "tcp/7000"]);
    answered("the node's own service", || {
        from_outside(&lab, "tcp/7000", OTHER)
    });
    let closed = [
        NODE[0],
        NODE[1],
        OTHER,
        "169.254.64.0",
        "169.254.64.2",
        "10.10.0.1",
        &own,
        &node_address(2).to_string(),
    ];
    let mut probes = Vec::new();
    for to in closed {
        for traffic in ["tcp/7000", "tcp/8080", "tcp/8081", "tcp/7946"] {
            let line = ["function", "probe", traffic, to, "--timeout", "1s"];
            probes.push((format!("{traffic} of {to}"), red.spawn_weft(&line)));
        }
    }
    for (what, probe) in probes {
        must_not(&what, &ask(&probe.wait_with_output().expect("it ends")));
    }
    taken_over(&lab, &red);
    listens.kill().expect("it runs");
    listens.wait().expect("it ends");

    refusals(&lab);
    hand_made_damage(&lab);
    // Whoever made it may die.
    let args = lab.kill_agent("n1");
    all_flows(&lab, &red, &blue);
    lab.start_agent("n1", &args);
    lab.wait_ready("n1", 2);
    all_flows(&lab, &red, &blue);
    let lost = told(&lab, "");
    assert_eq!(lost, 0, "a new agent takes over what is there");

    end(&lab, &red);
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    lab.down();
}

/// The same on the oldest kernel that is supported. Outside is an address of the other machine by which no node knows it.
#[test]
fn machines_have_ways_out_and_published_ports() {
    let with = "count = 2\npackages = [\"busybox-static\"]\n";
    assert!(SITE.contains("count = 2\n"));
    let lab = Lab::up_on("qemu", &SITE.replacen("count = 2\n", with, 1));
    // In a range of its own, or a datagram would be answered by the address that nodes know.
    let hosts = ["198.51.100.200", OUTSIDE[1]];
    for (node, addresses) in [("n1", ["198.51.100.11", NODE[1]]), ("n2", hosts)] {
        for address in addresses {
            let net = format!("{address}/{}", if address.contains(':') { 64 } else { 24 });
            lab.must(node, &["busybox", "ip", "addr", "add", &net, "dev", "eth0"]);
        }
    }
    let serve = ["weft", "function", "serve", "tcp/80", "udp/9000"];
    let mut server = lab.spawn("n2", &serve);
    let inside =
        |who: &str, traffic: &str, to: &str| lab.probe(who, traffic, to, &["--timeout", "2s"]);
    for who in ["red/web", "blue/web"] {
        for host in hosts {
            for traffic in ["tcp/80", "udp/9000", "icmp"] {
                let what = format!("{who} to {host} by {traffic}");
                answered(&what, || inside(who, traffic, host));
            }
        }
    }
    let mut answers = std::collections::BTreeMap::new();
    for (who, tcp, udp) in [
        ("red", "tcp/8080", "udp/9000"),
        ("blue", "tcp/8081", "udp/9001"),
    ] {
        for node in NODE {
            for traffic in [tcp, udp] {
                let line = [
                    "weft",
                    "function",
                    "probe",
                    traffic,
                    node,
                    "--timeout",
                    "2s",
                ];
                let by = answered(&format!("{node} {traffic}"), || ask(&lab.exec("n2", &line)));
                assert_eq!(answers.entry(who).or_insert_with(|| by.clone()), &by);
            }
        }
    }
    assert_ne!(answers["red"], answers["blue"], "each tenant its own");
    for to in [
        NODE[0],
        NODE[1],
        "198.51.100.11",
        "192.0.2.12",
        "169.254.64.0",
    ] {
        must_not(to, &inside("red/web", "tcp/7946", to));
    }
    must_not("a closed network", &inside("red/inner", "tcp/80", hosts[0]));
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    lab.down();
}

/// What listens on a node stays the node's, whoever publishes its port and whoever translates to it, and nobody speaks to
/// the tunnels' port.
fn taken_over(lab: &Lab, red: &Inside) {
    let publish = [
        "--net",
        "red/front",
        "--node",
        "n1",
        "--publish",
        "7000:tcp/80",
    ];
    let serve = ["host", "--", "/.weft", "function", "serve", "tcp/80"];
    let run = |publish: &[&str]| {
        let line = ["weft", "run", "red/thief"];
        lab.exec("n1", &[&line[..], publish, &serve].concat())
    };
    let own = |what: &str| {
        let by = answered(what, || from_outside(lab, "tcp/7000", OTHER));
        assert!(by.starts_with("n1 "), "{what}: {by}");
    };
    let refused = run(&publish);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    own("after a container that wants its port");
    lab.must("n1", &["weft", "rm", "red/thief"]);
    // It runs already, and is given the port afterwards.
    let ran = run(&publish[..4]);
    assert!(ran.status.success(), "{}", text(&ran));
    run(&publish);
    let told = || {
        let status = lab.must("n1", &["weft", "status"]);
        status.contains("port 7000/tcp").then_some(())
    };
    wait_until("it is told", UP_WITHIN, told);
    own("after a container that runs wants its port");
    lab.must("n1", &["weft", "rm", "red/thief"]);

    let rules = "nft add table ip mine; nft add chain ip mine pre '{ type nat hook prerouting priority -110 ; }'; \
                 nft add rule ip mine pre tcp dport 7001 redirect to :7000; \
                 nft add rule ip mine pre tcp dport 7002 dnat to 192.0.2.12:7946";
    lab.must("n1", &["sh", "-ec", rules]);
    for traffic in ["tcp/7001", "tcp/7002"] {
        must_not(traffic, &from_inside(red, traffic, OUTSIDE[0]));
    }
    lab.must("n1", &["nft", "delete", "table", "ip", "mine"]);

    let line = [
        "ip", "netns", "exec", "out", "weft", "function", "serve", "udp/4789", "udp/4790",
    ];
    let mut tunnel = lab.spawn("n2", &line);
    answered("another port", || from_inside(red, "udp/4790", OUTSIDE[0]));
    must_not(
        "the tunnels' port",
        &from_inside(red, "udp/4789", OUTSIDE[0]),
    );
    tunnel.kill().expect("it runs");
    tunnel.wait().expect("it ends");
}

/// A port is published once, and not in the place of somebody else's service.
fn refusals(lab: &Lab) {
    let run = |name: &str, publish: &str, more: &[&str]| {
        let line = [
            "weft",
            "run",
            name,
            "--net",
            "red/front",
            "--node",
            "n1",
            "--publish",
            publish,
        ];
        let command = ["host", "--", "sleep", "infinity"];
        lab.exec("n1", &[&line[..], more, &command].concat())
    };
    let taken = run("red/other", "8081:tcp/80", &[]);
    let said = text(&taken);
    assert_eq!(taken.status.code(), Some(4), "{said}");
    assert!(
        said.contains("port 8081/tcp of node n1 is published by a container of another tenant"),
        "{said}"
    );
    // The same number of the other protocol is another port; the store listens on this one.
    let listened = run("red/other", "2379:tcp/80", &[]);
    let said = text(&listened);
    assert_eq!(listened.status.code(), Some(1), "{said}");
    assert!(said.contains("port 2379/tcp of this node"), "{said}");
    lab.must("n1", &["weft", "rm", "red/other"]);
    let bad = run("red/other", "80", &[]);
    assert!(text(&bad).contains("8080:tcp/80"), "{}", text(&bad));
}

/// What somebody takes away is back, and told.
fn hand_made_damage(lab: &Lab) {
    let agent = lab.agent("n1").expect("it runs");
    let node = netns::of_pid(u32::try_from(agent).expect("a pid")).expect("its namespace");
    let damages: [(&str, &dyn Fn()); 3] = [
        ("device weftu0", &|| {
            drop(lab.must("n1", &["ip", "link", "del", "weftu0"]))
        }),
        ("device wefti1", &|| {
            drop(lab.must("n1", &["ip", "link", "del", "wefti1"]))
        }),
        ("route 0.0.0.0/0", &|| {
            let enter = "nsenter --net=/run/weft/gateways/0 ip route del default";
            lab.must("n1", &["sh", "-ec", enter]);
        }),
    ];
    for (lost, damage) in damages {
        let begun = Instant::now();
        damage();
        wait_until(&format!("{lost} is told"), BACK_WITHIN, || {
            (told(lab, lost) > 0).then_some(())
        });
        println!("{lost}: back after {} ms", begun.elapsed().as_millis());
    }
    let begun = Instant::now();
    let before = filter::generation(&node).expect("it has rules");
    filter::remove(&node, gateway::TABLE).expect("they are removed");
    wait_until("the rules are back", BACK_WITHIN, || {
        let now = filter::generation(&node).expect("the kernel tells");
        (now > before + 1).then_some(())
    });
    println!(
        "the node's rules: back after {} ms",
        begun.elapsed().as_millis()
    );
}

/// What nobody wants any more goes, to the last trace.
fn end(lab: &Lab, red: &Inside) {
    let answers = |traffic: &str| from_outside(lab, traffic, NODE[0])["ok"] == true;
    lab.must("n1", &["weft", "rm", "blue/web"]);
    wait_until("blue's port is closed", UP_WITHIN, || {
        (!answers("tcp/8081")).then_some(())
    });
    assert!(answers("tcp/8080"), "red's is not");
    // The network stays, and its way out ends.
    let line = [
        "weft",
        "network",
        "create",
        "red/front",
        "--cidr",
        "10.10.0.0/16",
        "--cidr",
        "fd00:10::/48",
    ];
    lab.must("n1", &line);
    wait_until("red is closed", UP_WITHIN, || {
        (from_inside(red, "tcp/80", OUTSIDE[0])["ok"] == false).then_some(())
    });
    assert!(answers("tcp/8080"), "its published port is open");
    for container in ["red/web", "red/inner"] {
        lab.must("n1", &["weft", "rm", container]);
    }
    let left = "ls /run/weft/gateways; ip -br link | grep -E '^weft[iu][0-9]' ; grep gateways /proc/mounts; \
                cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";
    let mut seen = String::new();
    let gone = || {
        seen = lab.must("n1", &["sh", "-c", left]);
        (seen == "0\n0\n").then_some(())
    };
    wait_until("nothing is left of the gateways", UP_WITHIN, gone);
}
