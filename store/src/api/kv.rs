//! Keys and values: put, range, delete, transactions, compaction.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::*;
use crate::mvcc::{check_txn, read_only};
use crate::proto::weftpeer as peer;
use pb::kv_server::Kv;
use pb::request_op::Request as One;
use peer::command::Op;
use peer::outcome::Result as Done;

/// etcd's limit of operations in each list of a transaction.
const MAX_OPS: usize = 128;

pub(super) struct KvService(pub(super) Arc<Node>);

fn invalid<T>(message: &'static str) -> Result<T, Status> {
    Err(Status::invalid_argument(message))
}

fn check_size(request: &impl Message) -> Result<(), Status> {
    if request.encoded_len() > MAX_REQUEST {
        return invalid(TOO_LARGE);
    }
    Ok(())
}

fn check_range(request: &pb::RangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return invalid(EMPTY_KEY);
    }
    let order = pb::range_request::SortOrder::try_from(request.sort_order);
    let target = pb::range_request::SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return invalid(INVALID_SORT);
    }
    Ok(())
}

fn check_put(request: &pb::PutRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return invalid(EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return invalid(VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return invalid(LEASE_PROVIDED);
    }
    Ok(())
}

fn check_delete(request: &pb::DeleteRangeRequest) -> Result<(), Status> {
    if request.key.is_empty() {
        return invalid(EMPTY_KEY);
    }
    Ok(())
}

fn check_shape(txn: &pb::TxnRequest) -> Result<(), Status> {
    let longest = txn
        .compare
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    if longest > MAX_OPS {
        return invalid(TOO_MANY_OPS);
    }
    if txn.compare.iter().any(|c| c.key.is_empty()) {
        return invalid(EMPTY_KEY);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(One::RequestRange(request)) => check_range(request)?,
            Some(One::RequestPut(request)) => check_put(request)?,
            Some(One::RequestDeleteRange(request)) => check_delete(request)?,
            Some(One::RequestTxn(nested)) => check_shape(nested)?,
            // etcd answers so for an operation it does not know.
            None => return invalid(KEY_NOT_FOUND),
        }
    }
    Ok(())
}

fn mismatch() -> Status {
    Status::internal("the leader answered something else; do all members run the same version?")
}

impl KvService {
    async fn propose(&self, op: Op) -> Result<Done, Status> {
        let outcome = self.0.propose(peer::Command { op: Some(op) }).await?;
        outcome.0.map_err(|refusal| refused(&refusal))
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        admit(&self.0, &request)?;
        let request = request.into_inner();
        check_range(&request)?;
        if request.serializable {
            takes_part(&self.0)?;
        } else {
            self.0.read_barrier().await?;
        }
        let read = self.0.mvcc.range(&request).map_err(broken)?;
        let mut response = read.map_err(|r| refused(&r))?;
        complete(&self.0, &mut response.header);
        Ok(Response::new(response))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        admit(&self.0, &request)?;
        check_size(request.get_ref())?;
        check_put(request.get_ref())?;
        match self.propose(Op::Put(request.into_inner())).await? {
            Done::Put(mut response) => {
                complete(&self.0, &mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        admit(&self.0, &request)?;
        check_size(request.get_ref())?;
        check_delete(request.get_ref())?;
        match self.propose(Op::Delete(request.into_inner())).await? {
            Done::Delete(mut response) => {
                complete(&self.0, &mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        admit(&self.0, &request)?;
        let request = request.into_inner();
        check_size(&request)?;
        check_shape(&request)?;
        if check_txn(&request).is_err() {
            return invalid(DUPLICATE_KEY);
        }
        let mut response = if read_only(&request) {
            if serializable(&request) {
                takes_part(&self.0)?;
            } else {
                self.0.read_barrier().await?;
            }
            let read = self.0.mvcc.read_txn(&request).map_err(broken)?;
            read.map_err(|r| refused(&r))?
        } else {
            match self.propose(Op::Txn(request)).await? {
                Done::Txn(response) => response,
                _ => return Err(mismatch()),
            }
        };
        complete(&self.0, &mut response.header);
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        admit(&self.0, &request)?;
        match self.propose(Op::Compact(request.into_inner())).await? {
            Done::Compact(mut response) => {
                complete(&self.0, &mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(mismatch()),
        }
    }
}

/// Whether a transaction that only reads consists of reads that may be stale.
fn serializable(txn: &pb::TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| match &op.request {
            Some(One::RequestRange(request)) => request.serializable,
            _ => false,
        })
}
