//! A relay that stands still, goes on, or goes on in another process.

use std::io::ErrorKind;
use std::time::Instant;

use super::rig::{FRAME, Node, Rig, SILENCE, ms, unix};
use crate::relay::{Client, Impairment, LinkKind, LinkSpec, Reply, Request};

/// Longer than a machine that does other work lets a thread wait, and than [`SILENCE`].
const DELAY: u64 = 400;

fn delayed() -> Impairment {
    Impairment {
        delay: ms(DELAY),
        ..Impairment::default()
    }
}

fn expect(node: &Node, marks: &[u8]) {
    let mut buffer = [0; FRAME];
    for mark in marks {
        node.recv(&mut buffer).unwrap();
        assert_eq!(buffer[0], *mark);
    }
}

fn expect_nothing(node: &Node) {
    let error = node.recv(&mut [0; FRAME]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_is_on_a_link_that_stands_has_as_far_to_go_as_before() {
    let (mut rig, a, b) = Rig::wire(delayed());
    let file = rig.folder.path().join("l.pcapng");
    rig.ask(Request::Capture {
        link: "l".into(),
        file: Some(file),
        append: false,
    });
    let begun = Instant::now();
    a.send(&[1; 99]);
    // Read before the link stands: what is read later is kept, and goes its whole way.
    while rig
        .stats()
        .capture
        .is_none_or(|capture| capture.frames == 0)
    {
        std::thread::yield_now();
    }
    // A quarter of its way, not a wait for something.
    std::thread::sleep(ms(DELAY / 4));
    rig.ask(Request::Freeze);
    let gone = begun.elapsed();
    assert!(
        rig.client.ask(&Request::Freeze).is_err(),
        "it stands already"
    );
    a.send(&[2; 99]);
    b.bound.set_read_timeout(Some(ms(DELAY + 100))).unwrap();
    expect_nothing(&b);
    let again = Instant::now();
    rig.ask(Request::Go);
    b.bound.set_read_timeout(Some(SILENCE + ms(DELAY))).unwrap();
    expect(&b, &[1]);
    let rest = again.elapsed();
    assert!(rest + gone >= ms(DELAY), "{rest:?} after {gone:?}");
    assert!(
        rest < ms(DELAY),
        "{rest:?} after {gone:?}: not its whole way"
    );
    expect(&b, &[2]);
    assert!(
        again.elapsed() >= ms(DELAY),
        "what was sent meanwhile goes its whole way"
    );
}

#[test]
fn a_relay_stands_no_longer_than_who_asked_for_it_is_there() {
    let (mut rig, a, b) = Rig::wire(Impairment::default());
    let mut engine = Client::connect(&rig.folder.path().join("control")).unwrap();
    assert_eq!(engine.ask(&Request::Freeze).unwrap(), Reply::Done);
    a.send(&[1; 99]);
    expect_nothing(&b);
    let refused = rig.client.ask(&Request::Save {
        file: "/no/such".into(),
    });
    assert!(refused.unwrap_err().to_string().contains("/no/such"));
    drop(engine);
    expect(&b, &[1]);
    let refused = rig.client.ask(&Request::Save {
        file: "/no/such".into(),
    });
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("only while it stands")
    );
}

#[test]
fn another_relay_goes_on_where_the_first_one_stood() {
    let folder = tempfile::tempdir().unwrap();
    let link = LinkSpec {
        name: "lan".into(),
        kind: LinkKind::Segment,
        ends: ["a", "b", "c"].map(|node| unix(folder.path(), node)).into(),
        impairment: delayed(),
    };
    let file = folder.path().join("state");
    let mut first = Rig::start(folder, link);
    let (a, b, c) = (first.node("a"), first.node("b"), first.node("c"));
    // Its first link is gone: ends keep their numbers.
    first.ask(Request::Add {
        link: LinkSpec {
            name: "other".into(),
            kind: LinkKind::Segment,
            ends: vec![unix(first.folder.path(), "d")],
            impairment: Impairment::default(),
        },
    });
    first.ask(Request::Remove {
        link: "other".into(),
    });
    let broadcast = |mark| [[255; 6].as_slice(), &[2; 6], &[mark; 50]].concat();
    a.send(&broadcast(1));
    while first.stats().lanes[0].counters.passed == 0 {
        std::thread::yield_now();
    }
    expect_mark(&b, 1);
    expect_mark(&c, 1);
    a.send(&broadcast(2));
    a.send(&broadcast(3));
    first.ask(Request::Freeze);
    a.send(&broadcast(4));
    first.ask(Request::Save { file: file.clone() });
    let before = first.stats();
    first.ask(Request::Cut {
        link: "lan".into(),
        direction: None,
    });
    let folder = std::mem::replace(&mut first.folder, tempfile::tempdir().unwrap());
    first.stop();

    let mut second = Rig::from(folder, Vec::new(), Some(file));
    expect_nothing(&b);
    assert_eq!(
        second.stats(),
        before,
        "impairments and counters are as they were saved"
    );
    second.ask(Request::Go);
    b.bound.set_read_timeout(Some(SILENCE + ms(DELAY))).unwrap();
    for node in [&b, &c] {
        for mark in [2, 3, 4] {
            expect_mark(node, mark);
        }
    }
    // Node a has learnt its place; who sends to it floods nobody else.
    let b = reconnected(&second, b);
    b.send(&[[2; 6].as_slice(), &[6; 6], &[5; 50]].concat());
    a.bound.set_read_timeout(Some(SILENCE + ms(DELAY))).unwrap();
    expect_mark(&a, 5);
    expect_nothing(&c);
}

fn expect_mark(node: &Node, mark: u8) {
    let mut buffer = [0; FRAME];
    node.bound
        .set_read_timeout(Some(SILENCE + ms(DELAY)))
        .unwrap();
    node.recv(&mut buffer).unwrap();
    assert_eq!(buffer[12], mark);
}

/// The node's own socket, and a way to another relay.
fn reconnected(rig: &Rig, node: Node) -> Node {
    node.out.connect(rig.folder.path().join("b.relay")).unwrap();
    node
}
