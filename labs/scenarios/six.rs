//! Nodes that know each other by IPv6 carry the same networks: on one segment, and on links with a node between.

use std::process::Command;

use crate::lab::{Lab, machine, objects, text, unique, weft};

const TWO_TENANTS: &str = include_str!("../topologies/two-tenants.toml");
/// Encapsulation over IPv6: 14 + 8 + 8 + 40 bytes (RFC 7348, 5).
const OVERHEAD: u32 = 70;
const GUARD: &str = include_str!("../topologies/web-guard.toml");
/// n3 is behind n2 for n1, and n2's second link takes less than its first one.
const LINE: &str = r#"
[[link]]
between = ["n1", "n2"]

[[link]]
between = ["n2", "n3"]
mtu = 1400
"#;

#[test]
fn two_tenants_live_on_an_ipv6_segment() {
    two_tenants("").down();
}

#[test]
fn two_tenants_live_on_ipv6_links() {
    let lab = two_tenants(LINE);
    let seen = lab.must("n2", &["cat", "/proc/net/snmp6"]);
    let forwarded = seen
        .lines()
        .find(|line| line.starts_with("Ip6OutForwDatagrams"));
    let forwarded = forwarded.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    assert!(forwarded.is_some_and(|packets: u64| packets > 0), "{seen}");
    // What a node may send by any of its links.
    assert_eq!(mtu(&lab, "red/web2"), 1400 - OVERHEAD);
    lab.down();
}

/// Runs all steps of the topology with this at its end; the lab stays.
fn two_tenants(more: &str) -> Lab {
    let machine = machine();
    let files = tempfile::tempdir().expect("a folder for the lab's file");
    let head = "name = \"two-tenants\"\n";
    assert!(TWO_TENANTS.contains(head));
    let source = TWO_TENANTS.replacen(head, &format!("{head}underlay = \"ipv6\"\n"), 1) + more;
    let file = files.path().join("lab.toml");
    std::fs::write(&file, source).expect("write the lab's file");
    std::fs::write(files.path().join("web-guard.toml"), GUARD).expect("write the chain's file");
    let name = unique("six");
    let output = Command::new(weft())
        .args([
            "lab",
            "run",
            file.to_str().expect("a path"),
            "--name",
            &name,
        ])
        .arg("--keep")
        .output()
        .expect("run weft");
    let lab = Lab::adopt(machine, name, files);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("6 of 6 steps passed"), "{said}");

    let status = lab.must("n1", &["weft", "status", "--json"]);
    let nodes = objects(&status)
        .iter()
        .find_map(|one| one["nodes"].as_array().cloned());
    let nodes = nodes.unwrap_or_else(|| panic!("{status}"));
    assert_eq!(nodes.len(), 3, "{status}");
    for node in nodes {
        let text = node.to_string();
        assert!(
            text.contains("2001:db8::1") && !text.contains("192.0.2."),
            "{text}"
        );
    }
    assert_eq!(mtu(&lab, "red/a"), 1500 - OVERHEAD);
    lab
}

/// Of a container's interface.
fn mtu(lab: &Lab, container: &str) -> u32 {
    let text = lab.must(container, &["cat", "/sys/class/net/eth0/mtu"]);
    text.trim().parse().expect("a number")
}
