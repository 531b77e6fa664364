//! What a person deletes by hand is back at once, and the node tells. Needs `ip` and `bpftool`.

use std::time::{Duration, Instant};

use crate::lab::{Lab, objects, text, wait_until};

const TWO: &str = r#"
[lab]
name = "repair"
[[node]]
name = "n"
count = 2
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
cidr6 = "fd00:10::/48"
[[container]]
name = "red/a"
node = "n1"
networks = [{ network = "red/front", address = "10.10.200.1" }]
command = ["sleep", "infinity"]
[[container]]
name = "red/b"
node = "n2"
networks = [{ network = "red/front", address = "10.10.200.2" }]
command = ["/.weft", "function", "serve", "tcp/80"]
"#;
/// On a machine of others, too; what it took is printed.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// The host end of red/a's pair.
const PORT: &str = "$(ip -o link show type veth | grep -o -m1 'wv[0-9a-f]*')";

/// Where it is typed.
enum At {
    /// On the node, in its namespaces.
    Node,
    /// In the network of red/a.
    Inside,
}

struct Damage {
    at: At,
    /// As a person would type it; `PORT` is the host end of red/a's pair, `PINS` the node's folder of pins.
    line: &'static str,
    /// The event's subject, and words of what was lost.
    told: (&'static str, &'static str),
}

const fn damage(at: At, line: &'static str, told: (&'static str, &'static str)) -> Damage {
    Damage { at, line, told }
}

const DAMAGES: [Damage; 16] = [
    damage(
        At::Inside,
        "ip route del default",
        ("container red/a", "route 0.0.0.0/0"),
    ),
    damage(
        At::Inside,
        "ip -6 route del default",
        ("container red/a", "route ::/0"),
    ),
    damage(
        At::Inside,
        "ip route flush table main",
        ("container red/a", "route 10.10.0.1/32"),
    ),
    damage(
        At::Inside,
        "ip addr del 10.10.200.1/32 dev eth0",
        ("container red/a", "address 10.10.200.1/32"),
    ),
    damage(
        At::Inside,
        "ip link set eth0 down",
        ("container red/a", "device eth0 up"),
    ),
    damage(
        At::Inside,
        "ip link set eth0 mtu 900",
        ("container red/a", "with its MTU"),
    ),
    damage(
        At::Inside,
        "ip link del eth0",
        ("container red/a", "device "),
    ),
    damage(At::Node, "ip link set PORT down", ("container red/a", "up")),
    damage(At::Node, "ip link del PORT", ("container red/a", "device ")),
    damage(At::Node, "rm PINS/links/*", ("port ", "its program")),
    damage(
        At::Node,
        "ip link set weft-vxlan down",
        ("VXLAN device weft-vxlan", "up"),
    ),
    damage(
        At::Node,
        "ip link del weft-vxlan",
        ("VXLAN device weft-vxlan", "the device"),
    ),
    damage(
        At::Node,
        "rm PINS/active/maps/endpoints",
        ("datapath", "pin of map endpoints"),
    ),
    damage(
        At::Node,
        "rm PINS/active/programs/from_container-*",
        ("datapath", "pin of program from_container"),
    ),
    damage(
        At::Node,
        "rm PINS/active",
        ("datapath", "link to the active generation"),
    ),
    damage(
        At::Node,
        "for map in ports endpoints networks subnets nodes vteps; do bpftool -j map dump pinned PINS/active/maps/$map | \
        grep -o '\"key\":\\[[^]]*\\]' | tr -d '\"key:[]' | tr ',' ' ' | while read key; do bpftool map delete pinned PINS/active/maps/$map key $key; done; done",
        ("datapath tables", "missing"),
    ),
];

/// How many of them a node has told, and of how many in all.
fn told(lab: &Lab, (subject, lost): (&str, &str)) -> usize {
    let status = objects(&lab.must("n1", &["weft", "status", "--json"]));
    let repairs = status[0]["repairs"].as_array().expect("repairs");
    let ours = repairs.iter().filter(|one| {
        one["subject"]
            .as_str()
            .is_some_and(|s| s.starts_with(subject))
            && one["lost"].as_str().is_some_and(|l| l.contains(lost))
    });
    ours.count()
}

#[test]
fn what_somebody_deletes_by_hand_is_back_and_told() {
    let lab = Lab::up(TWO);
    let answers =
        || lab.probe("red/a", "tcp/80", "10.10.200.2", &["--timeout", "500ms"])["ok"] == true;
    wait_until("red/b answers", BACK_WITHIN, || answers().then_some(()));
    assert_eq!(told(&lab, ("", "")), 0, "nobody has deleted anything yet");
    let inside = lab.enter("red/a");
    let pins = lab.must("n1", &["sh", "-c", "echo /sys/fs/bpf/weft/*"]);
    let mut slowest = Duration::ZERO;
    for damage in &DAMAGES {
        let line = damage.line.replace("PINS", pins.trim());
        let line = line.replace("PORT", PORT);
        let before = told(&lab, damage.told);
        let begun = Instant::now();
        let output = match damage.at {
            At::Node => lab.exec("n1", &["sh", "-ec", &line]),
            At::Inside => inside
                .command(&["sh", "-ec", &line])
                .output()
                .expect("nsenter"),
        };
        assert!(output.status.success(), "{line}: {}", text(&output));
        wait_until(&format!("told after `{line}`"), BACK_WITHIN, || {
            (told(&lab, damage.told) > before).then_some(())
        });
        let took = begun.elapsed();
        wait_until(&format!("an answer after `{line}`"), BACK_WITHIN, || {
            answers().then_some(())
        });
        println!("{:>5} ms  {line}", took.as_millis());
        slowest = slowest.max(took);
    }
    println!("slowest: {} ms", slowest.as_millis());
    lab.down();
}
