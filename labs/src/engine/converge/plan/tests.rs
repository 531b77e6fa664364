use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::backend::Backend;

const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

fn object(kind: &str, name: String) -> Object {
    let kind = kind.to_owned();
    Object { kind, name }
}

/// A link whose way of being made depends on its ends alone, as when the file says nothing new of it.
fn link(near: usize, far: usize, loss: u8) -> Link {
    let between: Vec<String> = [near, far].map(|n| NODES[n].to_owned()).into();
    let relayed = (near + far).is_multiple_of(2);
    let impairment = Impairment {
        loss: f64::from(loss) / 100.0,
        ..Impairment::default()
    };
    let ways = between.iter().filter(|_| relayed);
    Link {
        ways: ways
            .map(|node| (node.clone(), impairment.clone()))
            .collect(),
        mtu: 1500,
        relayed,
        up: true,
        capture: None,
        between,
    }
}

fn wants() -> impl Strategy<Value = Want> {
    // The first two nodes stay, and the link between them.
    let nodes = subsequence(vec![2, 3, 4], 0..=3);
    let links = btree_set((0..5_usize, 0..5_usize), 0..6);
    (
        nodes,
        links,
        vec(0..4_u8, 25),
        subsequence((0..6).collect::<Vec<_>>(), 0..=6),
    )
        .prop_map(|(nodes, pairs, losses, objects)| {
            let nodes: Vec<usize> = [0, 1].into_iter().chain(nodes).collect();
            let pairs = pairs
                .into_iter()
                .filter(|(a, b)| a < b && (*a, *b) != (0, 1));
            let pairs = pairs.filter(|(a, b)| nodes.contains(a) && nodes.contains(b));
            // Each node has a link to the first one.
            let first = nodes.iter().filter(|n| **n > 0).map(|n| (0, *n));
            let pairs: BTreeSet<(usize, usize)> = first.chain(pairs).collect();
            let kinds = ["network", "container", "chain"];
            let name = |n: usize| object(kinds[n % 3], format!("red/{n}"));
            Want {
                settings: Settings::default(),
                links: pairs
                    .into_iter()
                    .map(|(a, b)| link(a, b, losses[a * 5 + b]))
                    .collect(),
                nodes: nodes.iter().map(|n| NODES[*n].to_owned()).collect(),
                objects: objects.into_iter().map(name).collect(),
            }
        })
}

fn node(name: &str, agent: Agent) -> Node {
    Node {
        name: name.to_owned(),
        alive: true,
        agent,
        member: false,
        underlay: Vec::new(),
    }
}

fn slots(want: &Want, name: &str) -> Vec<usize> {
    let links = want.links.iter().enumerate();
    let own = links.filter(|(_, link)| link.between.iter().any(|node| node == name));
    own.map(|(slot, _)| slot).collect()
}

/// A lab as it comes up from a file.
fn made(want: &Want) -> Have {
    let links = want.links.iter().cloned().enumerate();
    Have {
        settings: want.settings.clone(),
        nodes: want
            .nodes
            .iter()
            .map(|name| Node {
                underlay: slots(want, name),
                ..node(name, Agent::Runs)
            })
            .collect(),
        links: links
            .map(|(slot, link)| Present {
                slot,
                whole: true,
                link,
            })
            .collect(),
        slots: want.links.len(),
        objects: want.objects.clone(),
        differs: Vec::new(),
    }
}

/// What the cluster lacks.
fn asked(mut have: Have, want: &Want) -> Have {
    let lacks = want.objects.iter().filter(|o| !have.objects.contains(o));
    let change = |object: &Object| Change {
        action: "create".to_owned(),
        object: object.clone(),
        detail: String::new(),
    };
    have.differs = lacks.map(change).collect();
    have
}

/// What an action does; `whole`: the engine lived to note it.
fn act(have: &mut Have, want: &Want, action: &Action, whole: bool) {
    match action {
        Action::Remove(object) => have.objects.retain(|o| o != object),
        Action::AddNode(name) => {
            have.nodes.retain(|n| n.name != *name);
            have.nodes.push(node(name, Agent::Never));
        }
        Action::AddLink { slot, link } => {
            have.links.retain(|p| p.slot != *slot);
            let (slot, link) = (*slot, link.clone());
            have.links.push(Present { slot, whole, link });
            have.slots = have.slots.max(slot + 1);
        }
        Action::ChangeLink { slot, link } => {
            let mut links = have.links.iter_mut();
            let present = links.find(|p| p.slot == *slot).unwrap();
            present.link = link.clone();
            present.whole = whole;
        }
        Action::StartAgent(name) if whole => {
            let links = have.links.iter().filter(|p| {
                let stays = want.links.iter().any(|link| link.joins_as(&p.link));
                stays && p.link.between.contains(name)
            });
            let mut underlay: Vec<usize> = links.map(|p| p.slot).collect();
            underlay.sort_unstable();
            let node = have.nodes.iter_mut().find(|n| n.name == *name).unwrap();
            (node.agent, node.underlay) = (Agent::Runs, underlay);
        }
        Action::StartAgent(_) => {}
        Action::Apply(changes) => have
            .objects
            .extend(changes.iter().map(|change| change.object.clone())),
        Action::RemoveLink { slot, .. } => have.links.retain(|p| p.slot != *slot || !whole),
        Action::RemoveNode(name) if whole => have.nodes.retain(|n| n.name != *name),
        Action::RemoveNode(name) => {
            let node = have.nodes.iter_mut().find(|n| n.name == *name).unwrap();
            (node.alive, node.agent) = (false, Agent::Ended);
        }
    }
}

proptest! {
    #[test]
    fn what_a_plan_does_leaves_nothing_to_plan(from in wants(), to in wants()) {
        let have = made(&from);
        prop_assert_eq!(plan(&have, &from), Ok(vec![]));
        let mut have = asked(have, &to);
        for action in plan(&have, &to).unwrap() {
            act(&mut have, &to, &action, true);
        }
        prop_assert_eq!(plan(&asked(have, &to), &to), Ok(vec![]));
    }

    #[test]
    fn one_that_was_killed_anywhere_goes_on(from in wants(), to in wants(), at in 0..20_usize) {
        let mut have = asked(made(&from), &to);
        let actions = plan(&have, &to).unwrap();
        for (number, action) in actions.iter().take(at + 1).enumerate() {
            act(&mut have, &to, action, number < at);
        }
        let mut have = asked(have, &to);
        for action in plan(&have, &to).unwrap() {
            act(&mut have, &to, &action, true);
        }
        prop_assert_eq!(plan(&asked(have, &to), &to), Ok(vec![]));
    }

    #[test]
    fn nothing_is_removed_under_what_stands_on_it(from in wants(), to in wants()) {
        let have = asked(made(&from), &to);
        let actions = plan(&have, &to).unwrap();
        let kinds = actions.iter().map(|action| match action {
            Action::Remove(object) if object.kind != "network" => 0,
            Action::AddNode(_) => 1,
            Action::AddLink { .. } | Action::ChangeLink { .. } => 2,
            Action::StartAgent(_) => 3,
            Action::Apply(_) => 4,
            Action::Remove(_) => 5,
            Action::RemoveLink { .. } => 6,
            Action::RemoveNode(_) => 7,
        });
        prop_assert!(kinds.is_sorted());
    }
}

fn refusal(change: impl FnOnce(&mut Have, &mut Want)) -> String {
    let mut want = Want {
        settings: Settings::default(),
        nodes: NODES[..3].iter().map(|n| (*n).to_owned()).collect(),
        links: [(0, 1), (1, 2)].map(|(a, b)| link(a, b, 1)).into(),
        objects: Vec::new(),
    };
    let mut have = made(&want);
    change(&mut have, &mut want);
    let refusal = plan(&have, &want).unwrap_err();
    refusal.told("mine").to_string()
}

#[test]
fn what_a_running_lab_keeps_is_refused_with_subject_cause_and_next_step() {
    let said = refusal(|_, want| want.settings.backend = Backend::Qemu);
    assert!(
        said.starts_with("backend: it is netns and the file says qemu"),
        "{said}"
    );
    assert!(said.contains("weft lab down mine"), "{said}");
    let said = refusal(|have, want| {
        have.nodes[2].member = true;
        want.nodes.pop();
    });
    assert!(
        said.starts_with("node n3: the file has it no more, and the store is on it"),
        "{said}"
    );
    let said = refusal(|_, want| want.links[0].relayed = true);
    assert!(
        said.starts_with("link n1+n2: it does not pass the relay"),
        "{said}"
    );
    let said = refusal(|_, want| want.links.clear());
    assert!(
        said.starts_with("underlay: its nodes are joined by links"),
        "{said}"
    );
    let said = refusal(|_, want| drop(want.links.remove(0)));
    assert!(
        said.starts_with("node n1: no link of the file is at it"),
        "{said}"
    );
    let said = refusal(|have, _| have.nodes[0].alive = false);
    assert!(said.starts_with("node n1: it has ended"), "{said}");
}

#[test]
fn parts_that_went_through_digits_are_the_same() {
    let one = link(0, 2, 1);
    let mut two = one.clone();
    for way in two.ways.values_mut() {
        way.loss += 1e-17;
    }
    assert!(one.is_impaired_as(&two));
    assert!(!one.is_impaired_as(&link(0, 2, 2)));
}
