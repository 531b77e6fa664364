//! The state against a small sequential model: whole maps per revision, nothing clever.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Keys, Mvcc, Refusal, check_txn};
use crate::proto::etcdserverpb as pb;
use crate::proto::weftpeer as peer;
use crate::raft::types::{LeaderId, LogId};
use pb::request_op::Request;
use peer::command::Op;
use peer::outcome::Result as Done;

#[derive(Clone, Debug, PartialEq)]
struct Value {
    value: Vec<u8>,
    create: i64,
    modified: i64,
    version: i64,
    lease: i64,
}

type Map = BTreeMap<Vec<u8>, Value>;

/// The state as it was at every revision.
struct Model {
    at: Vec<Map>,
    compacted: i64,
    leases: BTreeSet<i64>,
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, i64),
    Delete(u8, u8),
    /// Compare the version of a key with a number; puts and deletes of either branch.
    Txn(u8, i64, Vec<(u8, bool)>, Vec<(u8, bool)>),
    Compact(i64),
    Grant(i64),
    Revoke(i64),
    Reopen,
    ThroughSnapshot,
}

fn key(n: u8) -> Vec<u8> {
    vec![b'a' + n]
}

impl Model {
    fn new() -> Model {
        Model {
            at: vec![Map::new(), Map::new()],
            compacted: 0,
            leases: BTreeSet::new(),
        }
    }
    fn revision(&self) -> i64 {
        self.at.len() as i64 - 1
    }
    fn now(&self) -> &Map {
        &self.at[self.at.len() - 1]
    }
    fn write(&mut self, change: impl FnOnce(&mut Map, i64) -> bool) {
        let next = self.revision() + 1;
        let mut map = self.now().clone();
        if change(&mut map, next) {
            self.at.push(map);
        }
    }
    fn put(map: &mut Map, next: i64, key: Vec<u8>, value: Vec<u8>, lease: i64) {
        let old = map.get(&key);
        let new = Value {
            value,
            create: old.map_or(next, |o| o.create),
            modified: next,
            version: old.map_or(1, |o| o.version + 1),
            lease,
        };
        map.insert(key, new);
    }
    fn step(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::Put(k, v, lease) => {
                if *lease != 0 && !self.leases.contains(lease) {
                    return Err(Refusal::LeaseNotFound);
                }
                self.write(|map, next| {
                    Model::put(map, next, key(*k), vec![*v], *lease);
                    true
                });
            }
            Step::Delete(from, to) => self.write(|map, _| {
                let before = map.len();
                map.retain(|k, _| *k < key(*from) || *k >= key(*to));
                map.len() != before
            }),
            Step::Txn(k, version, then, otherwise) => {
                let holds = self.now().get(&key(*k)).map_or(0, |v| v.version) == *version;
                let ops = if holds { then } else { otherwise };
                self.write(|map, next| {
                    let mut wrote = false;
                    for (k, put) in ops {
                        if *put {
                            Model::put(map, next, key(*k), b"txn".to_vec(), 0);
                            wrote = true;
                        } else {
                            wrote |= map.remove(&key(*k)).is_some();
                        }
                    }
                    wrote
                });
            }
            Step::Compact(revision) => {
                if *revision <= self.compacted {
                    return Err(Refusal::Compacted);
                }
                if *revision > self.revision() {
                    return Err(Refusal::FutureRevision);
                }
                self.compacted = *revision;
            }
            Step::Grant(id) => {
                if !self.leases.insert(*id) {
                    return Err(Refusal::LeaseExists);
                }
            }
            Step::Revoke(id) => {
                if !self.leases.remove(id) {
                    return Err(Refusal::LeaseNotFound);
                }
                self.write(|map, _| {
                    let before = map.len();
                    map.retain(|_, v| v.lease != *id);
                    map.len() != before
                });
            }
            Step::Reopen | Step::ThroughSnapshot => {}
        }
        Ok(())
    }
    /// Changes of one revision: key and new value, or none if deleted.
    fn changes(&self, revision: i64) -> BTreeMap<Vec<u8>, Option<Value>> {
        let (before, after) = (&self.at[revision as usize - 1], &self.at[revision as usize]);
        let gone = before
            .keys()
            .filter(|k| !after.contains_key(*k))
            .map(|k| (k.clone(), None));
        let written = after.iter().filter(|(_, v)| v.modified == revision);
        gone.chain(written.map(|(k, v)| (k.clone(), Some(v.clone()))))
            .collect()
    }
}

fn put_request(k: u8, value: Vec<u8>, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: key(k).into(),
        value: value.into(),
        lease,
        ..Default::default()
    }
}

fn branch(ops: &[(u8, bool)]) -> Vec<pb::RequestOp> {
    let ops = ops.iter().map(|(k, put)| {
        if *put {
            Request::RequestPut(put_request(*k, b"txn".to_vec(), 0))
        } else {
            Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key(*k).into(),
                ..Default::default()
            })
        }
    });
    ops.map(|request| pb::RequestOp {
        request: Some(request),
    })
    .collect()
}

fn txn_request(
    k: u8,
    version: i64,
    then: &[(u8, bool)],
    otherwise: &[(u8, bool)],
) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: vec![pb::Compare {
            target: pb::compare::CompareTarget::Version as i32,
            key: key(k).into(),
            target_union: Some(pb::compare::TargetUnion::Version(version)),
            ..Default::default()
        }],
        success: branch(then),
        failure: branch(otherwise),
    }
}

fn command(step: &Step) -> Option<Op> {
    Some(match step {
        Step::Put(k, v, lease) => Op::Put(put_request(*k, vec![*v], *lease)),
        Step::Delete(from, to) => Op::Delete(pb::DeleteRangeRequest {
            key: key(*from).into(),
            range_end: key(*to).into(),
            prev_kv: false,
        }),
        Step::Txn(k, version, then, otherwise) => {
            Op::Txn(txn_request(*k, *version, then, otherwise))
        }
        Step::Compact(revision) => Op::Compact(pb::CompactionRequest {
            revision: *revision,
            physical: false,
        }),
        Step::Grant(id) => Op::Grant(pb::LeaseGrantRequest { ttl: 10, id: *id }),
        Step::Revoke(id) => Op::Revoke(pb::LeaseRevokeRequest { id: *id }),
        Step::Reopen | Step::ThroughSnapshot => return None,
    })
}

fn log(index: u64) -> LogId {
    LogId::new(
        LeaderId {
            term: 1,
            node_id: 1,
        },
        index,
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ops = || {
        proptest::collection::btree_map(0..5u8, any::<bool>(), 0..4)
            .prop_map(|map| map.into_iter().collect::<Vec<_>>())
    };
    let step = prop_oneof![
        6 => (0..5u8, any::<u8>(), 0..3i64).prop_map(|(k, v, l)| Step::Put(k, v, l)),
        2 => (0..5u8, 0..6u8).prop_map(|(a, b)| Step::Delete(a, b)),
        3 => (0..5u8, 0..3i64, ops(), ops()).prop_map(|(k, n, a, b)| Step::Txn(k, n, a, b)),
        1 => (0..30i64).prop_map(Step::Compact),
        1 => (1..3i64).prop_map(Step::Grant),
        1 => (1..3i64).prop_map(Step::Revoke),
        1 => Just(Step::Reopen),
        1 => Just(Step::ThroughSnapshot),
    ];
    proptest::collection::vec(step, 1..40)
}

fn all(revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..Default::default()
    }
}

fn compare(mvcc: &Mvcc, model: &Model) {
    assert_eq!(mvcc.revision(), model.revision());
    for revision in 1..=model.revision() + 1 {
        let read = mvcc.range(&all(revision)).expect("reads");
        if revision > model.revision() {
            assert_eq!(read, Err(Refusal::FutureRevision));
            continue;
        }
        if revision < model.compacted {
            assert_eq!(read, Err(Refusal::Compacted));
            continue;
        }
        let found: Map = read
            .expect("readable")
            .kvs
            .into_iter()
            .map(|kv| {
                let value = Value {
                    value: kv.value.to_vec(),
                    create: kv.create_revision,
                    modified: kv.mod_revision,
                    version: kv.version,
                    lease: kv.lease,
                };
                (kv.key.to_vec(), value)
            })
            .collect();
        assert_eq!(found, model.at[revision as usize], "at revision {revision}");
    }
    let from = model.compacted.max(2);
    let mut told: BTreeMap<i64, BTreeMap<Vec<u8>, Option<i64>>> = BTreeMap::new();
    let page = mvcc.changes(from).expect("reads").expect("not compacted");
    for change in page.changes {
        let new = (!change.deleted()).then_some(change.kv.version);
        let twice = told
            .entry(change.kv.mod_revision)
            .or_default()
            .insert(change.kv.key.to_vec(), new);
        assert!(twice.is_none(), "one change of a key in a revision");
    }
    for revision in from..=model.revision() {
        let expected: BTreeMap<Vec<u8>, Option<i64>> = model
            .changes(revision)
            .into_iter()
            .map(|(k, v)| (k, v.map(|v| v.version)))
            .collect();
        assert_eq!(
            told.remove(&revision).unwrap_or_default(),
            expected,
            "changes of {revision}"
        );
    }
    if model.compacted > 1 {
        assert_eq!(
            mvcc.changes(model.compacted - 1)
                .expect("reads")
                .map(|_| ()),
            Err(model.compacted)
        );
    }
}

fn run(steps: &[Step]) {
    let dir = tempfile::tempdir().expect("tempdir");
    let open = || Mvcc::open(&dir.path().join("state"), 1 << 20).expect("opens");
    let mut mvcc = open();
    let mut model = Model::new();
    for (index, step) in steps.iter().enumerate() {
        match step {
            Step::Reopen => {
                mvcc.flush();
                drop(mvcc);
                mvcc = open();
            }
            Step::ThroughSnapshot => {
                let mut pairs = Vec::new();
                let applied = mvcc
                    .export(
                        |_| Ok(()),
                        |pair| {
                            pairs.push(pair);
                            Ok(())
                        },
                    )
                    .expect("exports");
                let before = mvcc.hash(0).expect("hash");
                mvcc.import(&applied, pairs.into_iter().map(Ok))
                    .expect("imports");
                assert_eq!(mvcc.hash(0).expect("hash"), before);
            }
            _ => {}
        }
        let op = command(step);
        let outcome = mvcc
            .apply(
                log(index as u64),
                None,
                op.is_some().then_some(&peer::Command { op }),
            )
            .expect("applies");
        assert_eq!(outcome.map(|_| ()), model.step(step), "{step:?}");
        assert_eq!(mvcc.applied().log, Some(log(index as u64)));
    }
    compare(&mvcc, &model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn agrees_with_the_model(steps in steps()) {
        run(&steps);
    }
}

fn delete(from: u8, to: u8) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: key(from).into(),
            range_end: key(to).into(),
            prev_kv: false,
        })),
    }
}

fn nested(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(Request::RequestTxn(pb::TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        })),
    }
}

#[test]
fn a_key_is_written_once_in_a_transaction() {
    let check = |success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>| {
        check_txn(&pb::TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        })
        .is_ok()
    };
    let put = |k| branch(&[(k, true)]).remove(0);
    assert!(
        check(vec![put(1)], vec![put(1)]),
        "then and else are alternatives"
    );
    assert!(!check(vec![put(1), put(1)], vec![]));
    assert!(!check(vec![put(1), delete(0, 3)], vec![]));
    assert!(!check(vec![delete(0, 3), put(1)], vec![]));
    assert!(check(vec![delete(0, 1), put(1)], vec![]));
    assert!(
        check(vec![delete(0, 3), delete(1, 2)], vec![]),
        "deleting twice is one deletion"
    );
    assert!(!check(vec![put(1), nested(vec![put(1)], vec![])], vec![]));
    assert!(!check(
        vec![nested(vec![put(1)], vec![]), nested(vec![], vec![put(1)])],
        vec![]
    ));
    assert!(!check(
        vec![
            nested(vec![put(1)], vec![]),
            nested(vec![delete(0, 3)], vec![])
        ],
        vec![]
    ));
    assert!(check(
        vec![nested(vec![put(1)], vec![put(1), delete(2, 3)])],
        vec![]
    ));
}

#[test]
fn nothing_written_moves_no_revision() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mvcc = Mvcc::open(dir.path(), 1 << 20).expect("opens");
    let apply = |index, op| {
        let command = peer::Command { op: Some(op) };
        mvcc.apply(log(index), None, Some(&command))
            .expect("applies")
            .expect("taken")
    };
    let Some(Op::Delete(nothing)) = command(&Step::Delete(0, 5)) else {
        panic!("a delete");
    };
    let Done::Delete(response) = apply(0, Op::Delete(nothing)) else {
        panic!("a delete's answer");
    };
    assert_eq!((response.deleted, mvcc.revision()), (0, 1));
    apply(
        1,
        Op::Txn(txn_request(0, 0, &[(0, true), (1, true), (2, true)], &[])),
    );
    assert_eq!(mvcc.revision(), 2, "three puts, one revision");
    let limited = pb::RangeRequest { limit: 2, ..all(0) };
    let read = mvcc.range(&limited).expect("reads").expect("readable");
    assert_eq!((read.kvs.len(), read.more, read.count), (2, true, 3));
}

#[test]
fn keys_mean_what_etcd_means() {
    let keys = |first: &[u8], end: &[u8]| Keys::new(first.to_vec().into(), end.to_vec().into());
    assert!(keys(b"a", b"").contains(b"a") && !keys(b"a", b"").contains(b"aa"));
    assert!(keys(b"a", b"b").contains(b"aa") && !keys(b"a", b"b").contains(b"b"));
    assert!(keys(b"b", &[0]).contains(b"zz") && !keys(b"b", &[0]).contains(b"a"));
    assert!(!keys(b"b", b"a").contains(b"b"));
}
