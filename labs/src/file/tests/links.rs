//! Links: what is said of them, and what each mistake says and where.

use super::*;

const PAIR: &str = "[[link]]\nbetween = [\"n1\", \"n2\"]\n";

#[test]
fn a_link_has_what_its_keys_say_and_one_way_what_differs() {
    let lab = read(&format!(
        "{HEAD}{PAIR}delay = \"5ms\"\njitter = \"500us\"\nloss = \"1%\"\nrate = \"100mbit\"\nmtu = 1400\nfrom.n1.loss = \"0%\"\nfrom.n1.cut = true\n"
    ))
    .unwrap();
    let link = &lab.links[0];
    let whole = &link.impairment;
    assert_eq!(whole.delay, Duration::from_millis(5));
    assert_eq!(whole.jitter, Duration::from_micros(500));
    assert_eq!((whole.loss, whole.rate), (0.01, Some(100_000_000)));
    assert_eq!((whole.mtu, link.mtu), (Some(1400), Some(1400)));
    let (node, way) = link.from.iter().next().unwrap();
    assert_eq!(node.as_str(), "n1");
    assert_eq!((way.loss, way.cut, way.delay), (0.0, true, whole.delay));
    assert!(link.relayed);
}

#[test]
fn only_what_must_be_passes_the_relay() {
    let relayed = |tail: &str| {
        let lab = read(&format!("{HEAD}{PAIR}{tail}")).unwrap();
        lab.links[0].relayed
    };
    assert!(!relayed(""));
    assert!(!relayed("mtu = 9000\n"));
    assert!(relayed("delay = \"0ms\"\n"));
    assert!(relayed("capture = \"x.pcapng\"\n"));
    let step = "[[step]]\nlink = { between = [\"n2\", \"n1\"]";
    assert!(!relayed(&format!("{step}, state = \"down\" }}\n")));
    assert!(relayed(&format!("{step}, from = \"n1\", cut = true }}\n")));
}

#[test]
fn what_a_link_cannot_be_is_told_at_its_key() {
    let found = mistakes(&format!(
        "{PAIR}jitter = \"5ms\"\n[[link]]\nbetween = [\"n1\", \"n1\"]\n[[link]]\nbetween = [\"n2\", \"n1\"]\n[[link]]\nbetween = [\"n1\", \"n9\"]\nreorder = \"5%\"\nfrom.n2.cut = true\nfrom.n1.delay = \"61s\"\n"
    ));
    let told: Vec<(usize, &str)> = found.iter().map(|m| (m.0, m.1.as_str())).collect();
    assert_eq!(
        told,
        [
            (
                3,
                "link: jitter 5ms is more than the delay 0ns that it varies"
            ),
            (
                5,
                "link between n1 and n1: it needs different nodes that are not joined yet"
            ),
            (
                7,
                "link between n2 and n1: it needs different nodes that are not joined yet"
            ),
            (9, "there is no node n9"),
            (
                10,
                "link: reorder needs a delay: without one nothing can be overtaken"
            ),
            (11, "link: n2 is not at it"),
            (12, "link: what n1 sends: delay is 61s; the longest is 60s"),
        ]
    );
}

#[test]
fn a_step_that_changes_nothing_or_what_is_not_there_is_a_mistake() {
    let step = |tail: &str| format!("[[step]]\nlink = {{ between = [\"n1\", \"n2\"]{tail} }}\n");
    let steps = [
        step(""),
        step(", state = \"down\", from = \"n1\""),
        step(", from = \"n3\", cut = true"),
        step(", loss = \"2\""),
    ];
    let found = mistakes(&format!("{PAIR}{}", steps.concat()));
    let told: Vec<&str> = found.iter().map(|m| m.1.as_str()).collect();
    assert_eq!(
        told,
        [
            "link: nothing to change",
            "link: nothing to change",
            "link: n3 is not at it",
            "link: `loss`: not a part of a hundred",
        ]
    );
    let lab = read(&format!(
        "{HEAD}{PAIR}{}",
        step(", from = \"n2\", rate = \"none\", cut = false")
    ));
    assert_eq!(
        lab.unwrap().steps[0].kind.to_string(),
        "link n1 to n2 is set no rate, not cut from n2"
    );
}

#[test]
fn a_step_is_judged_by_what_the_file_and_earlier_steps_say_of_its_link() {
    let step =
        |words: &str| format!("[[step]]\nlink = {{ between = [\"n1\", \"n2\"], {words} }}\n");
    let one_way = step("from = \"n1\", delay = \"5ms\"");
    let all = [
        step("reorder = \"5%\""),
        one_way,
        step("from = \"n1\", jitter = \"5ms\""),
        step("from = \"n2\", jitter = \"1ms\""),
        step("delay = \"9ms\""),
        step("jitter = \"9ms\""),
        step("delay = \"1ms\""),
    ];
    let found = mistakes(&format!("{PAIR}{}", all.concat()));
    let told: Vec<(usize, &str)> = found.iter().map(|m| (m.0, m.1.as_str())).collect();
    assert_eq!(
        told,
        [
            (
                4,
                "link: reorder needs a delay: without one nothing can be overtaken"
            ),
            (
                10,
                "link: jitter 1ms is more than the delay 0ns that it varies"
            ),
            (
                16,
                "link: jitter 9ms is more than the delay 1ms that it varies"
            ),
        ]
    );
    let good = format!("{HEAD}{PAIR}delay = \"5ms\"\n{}", step("jitter = \"5ms\""));
    assert!(read(&good).is_ok());
}
