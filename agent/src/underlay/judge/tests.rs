//! What is judged of ways that are well and not well.

use super::*;

const SECOND: i64 = 1_000_000_000;

fn name(number: u8) -> NodeName {
    format!("n{number}").parse().unwrap()
}

fn vtep(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, 10 + number])
}

fn known(number: u8) -> Known {
    Known {
        name: name(number),
        vteps: vec![vtep(number)],
        alive: true,
    }
}

fn good(to: u8) -> Way {
    Way {
        to: name(to),
        vtep: vtep(to),
        told: Ok(()),
        arrived: true,
        round_trip: Some(Duration::from_micros(50)),
        refused: None,
        takes: 1500,
        full: 1500,
        passed: Passed {
            arrived: 40,
            sent: 40,
        },
        clock: Some(Apart {
            ahead: 0,
            within: 1000,
        }),
    }
}

fn probed(node: u8, ways: Vec<Way>) -> (NodeName, Result<Probed, String>) {
    let probed = Probed {
        node: name(node),
        filtered: false,
        ways,
    };
    (name(node), Ok(probed))
}

fn told(first: Way) -> Told {
    Told::from([probed(1, vec![first]), probed(2, vec![good(1)])])
}

fn verdicts(report: &Report) -> Vec<Verdict> {
    report.rows.iter().map(|row| row.verdict).collect()
}

fn asked(told: &Told) -> Report {
    judge(&[known(1), known(2)], told, 4789)
}

#[test]
fn a_good_underlay_has_no_findings() {
    let report = asked(&told(good(2)));
    assert_eq!(verdicts(&report), [Verdict::Ok, Verdict::Ok]);
    assert_eq!(report.findings, []);
}

#[test]
fn what_is_lost_one_way_is_told_of_that_way_alone() {
    let lost = Way {
        arrived: false,
        takes: 0,
        round_trip: None,
        ..good(2)
    };
    // The way back works, but of its answers none comes.
    let back = Way {
        round_trip: None,
        ..good(1)
    };
    let mut told = told(lost.clone());
    told.extend([probed(2, vec![back])]);
    let report = asked(&told);
    assert_eq!(verdicts(&report), [Verdict::Lost, Verdict::Ok]);
    let subjects: Vec<&str> = report.findings.iter().map(|f| f.subject.as_str()).collect();
    assert_eq!(subjects, ["n1 > n2"]);
    assert!(
        report.findings[0]
            .help
            .contains("from 192.0.2.11 to 192.0.2.12 port 4789")
    );
    for (refused, says) in [
        (Refused::Filter, "n1's own packet filter"),
        (Refused::Port, "nothing takes UDP 4789"),
        (Refused::Route, "no way to 192.0.2.12"),
    ] {
        let way = Way {
            refused: Some(refused),
            ..lost.clone()
        };
        let report = asked(&self::told(way));
        assert!(report.findings[0].says.contains(says), "{report:?}");
    }
    if let Some(Ok(n2)) = told.get_mut(&name(2)) {
        n2.filtered = true;
    }
    let found = asked(&told);
    assert!(
        found.findings[0]
            .help
            .starts_with("on n2, allow UDP from 192.0.2.11")
    );
}

#[test]
fn a_way_that_takes_less_says_how_much() {
    let report = asked(&told(Way {
        takes: 1372,
        ..good(2)
    }));
    assert_eq!(verdicts(&report), [Verdict::TooSmall, Verdict::Ok]);
    assert_eq!(report.findings[0].says, "takes only 1,372 of 1,500 bytes");
    assert!(report.findings[0].help.contains("MTU 1372"));
}

#[test]
fn a_way_that_loses_some_is_told_where_it_is_sure() {
    let way = |arrived| Way {
        passed: Passed { arrived, sent: 40 },
        ..good(2)
    };
    // Two may be chance, three are not.
    assert_eq!(verdicts(&asked(&told(way(38))))[0], Verdict::Ok);
    let report = asked(&told(way(37)));
    assert_eq!(verdicts(&report), [Verdict::Lossy, Verdict::Ok]);
    assert_eq!(report.findings[0].says, "loses 3 of 40 packets");
    let unsure = Way {
        told: Err("refused".to_owned()),
        ..way(0)
    };
    assert_eq!(verdicts(&asked(&told(unsure)))[0], Verdict::Ok);
}

#[test]
fn a_silent_agent_is_one_finding_while_its_kernel_answers() {
    let answered = Way {
        told: Err("refused".to_owned()),
        clock: None,
        ..good(2)
    };
    let mut told = told(answered);
    told.insert(name(2), Err("connection refused".to_owned()));
    let report = asked(&told);
    assert_eq!(verdicts(&report), [Verdict::Ok, Verdict::NotProbed]);
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.findings[0].says.contains("connection refused"));
    // And if it does not answer either, nobody knows which direction it is.
    let nothing = Way {
        told: Err("refused".to_owned()),
        arrived: false,
        round_trip: None,
        takes: 0,
        ..good(2)
    };
    told.extend([probed(1, vec![nothing])]);
    assert_eq!(verdicts(&asked(&told))[0], Verdict::NoAnswer);
}

#[test]
fn clocks_that_are_surely_apart_are_told_once_by_the_better_reading() {
    let with = |there: Apart, back: Apart| {
        let (mut a, mut b) = (good(2), good(1));
        (a.clock, b.clock) = (Some(there), Some(back));
        asked(&Told::from([probed(1, vec![a]), probed(2, vec![b])])).findings
    };
    let apart = |ahead, within| Apart { ahead, within };
    let rough = apart(2 * SECOND, SECOND as u64);
    let found = with(rough, apart(-2_100_000_000, 1_000_000));
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].says,
        "the clock of n2 is 2.100 s ahead of that of n1, within 0.001 s"
    );
    let found = with(apart(-SECOND, 0), apart(SECOND, 0));
    assert!(found[0].says.contains("1.000 s behind"), "{found:?}");
    // Too far apart to be chance, or not.
    let unsure = apart(600_000_000, 200_000_000);
    assert_eq!(with(unsure, apart(-600_000_000, 300_000_000)), []);
}
