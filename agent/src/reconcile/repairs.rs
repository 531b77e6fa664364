//! Puts back what somebody took away by hand, and tells: within two seconds, for that is looked at in every tick.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_ebpf::Tables;
use weft_overlay::ContainerRef;
use weft_overlay::link::{LinkInfo, MTU, missing_inside};

use super::{Observed, Reconciler, now};
use crate::api::Repair;
use crate::local::LocalInterface;
use crate::mirror::State;
use crate::node::chain_of;

/// How many repairs are remembered.
const REMEMBERED: usize = 50;
/// The insides of containers are looked at no more often.
const INSPECT_EVERY: Duration = Duration::from_millis(900);

impl Reconciler {
    pub(super) fn repaired(&mut self, subject: impl ToString, lost: impl ToString) {
        let (subject, lost) = (subject.to_string(), lost.to_string());
        tracing::warn!(%subject, %lost, "was gone, and is put back");
        if self.repairs.len() == REMEMBERED {
            self.repairs.pop_front();
        }
        let at = now();
        self.repairs.push_back(Repair { at, subject, lost });
    }

    /// Gives containers that run back what their interfaces lost.
    pub(super) async fn repair_containers(
        &mut self,
        state: &State,
        observed: &BTreeMap<ContainerRef, Observed>,
        links: &[LinkInfo],
    ) {
        if self
            .inspected
            .is_some_and(|last| last.elapsed() < INSPECT_EVERY)
        {
            return;
        }
        // After a change of the underlay's MTU nobody has taken away what the ends of pairs lack.
        let resized = self.inspected.replace(Instant::now()).is_none();
        let running = observed.iter().filter(|(_, o)| **o == Observed::Running);
        for (container, _) in running {
            let interfaces = self.interfaces_of(container);
            let Some(lost) = self.lost(state, container, &interfaces, links).await else {
                continue;
            };
            if lost.is_empty() {
                continue;
            }
            match self.plumb(state, container, &interfaces).await {
                Ok(()) => {
                    let taken = |one: &String| !(resized && one.contains(MTU));
                    for one in lost.into_iter().filter(taken) {
                        self.repaired(format!("container {container}"), one);
                    }
                }
                Err(cause) => self.problem(format!("interfaces of container {container}"), cause),
            }
        }
    }

    /// What its interfaces lack; `None` when it cannot be asked, as of one that is ending.
    async fn lost(
        &self,
        state: &State,
        container: &ContainerRef,
        interfaces: &[LocalInterface],
        links: &[LinkInfo],
    ) -> Option<Vec<String>> {
        let inside = self.inside(container).ok()?;
        let ours = self.foreign(container).is_none();
        let (mut lost, mut nets) = (Vec::new(), Vec::new());
        for (index, interface) in interfaces.iter().enumerate() {
            let name = interface.host_name();
            let network = state.networks.get(&interface.network)?;
            match links.iter().find(|link| link.name == name) {
                None => lost.push(format!("device {name}")),
                Some(link) if !link.up => lost.push(format!("device {name} up")),
                Some(link) if interface.tap.is_some() => {
                    let mtu = self.inside_of(interface, &network.value, false).mtu;
                    if link.mtu != mtu {
                        lost.push(format!("device {name} {MTU} {mtu}"));
                    }
                }
                Some(_) => {
                    let first = ours && index == 0;
                    nets.push(self.inside_of(interface, &network.value, first));
                }
            }
        }
        if let Some(inside) = inside {
            lost.extend(missing_inside(&inside, &nets).await.ok()?);
        }
        Some(lost)
    }

    /// Tells of entries that came back to tables which nothing else had changed.
    pub(super) fn repaired_tables(&mut self, wanted: Tables, report: &weft_ebpf::SyncReport) {
        if report.changed() && self.wanted.as_ref() == Some(&wanted) {
            let lost = format!(
                "entries: {} missing, {} changed, {} too many",
                report.inserted, report.updated, report.deleted
            );
            self.repaired("datapath tables", lost);
        }
        self.wanted = Some(wanted);
    }

    pub(super) fn repair_pins(&mut self) {
        let done = self.datapath.lock().repin();
        match done {
            Ok(lost) => {
                for one in lost {
                    self.repaired("datapath", one);
                }
            }
            Err(error) => self.problem("pins of the datapath", chain_of(&error)),
        }
    }
}
