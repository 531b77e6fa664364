//! What this node writes into the store: leases, endpoints, statuses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use weft_overlay::documents::{ContainerState, ContainerStatus};
use weft_overlay::keys::{Key, endpoint_prefix};
use weft_overlay::leases::{Expect as LeaseExpect, LeaseChange};
use weft_overlay::{ContainerRef, EndpointRef, NetworkRef, NodeName};

use super::{Observed, Reconciler, now};
use crate::mirror::{self, State};
use crate::plan::desired::{Expect, Write, WriteOp};
use crate::plan::endpoints::{self, EndpointOp};
use crate::plan::leases::{care, is_marker, lease_key, marks};
use crate::storage::{self, Wrote};

/// How long a pass waits for one write: the rest of the node must not wait for a store that hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked for subnets that a dead node leased with its last breath.
const MARK_EVERY: Duration = Duration::from_secs(60);

impl Reconciler {
    /// Makes a fenced write; whether it was done. A stale one is planned again from newer documents.
    pub(super) async fn write(&mut self, subject: impl ToString, write: &Write) -> bool {
        if self.store_failed || write.ops.is_empty() {
            return false;
        }
        match tokio::time::timeout(PATIENCE, storage::write(&self.shared.client, write)).await {
            Ok(Ok(Wrote::Done(_))) => true,
            Ok(Ok(Wrote::Stale(_))) => false,
            Ok(Err(error)) => {
                self.store_failed = true;
                self.problem(subject, error);
                false
            }
            Err(_) => {
                self.store_failed = true;
                self.problem(
                    subject,
                    format!("the store did not answer within {PATIENCE:?}"),
                );
                false
            }
        }
    }

    pub(super) async fn write_lease(&mut self, network: &NetworkRef, change: &LeaseChange) {
        let path = lease_key(network, change).path();
        let mut write = Write::default();
        write.expect.push(match change.expect {
            LeaseExpect::Absent => Expect::Absent(path.clone()),
            LeaseExpect::ModRevision(revision) => Expect::Revision(path.clone(), revision),
        });
        write.ops.push(match &change.document {
            Some(document) => WriteOp::Put(path, serde_json::to_vec(document).unwrap_or_default()),
            None => WriteOp::Delete(path),
        });
        self.write(format!("lease {} of network {network}", change.net), &write)
            .await;
    }

    /// Claims an address; lost to any endpoint that came since the documents were at `revision`, for it may
    /// have that address from its node's own subnet.
    pub(super) async fn claim(
        &mut self,
        revision: i64,
        network: &NetworkRef,
        address: std::net::IpAddr,
        endpoint: &EndpointRef,
    ) {
        let mut write = Write::default();
        write.put(
            &Key::Address(network.clone(), address),
            &endpoint.to_string(),
            None,
        );
        write.none_since(endpoint_prefix(network), revision);
        self.write(format!("address {address} of endpoint {endpoint}"), &write)
            .await;
    }

    /// Leases, endpoints and statuses as they should stand.
    pub(super) async fn keep_documents(
        &mut self,
        state: &State,
        observed: Option<&BTreeMap<ContainerRef, Observed>>,
    ) {
        let mut empty = std::mem::take(&mut self.empty);
        let changes = care(&self.preparing(state), &mut empty);
        self.empty = empty;
        for (network, change) in changes {
            self.write_lease(&network, &change).await;
        }
        self.mark_dead(state).await;
        for op in endpoints::plan(state, self.file.get(), &self.shared.config.name) {
            self.write_endpoint(op).await;
        }
        if let Some(observed) = observed {
            for (container, status) in self.statuses(state, observed) {
                let mut write = Write::default();
                let revision = state.statuses.get(&container).map(|d| d.revision);
                write.put(&Key::ContainerStatus(container.clone()), &status, revision);
                self.write(format!("status of container {container}"), &write)
                    .await;
            }
        }
        self.drop_statuses(state).await;
    }

    /// Marks what dead nodes hold, in whichever networks: it is read for this alone, when a node has died and now and
    /// then while one is dead, by the one node whose turn it is.
    async fn mark_dead(&mut self, state: &State) {
        let me = self.shared.config.name.clone();
        let dead = state.nodes.keys().filter(|n| !state.is_alive(n));
        let dead: BTreeSet<NodeName> = dead.cloned().collect();
        if dead.is_empty() || !is_marker(state, &me) {
            self.marked = None;
            return;
        }
        let done = self.marked.as_ref();
        let is_done = done.is_some_and(|(of, at)| *of == dead && at.elapsed() < MARK_EVERY);
        if is_done || self.store_failed {
            return;
        }
        let read = mirror::everything(&self.shared.client);
        let read = tokio::time::timeout(PATIENCE, read).await;
        match read.unwrap_or_else(|_| Err("the store did not answer in time".to_owned())) {
            Ok(all) => {
                for (network, change) in marks(&all, &me, now()) {
                    self.write_lease(&network, &change).await;
                }
                self.marked = Some((dead, Instant::now()));
            }
            Err(error) => self.problem("subnets of dead nodes", error),
        }
    }

    async fn write_endpoint(&mut self, op: EndpointOp) {
        let mut write = Write::default();
        let subject = match op {
            EndpointOp::Put {
                endpoint,
                doc,
                expect,
                network,
                claims,
            } => {
                let revision = (expect != 0).then_some(expect);
                let of = NetworkRef {
                    tenant: endpoint.tenant.clone(),
                    network: endpoint.network.clone(),
                };
                write.require(&Key::Network(of), network);
                for (key, revision) in &claims {
                    match revision {
                        0 => write.expect.push(Expect::Absent(key.path())),
                        revision => write.require(key, *revision),
                    }
                }
                write.put(&Key::Endpoint(endpoint.clone()), &doc, revision);
                endpoint
            }
            EndpointOp::Delete {
                endpoint,
                expect,
                claims,
            } => {
                let path = Key::Endpoint(endpoint.clone()).path();
                write.expect.push(Expect::Revision(path.clone(), expect));
                write.ops.push(WriteOp::Delete(path));
                write
                    .ops
                    .extend(claims.iter().map(|key| WriteOp::Delete(key.path())));
                endpoint
            }
            EndpointOp::Conflict { endpoint, holder } => {
                self.problem(
                    format!("endpoint {endpoint}"),
                    format!("belongs to {holder} until that is gone"),
                );
                return;
            }
        };
        self.write(format!("endpoint {subject}"), &write).await;
    }

    /// The statuses that differ from what the store says.
    fn statuses(
        &self,
        state: &State,
        observed: &BTreeMap<ContainerRef, Observed>,
    ) -> Vec<(ContainerRef, ContainerStatus)> {
        let me = &self.shared.config.name;
        let wanted = state.containers.iter().filter(|(_, d)| d.value.node == *me);
        wanted
            .filter_map(|(container, doc)| {
                let status =
                    self.status(container, &doc.value.uid, observed.get(container).copied())?;
                let same = state
                    .statuses
                    .get(container)
                    .is_some_and(|d| d.value == status);
                (!same).then(|| (container.clone(), status))
            })
            .collect()
    }

    fn status(
        &self,
        container: &ContainerRef,
        uid: &str,
        observed: Option<Observed>,
    ) -> Option<ContainerStatus> {
        let local = self
            .file
            .get()
            .containers
            .get(container)
            .filter(|l| l.uid == uid);
        let failure = self.failing.get(container).map(|f| f.message.clone());
        let ended = local.and_then(|l| l.ended.clone());
        let (state, exit, message) = match (&ended, observed, failure) {
            (Some(ended), ..) => (ContainerState::Exited, ended.exit, ended.message.clone()),
            (None, Some(Observed::Running), _) if local.is_some() => {
                (ContainerState::Running, None, None)
            }
            (None, _, Some(message)) => (ContainerState::Failed, None, Some(message)),
            (None, Some(Observed::Exited(code)), _) if local.is_some() => {
                (ContainerState::Exited, Some(code), None)
            }
            _ if local.is_none() => return None,
            _ => (ContainerState::Creating, None, None),
        };
        Some(ContainerStatus {
            node: self.shared.config.name.clone(),
            uid: uid.to_owned(),
            state,
            exit,
            message,
            restarts: local.map_or(0, |l| l.restarts),
            started: local.and_then(|l| l.started),
        })
    }

    /// Takes back what this node said of containers that are gone.
    async fn drop_statuses(&mut self, state: &State) {
        let mut gone = Vec::new();
        for (container, doc) in &state.statuses {
            let wanted = state.containers.contains_key(container)
                || state.is_unreadable(&Key::Container(container.clone()));
            let here = self.file.get().containers.contains_key(container);
            if doc.value.node == self.shared.config.name && !wanted && !here {
                gone.push((container.clone(), doc.revision));
            }
        }
        for (container, revision) in gone {
            let path = Key::ContainerStatus(container.clone()).path();
            let write = Write {
                expect: vec![Expect::Revision(path.clone(), revision)],
                ops: vec![WriteOp::Delete(path)],
            };
            self.write(format!("status of container {container}"), &write)
                .await;
        }
    }
}
