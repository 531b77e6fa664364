//! Does the steps of the container plan: shims, interfaces, memory.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_overlay::ContainerRef;
use weft_overlay::documents::ContainerSpec;
use weft_runtime::Runtime;

use super::{Observed, Reconciler, now};
use crate::local::{Ended, LocalInterface};
use crate::mirror::State;
use crate::node::chain_of;
use crate::plan::containers::{STEADY, Step, backoff, plan};
use crate::plan::leases::{Prepared, prepare};

/// How long a container may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(3);
/// How soon the end of a container that was asked to end is looked for.
const STOP_POLL: Duration = Duration::from_millis(50);

/// A container that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) attempts: u32,
    pub(super) until: u64,
    pub(super) message: String,
    /// The spec's uid that failed: another one is tried at once.
    uid: String,
}

/// The runtime's name of a container; names have no dots, so it is unique.
pub(crate) fn runtime_id(container: &ContainerRef) -> String {
    format!("{}.{}", container.tenant, container.container)
}

/// The container that has a runtime's name.
pub(super) fn of_runtime_id(id: &str) -> Option<ContainerRef> {
    id.replacen('.', "/", 1).parse().ok()
}

impl Reconciler {
    /// A call of the runtime, which waits for processes, away from the threads of the async tasks.
    async fn with_runtime<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Runtime) -> Result<T, weft_runtime::Error> + Send + 'static,
    ) -> Result<T, String> {
        let runtime = self.runtime.clone();
        match tokio::task::spawn_blocking(move || call(&runtime)).await {
            Ok(result) => result.map_err(|e| format!("{e}; {}", e.help())),
            Err(error) => Err(format!("the runtime failed: {error}")),
        }
    }

    /// What runs; `None` and a problem when the runtime cannot say, and then nothing is concluded.
    pub(super) async fn observe(&mut self) -> Option<BTreeMap<ContainerRef, Observed>> {
        let list = match self.with_runtime(|r| r.list()).await {
            Ok(list) => list,
            Err(error) => {
                self.problem("container runtime", error);
                return None;
            }
        };
        self.pids.clear();
        let mut observed = BTreeMap::new();
        for one in list {
            let Some(container) = of_runtime_id(&one.id) else {
                continue;
            };
            let state = match one.state {
                weft_runtime::State::Created => Observed::Created,
                weft_runtime::State::Running => Observed::Running,
                weft_runtime::State::Exited { code } => Observed::Exited(code),
            };
            if !self.file.get().containers.contains_key(&container) {
                let cause = "runs here, but this node has no record of it; it is left alone";
                self.problem(format!("container {container}"), cause);
            }
            self.pids.insert(container.clone(), one.pid);
            observed.insert(container, state);
        }
        self.observe_foreign(&mut observed).await;
        self.stopping
            .retain(|c, _| matches!(observed.get(c), Some(Observed::Created | Observed::Running)));
        Some(observed)
    }

    /// Every step but the start, which waits for the datapath.
    pub(super) async fn change_containers(
        &mut self,
        state: &State,
        observed: &BTreeMap<ContainerRef, Observed>,
    ) {
        let steps = plan(
            state,
            self.file.get(),
            observed,
            &self.shared.config.name,
            now(),
        );
        self.wake = None;
        for (container, step) in steps {
            let seen = observed.get(&container).copied();
            let uid = state
                .containers
                .get(&container)
                .map(|d| d.value.uid.clone())
                .unwrap_or_default();
            if matches!(step, Step::Prepare | Step::Create) && self.is_paused(&container, &uid) {
                continue;
            }
            match self.do_step(state, &container, step, seen).await {
                Ok(()) => {}
                Err(message) => self.failed(&container, uid, message),
            }
        }
        self.failing.retain(|c, _| state.containers.contains_key(c));
        self.plumb_all(state, observed).await;
    }

    /// Whether it failed a moment ago and is not to be tried yet.
    fn is_paused(&mut self, container: &ContainerRef, uid: &str) -> bool {
        let Some(failure) = self.failing.get(container) else {
            return false;
        };
        if failure.uid != uid || now() >= failure.until {
            return false;
        }
        let (until, message) = (failure.until, failure.message.clone());
        self.wake_at(until);
        self.problems
            .insert(format!("container {container}"), message);
        true
    }

    pub(super) fn failed(&mut self, container: &ContainerRef, uid: String, message: String) {
        let attempts = self
            .failing
            .get(container)
            .filter(|f| f.uid == uid)
            .map_or(0, |f| f.attempts);
        let pause = u64::try_from(backoff(attempts).as_millis()).unwrap_or(u64::MAX);
        let until = now().saturating_add(pause);
        self.wake_at(until);
        self.problem(format!("container {container}"), &message);
        let failure = Failure {
            attempts: attempts.saturating_add(1),
            until,
            message,
            uid,
        };
        self.failing.insert(container.clone(), failure);
    }

    fn wake_at(&mut self, at: u64) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    /// When the next pass is due if nothing happens.
    pub(super) fn next_deadline(&self) -> Duration {
        if !self.stopping.is_empty() {
            return STOP_POLL;
        }
        let wait = |at: u64| Duration::from_millis(at.saturating_sub(now()).max(1));
        self.wake.map_or(super::TICK, wait).min(super::TICK)
    }

    async fn do_step(
        &mut self,
        state: &State,
        container: &ContainerRef,
        step: Step,
        seen: Option<Observed>,
    ) -> Result<(), String> {
        match step {
            Step::Prepare => self.prepare(state, container).await,
            Step::Create => self.create(state, container).await,
            Step::Start => Ok(()),
            Step::Wait { until } => {
                self.wake_at(until);
                Ok(())
            }
            Step::Settle { exit } => {
                let message = seen
                    .is_none()
                    .then(|| "the node was restarted while it ran".to_owned());
                self.settle(
                    container,
                    Ended {
                        exit: Some(exit),
                        stopped: false,
                        message,
                    },
                );
                Ok(())
            }
            Step::Stop => {
                if self.is_down(container, seen).await? {
                    if self.foreign(container).is_some() {
                        self.take_links(container).await?;
                    }
                    let exit = match seen {
                        Some(Observed::Exited(code)) => Some(code),
                        _ => None,
                    };
                    self.settle(
                        container,
                        Ended {
                            exit,
                            stopped: true,
                            message: None,
                        },
                    );
                }
                Ok(())
            }
            Step::Clear { restart } => {
                if self.is_down(container, seen).await? {
                    self.take_links(container).await?;
                    self.delete(container, Runtime::delete_keeping_log).await?;
                    self.cleared(container, restart);
                }
                Ok(())
            }
            Step::Remove => {
                if self.is_down(container, seen).await? {
                    self.take_links(container).await?;
                    self.delete(container, Runtime::delete).await?;
                    self.remember(|l| l.containers.remove(container));
                    self.failing.remove(container);
                    self.again = true;
                }
                Ok(())
            }
        }
    }

    async fn prepare(&mut self, state: &State, container: &ContainerRef) -> Result<(), String> {
        let Some(spec) = state.containers.get(container) else {
            return Ok(());
        };
        match prepare(&self.preparing(state), container, &spec.value) {
            Prepared::Ready(next) => {
                self.remember(|local| *local = *next);
                self.again = true;
            }
            // The change comes back through the mirror and begins the next pass.
            Prepared::Lease(changes) => {
                for (network, change) in changes {
                    self.write_lease(&network, &change).await;
                }
            }
            Prepared::Claim(claims) => {
                for (network, address, endpoint) in claims {
                    self.claim(state.revision_of(&network), &network, address, &endpoint)
                        .await;
                }
            }
            Prepared::Blocked(why) => return Err(why),
        }
        Ok(())
    }

    async fn create(&mut self, state: &State, container: &ContainerRef) -> Result<(), String> {
        let Some(spec) = state.containers.get(container) else {
            return Ok(());
        };
        if let Some(place) = self.foreign(container) {
            return self.make_foreign(container, &place);
        }
        self.take_published(container, &spec.value.publish)?;
        let config = self.config(container, &spec.value);
        self.with_runtime(move |r| r.create(&config).map(drop))
            .await?;
        self.plumbed.remove(container);
        self.again = true;
        Ok(())
    }

    fn config(
        &self,
        container: &ContainerRef,
        spec: &ContainerSpec,
    ) -> weft_runtime::ContainerConfig {
        weft_runtime::ContainerConfig {
            id: runtime_id(container),
            hostname: container.container.to_string(),
            image: spec.image.clone(),
            command: spec.command.clone(),
            env: spec.env.clone(),
            capabilities: spec.capabilities.clone(),
            resources: spec.resources.clone(),
        }
    }

    fn settle(&mut self, container: &ContainerRef, ended: Ended) {
        self.remember(|local| {
            if let Some(record) = local.containers.get_mut(container) {
                record.ended = Some(ended);
            }
        });
        self.again = true;
    }

    fn cleared(&mut self, container: &ContainerRef, restart: bool) {
        let steady = u64::try_from(STEADY.as_millis()).unwrap_or(u64::MAX);
        self.remember(|local| {
            let Some(record) = local.containers.get_mut(container) else {
                return;
            };
            record.ended = None;
            if restart {
                let ran = record.started.map_or(0, |s| now().saturating_sub(s));
                record.streak = if ran >= steady {
                    0
                } else {
                    record.streak.saturating_add(1)
                };
                record.restarts = record.restarts.saturating_add(1);
            } else {
                (record.streak, record.restarts, record.started) = (0, 0, None);
            }
        });
        self.again = true;
    }

    /// Whether its process is gone; asks it to end, and after its grace ends it.
    async fn is_down(
        &mut self,
        container: &ContainerRef,
        seen: Option<Observed>,
    ) -> Result<bool, String> {
        let ends = matches!(seen, Some(Observed::Created | Observed::Running));
        if !ends || self.foreign(container).is_some() {
            return Ok(true);
        }
        let id = runtime_id(container);
        let deadline = self.stopping.get(container).copied();
        let signal = match deadline {
            Some(deadline) if now() < deadline => return Ok(false),
            // A process that was never started holds nothing that could be lost.
            _ if deadline.is_some() || seen == Some(Observed::Created) => {
                nix::sys::signal::Signal::SIGKILL
            }
            _ => nix::sys::signal::Signal::SIGTERM,
        };
        self.with_runtime(move |r| r.signal(&id, signal)).await?;
        let grace = u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX);
        self.stopping
            .insert(container.clone(), now().saturating_add(grace));
        Ok(false)
    }

    /// Takes away the devices of a container that is down, and the programs' links to them. A tap device that somebody
    /// else made stays. What lives on behind a device would reach the node itself without the program, so that is down.
    async fn take_links(&mut self, container: &ContainerRef) -> Result<(), String> {
        for interface in self.interfaces_of(container) {
            let name = interface.host_name();
            let link = self.netlink.link(&name).await.map_err(|e| e.to_string())?;
            if let Some(link) = link.filter(|l| interface.tap.is_none() || l.is_tap()) {
                if self.foreign(container).is_some() {
                    let down = self.netlink.set_down(&name).await;
                    down.map_err(|e| e.to_string())?;
                }
                let detached = self.datapath.lock().detach(link.index);
                detached.map_err(|e| chain_of(&e))?;
                if interface.tap.is_some() && !self.made_tap(container) {
                    continue;
                }
                self.netlink
                    .delete_link(&name)
                    .await
                    .map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    /// Takes away its shim and what that held; one that is not there is as good.
    async fn delete(
        &mut self,
        container: &ContainerRef,
        how: fn(&Runtime, &str) -> Result<(), weft_runtime::Error>,
    ) -> Result<(), String> {
        let id = runtime_id(container);
        let gone = |result| match result {
            Err(weft_runtime::Error::NotFound { .. }) => Ok(()),
            other => other,
        };
        self.with_runtime(move |r| gone(how(r, &id))).await?;
        self.plumbed.remove(container);
        self.stopping.remove(container);
        Ok(())
    }

    pub(super) fn interfaces_of(&self, container: &ContainerRef) -> Vec<LocalInterface> {
        self.file
            .get()
            .containers
            .get(container)
            .map(|l| l.interfaces.clone())
            .unwrap_or_default()
    }

    /// Starts what is ready, after the datapath knows it.
    pub(super) async fn start_containers(
        &mut self,
        state: &State,
        observed: &BTreeMap<ContainerRef, Observed>,
    ) {
        let steps = plan(
            state,
            self.file.get(),
            observed,
            &self.shared.config.name,
            now(),
        );
        for (container, step) in steps {
            let ports = self.interfaces_of(&container);
            let wired = ports.iter().all(|i| self.attached.contains(&i.port));
            if step != Step::Start || !self.plumbed.contains(&container) || !wired {
                continue;
            }
            let remembered = self.remember(|local| {
                if let Some(record) = local.containers.get_mut(&container) {
                    record.started = Some(now());
                }
            });
            if remembered.is_none() {
                continue;
            }
            let id = runtime_id(&container);
            let foreign = self.foreign(&container).is_some();
            let start = move |r: &Runtime| if foreign { Ok(()) } else { r.start(&id) };
            match self.with_runtime(start).await {
                Ok(()) => {
                    self.failing.remove(&container);
                    self.again = true;
                }
                Err(error) => {
                    let uid = state
                        .containers
                        .get(&container)
                        .map(|d| d.value.uid.clone())
                        .unwrap_or_default();
                    self.failed(&container, uid, error.to_string());
                }
            }
        }
    }
}
