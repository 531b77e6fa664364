//! What follows from each set of answers; the order in which three members can come to know each other.

use super::*;

const CLUSTER: u64 = 9;

fn record(id: u64, incarnation: u64, phase: Phase) -> Record {
    Record {
        format: 1,
        name: format!("n{id}"),
        id,
        cluster_id: CLUSTER,
        incarnation,
        phase,
        founders: BTreeMap::new(),
    }
}

fn told(record: &Record) -> Option<peer::Standing> {
    Some(Standing::new(PathBuf::new(), record.clone()).tell())
}

fn with(mut record: Record, founders: &[(u64, u64)]) -> Record {
    record.founders = founders.iter().copied().collect();
    record
}

const ALL: [(u64, u64); 3] = [(1, 11), (2, 12), (3, 13)];

#[test]
fn a_founding_needs_everybody() {
    let own = record(1, 11, Phase::New);
    let two = record(2, 12, Phase::New);
    let three = record(3, 13, Phase::New);
    let step = decide(&own, &[("n2", told(&two)), ("n3", None)]);
    assert_eq!(step, Step::Wait("no answer from n3".to_owned()));
    let step = decide(&own, &[("n2", told(&two)), ("n3", told(&three))]);
    assert_eq!(step, Step::Promise(ALL.into()));

    let own = with(record(1, 11, Phase::Promised), &ALL);
    let promised = with(record(2, 12, Phase::Promised), &ALL);
    let step = decide(&own, &[("n2", told(&promised)), ("n3", told(&three))]);
    assert!(matches!(step, Step::Wait(_)), "{step:?}");
    let last = with(record(3, 13, Phase::Promised), &ALL);
    let step = decide(&own, &[("n2", told(&promised)), ("n3", told(&last))]);
    assert_eq!(step, Step::Found);
    // One that was away meanwhile: a member proves that all had promised.
    let member = with(record(2, 12, Phase::Member), &ALL);
    let step = decide(&own, &[("n2", told(&member)), ("n3", None)]);
    assert_eq!(step, Step::Found);
}

#[test]
fn an_emptied_folder_is_refused_by_whoever_knows_the_cluster() {
    let emptied = record(2, 99, Phase::New);
    let member = with(record(1, 11, Phase::Member), &ALL);
    let promised = with(record(1, 11, Phase::Promised), &ALL);
    let fresh = record(3, 13, Phase::New);
    for knows in [member, promised] {
        let step = decide(&emptied, &[("n1", told(&knows)), ("n3", None)]);
        assert!(matches!(step, Step::Refuse(_)), "{step:?}");
    }
    // Nobody who knows is there: it waits.
    let step = decide(&emptied, &[("n1", None), ("n3", told(&fresh))]);
    assert!(matches!(step, Step::Wait(_)), "{step:?}");
}

#[test]
fn promises_of_two_foundings_never_meet() {
    // n2 lost its folder between the promises of n1 and n3.
    let one = with(record(1, 11, Phase::Promised), &ALL);
    let three = with(record(3, 13, Phase::Promised), &[(1, 11), (2, 99), (3, 13)]);
    let two = record(2, 99, Phase::New);
    for (own, other) in [(&one, &three), (&three, &one)] {
        let step = decide(own, &[("other", told(other)), ("n2", told(&two))]);
        assert!(matches!(step, Step::Wait(_)), "{step:?}");
    }
    let step = decide(&two, &[("n1", told(&one)), ("n3", told(&three))]);
    assert!(matches!(step, Step::Refuse(_)), "{step:?}");
}

#[test]
fn a_returning_member_follows_the_leader_of_the_greatest_term_only() {
    let own = record(2, 99, Phase::Returning);
    let answer = |id, term, leads| {
        let mut told = told(&with(record(id, id + 10, Phase::Member), &ALL)).expect("told");
        (told.term, told.leads, told.last_index) = (term, leads, 40 + id);
        Some(told)
    };
    let fill = |one, three| decide(&own, &[("n1", one), ("n3", three)]);
    let expected = Step::Fill {
        term: 5,
        target: 43,
    };
    assert_eq!(fill(answer(1, 5, false), answer(3, 5, true)), expected);
    // n1 still thinks that it leads an older term.
    assert_eq!(fill(answer(1, 4, true), answer(3, 5, true)), expected);
    for (one, three) in [
        (answer(1, 4, true), answer(3, 5, false)),
        (None, answer(3, 5, true)),
    ] {
        let step = fill(one, three);
        assert!(matches!(step, Step::Wait(_)), "{step:?}");
    }
    let other = told(&record(3, 77, Phase::Returning));
    let step = fill(answer(1, 5, true), other);
    assert!(matches!(step, Step::Wait(_)), "{step:?}");
}

#[test]
fn the_gate_lets_in_what_is_safe() {
    let standing = Standing::new(PathBuf::new(), record(2, 99, Phase::Returning));
    assert!(standing.guard_vote().is_err() && standing.guard_append(7).is_err());
    standing.set(Gate::Filling { term: 5 });
    assert!(standing.guard_vote().is_err() && standing.guard_append(4).is_err());
    assert!(standing.guard_append(5).is_ok());
    standing.set(Gate::Open);
    assert!(standing.guard_vote().is_ok() && standing.guard_append(1).is_ok());
}
