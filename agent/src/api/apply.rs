//! Apply and remove: plan against what the store says now, write fenced, plan again if it has changed.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};
use weft_overlay::site;

use super::fault::{fault, refused, store};
use super::shared::Shared;
use crate::mirror::State;
use crate::node::jitter;
use crate::plan::desired::{self, How, Planned, Refusal, Write};
use crate::proto;
use crate::storage::{self, Wrote};

/// Rounds before a request that keeps losing to other writers gives up.
const ATTEMPTS: u32 = 16;

/// Writes each object, in order; what was written before a refusal stays, and is said.
pub async fn apply(
    shared: &Shared,
    request: proto::ApplyRequest,
) -> Result<proto::ApplyReply, Status> {
    let mut state = shared.fresh().await?;
    let mut changes = Vec::new();
    for object in &request.objects {
        let planned = if request.dry_run {
            let planned = plan(&state, object).map_err(refused)?;
            let mut next = State::clone(&state);
            planned.write.preview(&mut next);
            state = Arc::new(next);
            planned
        } else {
            let (planned, next) = settle(shared, state, |s| plan(s, object), |p| &p.write).await?;
            state = next;
            planned
        };
        changes.push(proto::Change {
            action: planned.action.name().to_owned(),
            kind: object.kind.clone(),
            name: object.name.clone(),
            detail: planned.detail,
        });
    }
    Ok(proto::ApplyReply { changes })
}

/// Removes an object.
pub async fn remove(
    shared: &Shared,
    request: proto::RemoveRequest,
) -> Result<proto::RemoveReply, Status> {
    let state = shared.fresh().await?;
    let how = How {
        stop_only: request.stop_only,
        force: request.force,
    };
    let plan = |s: &State| desired::remove(s, &request.kind, &request.name, how);
    let (removal, _) = settle(shared, state, plan, |r| &r.write).await?;
    Ok(proto::RemoveReply {
        removed: removal.removed,
    })
}

/// Plans and writes until the write is done on what it was planned from.
async fn settle<T>(
    shared: &Shared,
    mut state: Arc<State>,
    plan: impl Fn(&State) -> Result<T, Refusal>,
    write_of: impl Fn(&T) -> &Write,
) -> Result<(T, Arc<State>), Status> {
    for attempt in 0..ATTEMPTS {
        let planned = plan(&state).map_err(refused)?;
        if write_of(&planned).ops.is_empty() {
            return Ok((planned, state));
        }
        match storage::write(&shared.client, write_of(&planned)).await {
            Ok(Wrote::Done(revision)) => return Ok((planned, shared.caught_up(revision).await?)),
            Ok(Wrote::Stale(revision)) => {
                tokio::time::sleep(jitter(Duration::from_millis(2), attempt)).await;
                state = shared.caught_up(revision).await?;
            }
            // Fenced by revisions, it can be planned again on what is: done shows as done there.
            Err(error) if error.outcome_unknown() => state = shared.fresh().await?,
            Err(error) => return Err(store(&error)),
        }
    }
    Err(fault(
        Code::Aborted,
        "store",
        format!("other writers were first {ATTEMPTS} times"),
        "do it again",
    ))
}

fn plan(state: &State, object: &proto::Object) -> Result<Planned, Refusal> {
    let subject = format!("{} {}", object.kind, object.name);
    let unreadable = |e: serde_json::Error| {
        Refusal::invalid(&subject, e, "compare it with the format of site files")
    };
    match object.kind.as_str() {
        "tenant" => {
            let bad = |e| Refusal::invalid(&subject, e, "write a name like red");
            let name = object.name.parse().map_err(bad)?;
            let wanted: site::Tenant = serde_json::from_str(&object.json).map_err(unreadable)?;
            desired::tenant(state, &name, &wanted)
        }
        "network" => {
            let wanted: site::Network = serde_json::from_str(&object.json).map_err(unreadable)?;
            desired::network(state, &wanted)
        }
        "container" => {
            let wanted: site::Container = serde_json::from_str(&object.json).map_err(unreadable)?;
            desired::container(state, &wanted, uuid::Uuid::new_v4().to_string())
        }
        "chain" => {
            let wanted: desired::WantedChain =
                serde_json::from_str(&object.json).map_err(unreadable)?;
            desired::chain(state, &object.name, &wanted, crate::reconcile::now())
        }
        _ => Err(Refusal::invalid(
            &subject,
            "this kind cannot be applied",
            "apply a tenant, network, container or chain",
        )),
    }
}
