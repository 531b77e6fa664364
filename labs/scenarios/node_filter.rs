//! What an operator's packet filter on a node says holds for all that nodes send each other, also for what would otherwise
//! take the short way past it. Needs `ip` and `nft`.

use std::time::Duration;

use crate::lab::{Lab, UP_WITHIN, wait_until};

const SITE: &str = r#"
[lab]
name = "filter"
[[node]]
name = "n"
count = 2
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
[[container]]
name = "red/a"
node = "n1"
networks = ["red/front"]
command = ["sleep", "infinity"]
[[container]]
name = "red/b"
node = "n2"
networks = ["red/front"]
command = ["/.weft", "function", "serve", "udp/9000"]
"#;
/// A rule that is added or removed is seen within a pass; the machine may be busy.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// What a node's VXLAN device has received.
fn by_device(lab: &Lab, node: &str) -> u64 {
    let line = ["ip", "-json", "-stats", "link", "show", "dev", "weft-vxlan"];
    let said = lab.must(node, &line);
    let found: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let packets = found[0]["stats64"]["rx"]["packets"].as_u64();
    packets.expect("the device counts")
}

#[test]
fn a_rule_about_the_tunnel_holds_for_datagrams_too() {
    let lab = Lab::up(SITE);
    let to = lab.address("red/b");
    let answers = || lab.probe("red/a", "udp/9000", &to, &["--timeout", "1s"])["ok"] == true;
    let past_the_device = || {
        let before = by_device(&lab, "n2");
        (answers() && by_device(&lab, "n2") == before).then_some(())
    };
    wait_until("datagrams take the short way", UP_WITHIN, past_the_device);
    let nft = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        lab.must("n2", &[&["nft"], &words[..]].concat())
    };
    nft("add table inet mine");
    nft("add chain inet mine in { type filter hook input priority 0 ; }");
    nft("add rule inet mine in udp dport 4789 drop");
    wait_until("the rule holds", SEEN_WITHIN, || (!answers()).then_some(()));
    nft("delete table inet mine");
    wait_until("the rule is gone", SEEN_WITHIN, past_the_device);
    lab.down();
}
