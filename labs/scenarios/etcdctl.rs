//! The stock etcd client against a lab's store. Needs `etcdctl` 3.4 (package etcd-client).

use std::process::Output;
use std::time::Duration;

use crate::lab::{Lab, PLAIN, objects, text, wait_until};

/// Runs etcdctl in a node, against its own member.
pub fn etcdctl(lab: &Lab, node: &str, args: &[&str]) -> Output {
    let mut line = vec![
        "env",
        "ETCDCTL_API=3",
        "etcdctl",
        "--endpoints",
        "127.0.0.1:2379",
    ];
    line.extend(args);
    let output = lab.exec(node, &line);
    let said = text(&output);
    assert!(
        !said.contains("No such file"),
        "etcdctl is missing: install the package etcd-client ({said})"
    );
    output
}

fn must(lab: &Lab, args: &[&str]) -> String {
    let output = etcdctl(lab, "n1", args);
    assert!(
        output.status.success(),
        "etcdctl {}: {}",
        args.join(" "),
        text(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_stock_client_works() {
    let lab = Lab::up(PLAIN);
    assert_eq!(must(&lab, &["put", "test/a", "1"]).trim(), "OK");
    must(&lab, &["put", "test/b", "2"]);
    assert_eq!(
        must(&lab, &["get", "--prefix", "test/"]),
        "test/a\n1\ntest/b\n2\n"
    );
    // Through another member too.
    let there = etcdctl(&lab, "n2", &["get", "test/a", "--print-value-only"]);
    assert_eq!(text(&there), "1\n");
    assert_eq!(must(&lab, &["del", "test/b"]).trim(), "1");
    transaction(&lab);
    watch(&lab);
    lease(&lab);
    let members = objects(&must(&lab, &["member", "list", "-w", "json"]));
    assert_eq!(members[0]["members"].as_array().map(Vec::len), Some(3));
    let status = objects(&must(&lab, &["endpoint", "status", "-w", "json"]));
    assert!(!status[0]["Status"]["leader"].is_null(), "{status:?}");
    lab.down();
}

fn transaction(lab: &Lab) {
    let script = "printf 'value(\"test/a\") = \"1\"\\n\\nput test/a 3\\n\\nput test/a 4\\n\\n' \
        | ETCDCTL_API=3 etcdctl --endpoints 127.0.0.1:2379 txn";
    let said = lab.must("n1", &["sh", "-c", script]);
    assert!(said.contains("SUCCESS"), "{said}");
    assert_eq!(must(lab, &["get", "test/a", "--print-value-only"]), "3\n");
}

fn watch(lab: &Lab) {
    let script = "ETCDCTL_API=3 timeout 10 etcdctl --endpoints 127.0.0.1:2379 \
        watch test/w --rev 1 | head -n 3";
    must(lab, &["put", "test/w", "seen"]);
    assert_eq!(lab.must("n1", &["sh", "-c", script]), "PUT\ntest/w\nseen\n");
}

fn lease(lab: &Lab) {
    let granted = must(lab, &["lease", "grant", "60"]);
    let id = granted
        .split_whitespace()
        .nth(1)
        .expect("lease ID granted ...")
        .to_owned();
    must(lab, &["put", "test/l", "leased", "--lease", &id]);
    let kept = must(lab, &["lease", "keep-alive", "--once", &id]);
    assert!(kept.contains("keepalived"), "{kept}");
    must(lab, &["lease", "revoke", &id]);
    wait_until("the leased key is gone", Duration::from_secs(5), || {
        must(lab, &["get", "test/l"]).is_empty().then_some(())
    });
}
