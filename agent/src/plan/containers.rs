//! What to do next for each container of this node: one step a pass, until nothing is to be done.
//!
//! A container is taken down only on proof: its document is read and gone, names another node, or has
//! another uid. An unreadable document leaves its container as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_overlay::documents::{ContainerSpec, Restart};
use weft_overlay::keys::Key;
use weft_overlay::{ContainerRef, NodeName};

use crate::local::{LocalContainer, LocalState};
use crate::mirror::State;

/// What the runtime says of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Made; its process waits to be started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended with this code (128 + signal).
    Exited(i32),
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give it ports and addresses, on disk.
    Prepare,
    /// Make its shim and namespaces, and put its interfaces there.
    Create,
    /// Let its process run.
    Start,
    /// It ended and is to run again: clear away what ended, keeping ports and addresses.
    Clear {
        /// Whether this counts as a restart.
        restart: bool,
    },
    /// It ended and stays so.
    Settle {
        /// Exit code, or 128 + signal.
        exit: i32,
    },
    /// The user stopped it.
    Stop,
    /// Take it away with its ports and addresses.
    Remove,
    /// Nothing until then, Unix ms.
    Wait {
        /// When its backoff ends.
        until: u64,
    },
}

/// First pause before a restart.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// Longest pause before a restart.
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// A process that ran this long has not failed at its start: its restart does not wait.
pub const STEADY: Duration = Duration::from_secs(10);

/// The pause before a restart after `streak` that ended soon.
pub fn backoff(streak: u32) -> Duration {
    BACKOFF_FIRST
        .saturating_mul(1 << streak.min(16))
        .min(BACKOFF_LAST)
}

/// What is to be done for every container that is, or should be, on node `me`.
pub fn plan(
    state: &State,
    local: &LocalState,
    observed: &BTreeMap<ContainerRef, Observed>,
    me: &NodeName,
    now: u64,
) -> BTreeMap<ContainerRef, Step> {
    let here = state
        .containers
        .iter()
        .filter(|(_, d)| d.value.node == *me)
        .map(|(c, _)| c);
    let all: BTreeSet<&ContainerRef> = here.chain(local.containers.keys()).collect();
    all.into_iter()
        .filter_map(|container| {
            if state.is_unreadable(&Key::Container(container.clone())) {
                return None;
            }
            let spec = state
                .containers
                .get(container)
                .map(|d| &d.value)
                .filter(|s| s.node == *me);
            let step = step(
                spec,
                local.containers.get(container),
                observed.get(container).copied(),
                endpoints_known(state, local, container),
                now,
            )?;
            Some((container.clone(), step))
        })
        .collect()
}

/// Whether every endpoint of the container stands in the store as this node made it: only then do
/// chains know it, so only then may it send.
fn endpoints_known(state: &State, local: &LocalState, container: &ContainerRef) -> bool {
    local.containers.get(container).is_none_or(|l| {
        l.interfaces.iter().all(|i| {
            state
                .endpoints
                .get(&i.endpoint_ref())
                .is_some_and(|d| d.value.container == container.container && d.value.uid == l.uid)
        })
    })
}

fn step(
    spec: Option<&ContainerSpec>,
    local: Option<&LocalContainer>,
    observed: Option<Observed>,
    endpoints_known: bool,
    now: u64,
) -> Option<Step> {
    let (spec, local) = match (spec, local) {
        (None, None) => return None,
        (None, Some(_)) => return Some(Step::Remove),
        (Some(spec), Some(local)) if spec.uid != local.uid => return Some(Step::Remove),
        // The node's memory was lost: nobody knows which ports and addresses it was given, so it is made anew.
        (Some(_), None) if observed.is_some() => return Some(Step::Remove),
        (Some(spec), None) => return spec.running.then_some(Step::Prepare),
        (Some(spec), Some(local)) => (spec, local),
    };
    if !spec.running {
        let stopped = local.ended.as_ref().is_some_and(|e| e.stopped);
        return (!stopped).then_some(Step::Stop);
    }
    if let Some(ended) = &local.ended {
        // A user's "run again" clears a stop; anything else that ended stays ended.
        return ended.stopped.then_some(Step::Clear { restart: false });
    }
    match observed {
        Some(Observed::Running) => None,
        Some(Observed::Created) => endpoints_known.then_some(Step::Start),
        Some(Observed::Exited(code)) if wants_restart(spec.restart, code) => {
            Some(Step::Clear { restart: true })
        }
        Some(Observed::Exited(exit)) => Some(Step::Settle { exit }),
        None => absent(spec, local, now),
    }
}

/// Nothing of it runs: it was never made, was cleared for a restart, or the machine was rebooted.
fn absent(spec: &ContainerSpec, local: &LocalContainer, now: u64) -> Option<Step> {
    if local.started.is_some() && spec.restart == Restart::No {
        return Some(Step::Settle { exit: 255 });
    }
    if local.streak > 0 {
        let pause = backoff(local.streak - 1).as_millis() as u64;
        let until = local.started.unwrap_or(0).saturating_add(pause);
        // A clock that went back never blocks a restart for longer than its pause.
        if now < until && until - now <= pause {
            return Some(Step::Wait { until });
        }
    }
    Some(Step::Create)
}

fn wants_restart(policy: Restart, code: i32) -> bool {
    match policy {
        Restart::No => false,
        Restart::OnFailure => code != 0,
        Restart::Always => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::local::Ended;

    fn spec(running: bool, restart: Restart) -> ContainerSpec {
        ContainerSpec {
            uid: "u1".into(),
            image: "host".into(),
            command: vec!["true".into()],
            env: BTreeMap::new(),
            interfaces: vec![],
            labels: BTreeMap::new(),
            capabilities: vec![],
            resources: Default::default(),
            publish: vec![],
            restart,
            node: "n1".parse().unwrap(),
            running,
        }
    }

    fn local() -> LocalContainer {
        LocalContainer {
            uid: "u1".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_life_goes_step_by_step() {
        let s = spec(true, Restart::Always);
        assert_eq!(step(Some(&s), None, None, true, 0), Some(Step::Prepare));
        assert_eq!(
            step(Some(&s), Some(&local()), None, true, 0),
            Some(Step::Create)
        );
        let created = Some(Observed::Created);
        assert_eq!(step(Some(&s), Some(&local()), created, false, 0), None);
        assert_eq!(
            step(Some(&s), Some(&local()), created, true, 0),
            Some(Step::Start)
        );
        assert_eq!(
            step(Some(&s), Some(&local()), Some(Observed::Running), true, 0),
            None
        );
        assert_eq!(
            step(Some(&s), None, Some(Observed::Running), true, 0),
            Some(Step::Remove),
            "what runs without a record has ports that nobody knows"
        );
        let exited = Some(Observed::Exited(1));
        assert_eq!(
            step(Some(&s), Some(&local()), exited, true, 0),
            Some(Step::Clear { restart: true })
        );
        assert_eq!(
            step(None, Some(&local()), Some(Observed::Running), true, 0),
            Some(Step::Remove)
        );
    }

    #[test]
    fn restart_policies_and_stops_are_kept() {
        let exited = |code| Some(Observed::Exited(code));
        let no = spec(true, Restart::No);
        assert_eq!(
            step(Some(&no), Some(&local()), exited(3), true, 0),
            Some(Step::Settle { exit: 3 })
        );
        let failing = spec(true, Restart::OnFailure);
        assert_eq!(
            step(Some(&failing), Some(&local()), exited(0), true, 0),
            Some(Step::Settle { exit: 0 })
        );
        let stopped = spec(false, Restart::Always);
        assert_eq!(
            step(
                Some(&stopped),
                Some(&local()),
                Some(Observed::Running),
                true,
                0
            ),
            Some(Step::Stop)
        );
        let mut l = local();
        l.ended = Some(Ended {
            exit: Some(0),
            stopped: true,
            message: None,
        });
        assert_eq!(step(Some(&stopped), Some(&l), None, true, 0), None);
        let again = spec(true, Restart::Always);
        assert_eq!(
            step(Some(&again), Some(&l), None, true, 0),
            Some(Step::Clear { restart: false })
        );
    }

    #[test]
    fn restarts_back_off_up_to_a_limit() {
        let s = spec(true, Restart::Always);
        let mut l = local();
        (l.streak, l.started) = (3, Some(1_000));
        let until = 1_000 + backoff(2).as_millis() as u64;
        assert_eq!(
            step(Some(&s), Some(&l), None, true, 1_001),
            Some(Step::Wait { until })
        );
        assert_eq!(
            step(Some(&s), Some(&l), None, true, until),
            Some(Step::Create)
        );
        assert_eq!(backoff(40), BACKOFF_LAST);
    }

    #[test]
    fn an_unreadable_spec_takes_nothing_down() {
        let mut state = State::default();
        state.put("/weft/v1/tenants/red/containers/a/spec", b"{", 1);
        let mut l = LocalState::default();
        let container: ContainerRef = "red/a".parse().unwrap();
        l.containers.insert(container.clone(), local());
        let running = BTreeMap::from([(container.clone(), Observed::Running)]);
        let me: NodeName = "n1".parse().unwrap();
        assert!(plan(&state, &l, &running, &me, 0).is_empty());
        let gone = plan(&State::default(), &l, &running, &me, 0);
        assert_eq!(gone.get(&container), Some(&Step::Remove));
    }

    proptest! {
        #[test]
        fn a_running_container_of_its_spec_is_never_touched(restarts in 0..50u32, now in any::<u64>(), policy in 0..3) {
            let policy = [Restart::No, Restart::OnFailure, Restart::Always][policy as usize];
            let mut l = local();
            (l.streak, l.started) = (restarts, Some(now / 2));
            prop_assert_eq!(step(Some(&spec(true, policy)), Some(&l), Some(Observed::Running), false, now), None);
        }
    }
}
