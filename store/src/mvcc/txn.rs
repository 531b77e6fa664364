//! Transactions: the check before they are proposed, the conditions, and carrying them out.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;

use super::index::{Keys, Version};
use super::range::{self, header};
use super::write::Writing;
use super::{Mvcc, Refusal, State};
use crate::proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;

/// Whether a transaction writes a key twice, so that its two changes could not share a revision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DuplicateKey;

/// What a list of operations writes.
#[derive(Default)]
struct Touched {
    puts: BTreeSet<Bytes>,
    deletes: Vec<Keys>,
}

impl Touched {
    /// Adds what is done beside it; a key may be put once only, and not both put and deleted.
    fn beside(&mut self, other: Touched) -> Result<(), DuplicateKey> {
        let twice = other.puts.iter().any(|key| self.puts.contains(key))
            || other.deletes.iter().any(|keys| any_in(&self.puts, keys))
            || self.deletes.iter().any(|keys| any_in(&other.puts, keys));
        if twice {
            return Err(DuplicateKey);
        }
        self.instead(other);
        Ok(())
    }

    /// Adds what is done instead of it.
    fn instead(&mut self, other: Touched) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}

fn any_in(puts: &BTreeSet<Bytes>, keys: &Keys) -> bool {
    keys.bounds()
        .is_some_and(|bounds| puts.range::<[u8], _>(bounds).next().is_some())
}

fn touched(ops: &[pb::RequestOp]) -> Result<Touched, DuplicateKey> {
    let mut all = Touched::default();
    for op in ops {
        let mut one = Touched::default();
        match &op.request {
            Some(Request::RequestPut(put)) => {
                one.puts.insert(put.key.clone());
            }
            Some(Request::RequestDeleteRange(delete)) => {
                one.deletes
                    .push(Keys::new(delete.key.clone(), delete.range_end.clone()));
            }
            Some(Request::RequestTxn(txn)) => {
                one = touched(&txn.success)?;
                one.instead(touched(&txn.failure)?);
            }
            Some(Request::RequestRange(_)) | None => {}
        }
        all.beside(one)?;
    }
    Ok(all)
}

/// Checks that no branch of the transaction writes a key twice.
pub(crate) fn check_txn(txn: &pb::TxnRequest) -> Result<(), DuplicateKey> {
    touched(&txn.success)?;
    touched(&txn.failure)?;
    Ok(())
}

fn holds(source: &impl range::Source, compare: &pb::Compare) -> io::Result<bool> {
    let keys = Keys::new(compare.key.clone(), compare.range_end.clone());
    let mut any = false;
    for (key, version) in source.state().index.range(&keys, i64::MAX) {
        any = true;
        if !holds_for(source, compare, key, Some(version))? {
            return Ok(false);
        }
    }
    // What does not exist counts as all zero; a value of it can never be compared.
    if any {
        return Ok(true);
    }
    holds_for(source, compare, &compare.key, None)
}

fn holds_for(
    source: &impl range::Source,
    compare: &pb::Compare,
    key: &[u8],
    version: Option<Version>,
) -> io::Result<bool> {
    let target = compare.target_union.as_ref();
    let ordering = match compare.target() {
        CompareTarget::Value => {
            let Some(version) = version else {
                return Ok(false);
            };
            let wanted = match target {
                Some(TargetUnion::Value(value)) => value.clone(),
                _ => Bytes::new(),
            };
            source.value(key, version)?.value.cmp(&wanted)
        }
        CompareTarget::Create => {
            let wanted = match target {
                Some(TargetUnion::CreateRevision(n)) => *n,
                _ => 0,
            };
            version.map_or(0, |v| v.create).cmp(&wanted)
        }
        CompareTarget::Mod => {
            let wanted = match target {
                Some(TargetUnion::ModRevision(n)) => *n,
                _ => 0,
            };
            version.map_or(0, |v| v.main).cmp(&wanted)
        }
        CompareTarget::Version => {
            let wanted = match target {
                Some(TargetUnion::Version(n)) => *n,
                _ => 0,
            };
            version.map_or(0, |v| v.version).cmp(&wanted)
        }
        CompareTarget::Lease => {
            let wanted = match target {
                Some(TargetUnion::Lease(n)) => *n,
                _ => 0,
            };
            version.map_or(0, |v| v.lease).cmp(&wanted)
        }
    };
    Ok(match compare.result() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    })
}

/// Which branch each transaction takes, nested ones in the order in which they are met. All conditions are judged
/// before anything is written.
fn choose(
    source: &impl range::Source,
    txn: &pb::TxnRequest,
    path: &mut Vec<bool>,
) -> io::Result<()> {
    let mut succeeded = true;
    for compare in &txn.compare {
        succeeded = succeeded && holds(source, compare)?;
    }
    path.push(succeeded);
    for op in branch(txn, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            choose(source, nested, path)?;
        }
    }
    Ok(())
}

fn branch(txn: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded {
        &txn.success
    } else {
        &txn.failure
    }
}

fn check(
    state: &State,
    txn: &pb::TxnRequest,
    path: &mut std::slice::Iter<'_, bool>,
) -> Result<(), Refusal> {
    let succeeded = path.next().copied().unwrap_or(false);
    for op in branch(txn, succeeded) {
        match &op.request {
            Some(Request::RequestRange(request)) => state.check_range(request)?,
            Some(Request::RequestPut(request)) => state.check_put(request)?,
            Some(Request::RequestTxn(nested)) => check(state, nested, path)?,
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

impl Writing<'_> {
    /// Carries out a transaction, or refuses it whole.
    pub(super) fn txn(
        &mut self,
        txn: &pb::TxnRequest,
    ) -> io::Result<Result<pb::TxnResponse, Refusal>> {
        let mut path = Vec::new();
        choose(self, txn, &mut path)?;
        if let Err(refusal) = check(self.state, txn, &mut path.iter()) {
            return Ok(Err(refusal));
        }
        self.run_txn(txn, &mut path.iter()).map(Ok)
    }

    fn run_txn(
        &mut self,
        txn: &pb::TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
    ) -> io::Result<pb::TxnResponse> {
        let succeeded = path.next().copied().unwrap_or(false);
        let mut responses = Vec::new();
        for op in branch(txn, succeeded) {
            let response = match &op.request {
                Some(Request::RequestRange(request)) => {
                    Response::ResponseRange(range::range(self, request)?)
                }
                Some(Request::RequestPut(request)) => Response::ResponsePut(self.put(request)?),
                Some(Request::RequestDeleteRange(request)) => {
                    Response::ResponseDeleteRange(self.delete(request)?)
                }
                Some(Request::RequestTxn(nested)) => {
                    Response::ResponseTxn(self.run_txn(nested, path)?)
                }
                None => continue,
            };
            responses.push(pb::ResponseOp {
                response: Some(response),
            });
        }
        Ok(pb::TxnResponse {
            header: header(self.main_or_current()),
            succeeded,
            responses,
        })
    }
}

fn read_txn(
    state: &State,
    txn: &pb::TxnRequest,
    path: &mut std::slice::Iter<'_, bool>,
) -> io::Result<pb::TxnResponse> {
    let succeeded = path.next().copied().unwrap_or(false);
    let mut responses = Vec::new();
    for op in branch(txn, succeeded) {
        let response = match &op.request {
            Some(Request::RequestRange(request)) => {
                Response::ResponseRange(range::range(state, request)?)
            }
            Some(Request::RequestTxn(nested)) => {
                Response::ResponseTxn(read_txn(state, nested, path)?)
            }
            _ => continue,
        };
        responses.push(pb::ResponseOp {
            response: Some(response),
        });
    }
    Ok(pb::TxnResponse {
        header: header(state.revision),
        succeeded,
        responses,
    })
}

/// Whether the transaction can only read, whichever branch it takes.
pub(crate) fn read_only(txn: &pb::TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| match &op.request {
            Some(Request::RequestRange(_)) | None => true,
            Some(Request::RequestTxn(nested)) => read_only(nested),
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
        })
}

impl Mvcc {
    /// Carries out a transaction that only reads.
    pub(crate) fn read_txn(
        &self,
        txn: &pb::TxnRequest,
    ) -> io::Result<Result<pb::TxnResponse, Refusal>> {
        let state = self.read();
        let mut path = Vec::new();
        choose(&*state, txn, &mut path)?;
        if let Err(refusal) = check(&state, txn, &mut path.iter()) {
            return Ok(Err(refusal));
        }
        read_txn(&state, txn, &mut path.iter()).map(Ok)
    }
}
