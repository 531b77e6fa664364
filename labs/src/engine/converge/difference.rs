//! What a lab that is up lacks of a file, has too much, and cannot become. Pure.
//!
//! What the cluster holds the agents compare themselves (`weft diff`); this is the rest: what went out of the file,
//! what links do, and what is fixed as long as the lab is up.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weft_overlay::NodeName;

use crate::backend::Backend;
use crate::file::{LabFile, Link};
use crate::relay::{Direction, Impairment, LinkStats, Request, Way};

/// What a lab was made from, as far as the next `up` must know. Names alone: what they stand for is the cluster's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// By what it is: how it is, as long as the lab is up.
    fixed: BTreeMap<String, String>,
    networks: BTreeSet<String>,
    containers: BTreeSet<String>,
    chains: BTreeSet<String>,
}

impl Made {
    pub(crate) fn of(lab: &LabFile) -> Made {
        let mut fixed = BTreeMap::from([
            ("backend".to_owned(), lab.backend.to_string()),
            ("underlay".to_owned(), format!("{:?}", lab.underlay)),
            ("lease_ttl".to_owned(), format!("{:?}", lab.lease_ttl)),
            (
                "store".to_owned(),
                if lab.etcd { "etcd" } else { "weft" }.to_owned(),
            ),
        ]);
        let nodes = lab.nodes.iter().zip(&lab.machines).enumerate();
        fixed.extend(nodes.map(|(number, (name, machine))| {
            let how = match lab.backend {
                Backend::Netns => String::new(),
                Backend::Qemu => format!(", {machine:?}"),
            };
            // Its place decides its address and whether it is a member of the store.
            (
                format!("node {name}"),
                format!("number {}{how}", number + 1),
            )
        }));
        fixed.extend(lab.links.iter().map(|link| {
            let Link { mtu, capture, .. } = link;
            let how = format!("mtu {mtu:?}, capture {capture:?}");
            (format!("link {}", link.name()), how)
        }));
        let site = &lab.site;
        Made {
            fixed,
            networks: site.networks.iter().map(|n| n.name.to_string()).collect(),
            containers: site.containers.iter().map(|c| c.name.to_string()).collect(),
            chains: site.chains.iter().map(|c| c.name.clone()).collect(),
        }
    }
}

/// What is to be done beside `weft apply`, in this order: chains and containers go, then links change; networks go last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Difference {
    pub(super) chains: Vec<String>,
    pub(super) containers: Vec<String>,
    pub(super) networks: Vec<String>,
    pub(super) links: Vec<Request>,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        *self == Difference::default()
    }

    /// What is removed or changed, for a person: action, kind, name.
    pub(super) fn rows(&self) -> Vec<[String; 3]> {
        let removed = |kind: &str, names: &[String]| {
            let rows = names
                .iter()
                .map(|name| ["remove", kind, name].map(str::to_owned));
            rows.collect::<Vec<_>>()
        };
        let mut changed: Vec<[String; 3]> = Vec::new();
        for request in &self.links {
            if let Request::Set { link, .. } = request {
                let row = ["change", "link", link].map(str::to_owned);
                if !changed.contains(&row) {
                    changed.push(row);
                }
            }
        }
        [
            removed("chain", &self.chains),
            removed("container", &self.containers),
            changed,
            removed("network", &self.networks),
        ]
        .concat()
    }
}

/// From what the lab was made of and what its links do to what the file says; or why that is not possible.
pub(super) fn difference(
    made: &Made,
    links: &[LinkStats],
    lab: &LabFile,
) -> Result<Difference, Vec<String>> {
    let wanted = Made::of(lab);
    let mut refused = refusals(&made.fixed, &wanted.fixed);
    let mut requests = Vec::new();
    for link in &lab.links {
        let name = link.name();
        match links.iter().find(|one| one.link == name) {
            Some(stats) => requests.extend(changes(link, stats)),
            None if is_good(link) => {}
            None => refused.push(format!(
                "link {name} is a plain pair of devices: its frames pass nothing that could impair them"
            )),
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let gone =
        |old: &BTreeSet<String>, new: &BTreeSet<String>| old.difference(new).cloned().collect();
    Ok(Difference {
        chains: gone(&made.chains, &wanted.chains),
        containers: gone(&made.containers, &wanted.containers),
        networks: gone(&made.networks, &wanted.networks),
        links: requests,
    })
}

fn refusals(made: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let changed = made.iter().filter_map(|(what, is)| match wanted.get(what) {
        None => Some(format!("{what} would have to go")),
        Some(wants) if wants != is => Some(format!("{what} is {is} and would have to be {wants}")),
        Some(_) => None,
    });
    let new = wanted.keys().filter(|what| !made.contains_key(*what));
    changed
        .chain(new.map(|what| format!("{what} would have to be made")))
        .collect()
}

fn is_good(link: &Link) -> bool {
    let mtu = Impairment {
        mtu: link.impairment.mtu,
        ..Impairment::default()
    };
    link.impairment == mtu && link.from.is_empty()
}

/// What each end is to send otherwise than it does.
fn changes(link: &Link, now: &LinkStats) -> Vec<Request> {
    let lanes = now.lanes.iter();
    let own = lanes.filter(|lane| lane.direction.way == Way::From);
    let other = own.filter_map(|lane| {
        let node = lane.direction.node.parse::<NodeName>().ok()?;
        let wanted = link.from.get(&node).unwrap_or(&link.impairment);
        (lane.impairment != *wanted).then(|| Request::Set {
            link: link.name(),
            direction: Some(Direction {
                node: lane.direction.node.clone(),
                way: Way::From,
            }),
            impairment: wanted.clone(),
        })
    });
    other.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::relay::{Counters, LaneStats};

    fn lab(text: &str) -> LabFile {
        LabFile::parse("x.toml", text, Path::new("."), None).unwrap_or_else(|e| panic!("{e:?}"))
    }

    const NODES: &str = "[lab]\nname = \"x\"\n[[node]]\nname = \"n\"\ncount = 3\n";

    /// The relay's word on the links of a file, all as good as new.
    fn fresh(lab: &LabFile) -> Vec<LinkStats> {
        let links = lab.links.iter().filter(|link| link.relayed);
        let of = |link: &Link| LinkStats {
            link: link.name(),
            lanes: link
                .between
                .iter()
                .map(|node| lane(node.as_str()))
                .collect(),
            ends: Vec::new(),
            capture: None,
        };
        links.map(of).collect()
    }

    fn lane(node: &str) -> LaneStats {
        LaneStats {
            direction: Direction {
                node: node.to_owned(),
                way: Way::From,
            },
            impairment: Impairment::default(),
            counters: Counters::default(),
        }
    }

    /// As the relay does.
    fn act(links: &mut [LinkStats], requests: &[Request]) {
        for request in requests {
            let Request::Set {
                link,
                direction,
                impairment,
            } = request
            else {
                panic!("{request:?}");
            };
            let link = links.iter_mut().find(|one| one.link == *link).unwrap();
            let lane = link
                .lanes
                .iter_mut()
                .find(|l| Some(&l.direction) == direction.as_ref());
            lane.unwrap().impairment = impairment.clone();
        }
    }

    #[derive(Clone, Debug)]
    struct Wanted {
        networks: BTreeSet<u8>,
        containers: BTreeSet<(u8, u8)>,
        delay: u8,
        loss: u8,
    }

    fn wanted() -> impl Strategy<Value = Wanted> {
        let networks = prop::collection::btree_set(0..4u8, 1..4);
        let containers = prop::collection::btree_set((0..6u8, 0..4u8), 0..6);
        (networks, containers, 0..3u8, 0..3u8).prop_map(|(networks, containers, delay, loss)| {
            Wanted {
                networks,
                containers,
                delay,
                loss,
            }
        })
    }

    fn text_of(wanted: &Wanted) -> String {
        let mut text = NODES.to_owned();
        text += &format!(
            "[[link]]\nbetween = [\"n1\", \"n2\"]\ndelay = \"{}ms\"\nloss = \"1%\"\n\
             from.n1.loss = \"{}%\"\n[[link]]\nbetween = [\"n2\", \"n3\"]\n",
            wanted.delay + 1,
            wanted.loss
        );
        for network in &wanted.networks {
            text += &format!(
                "[[network]]\nname = \"red/w{network}\"\ncidr = \"10.{network}.0.0/16\"\n"
            );
        }
        let mut named = BTreeSet::new();
        for (name, network) in &wanted.containers {
            if wanted.networks.contains(network) && named.insert(*name) {
                text += &format!(
                    "[[container]]\nname = \"red/c{name}\"\nnode = \"n1\"\nnetworks = [\"red/w{network}\"]\n\
                     command = [\"x\"]\n"
                );
            }
        }
        text
    }

    proptest! {
        #[test]
        fn what_was_done_is_not_done_again(before in wanted(), after in wanted()) {
            let (old, new) = (lab(&text_of(&before)), lab(&text_of(&after)));
            let mut links = fresh(&old);
            let first = difference(&Made::default(), &links, &old);
            prop_assert!(first.is_err(), "nodes cannot be made");
            let made = Made::of(&old);
            let begun = difference(&made, &links, &old).unwrap();
            act(&mut links, &begun.links);
            prop_assert!(difference(&made, &links, &old).unwrap().is_empty());

            let step = difference(&made, &links, &new).unwrap();
            for name in &step.containers {
                prop_assert!(old.site.containers.iter().any(|c| c.name.to_string() == *name));
                prop_assert!(new.site.containers.iter().all(|c| c.name.to_string() != *name));
            }
            act(&mut links, &step.links);
            prop_assert!(difference(&Made::of(&new), &links, &new).unwrap().is_empty());
        }
    }

    #[test]
    fn what_cannot_change_is_told_all_at_once() {
        let old = lab(&format!("{NODES}[[link]]\nbetween = [\"n1\", \"n2\"]\n"));
        let text = "[lab]\nname = \"x\"\nlease_ttl = \"3s\"\n[[node]]\nname = \"n\"\ncount = 4\n\
                    [[link]]\nbetween = [\"n1\", \"n2\"]\ndelay = \"5ms\"\n";
        let refused = difference(&Made::of(&old), &fresh(&old), &lab(text)).unwrap_err();
        assert_eq!(
            refused,
            [
                "lease_ttl is None and would have to be Some(3s)",
                "node n4 would have to be made",
                "link n1+n2 is a plain pair of devices: its frames pass nothing that could impair them",
            ]
        );
    }

    #[test]
    fn rows_say_each_link_once_and_what_goes() {
        let set = |node: &str| Request::Set {
            link: "n1+n2".to_owned(),
            direction: Some(lane(node).direction),
            impairment: Impairment::default(),
        };
        let difference = Difference {
            chains: vec!["red/c".to_owned()],
            networks: vec!["red/w".to_owned()],
            links: vec![set("n1"), set("n2")],
            ..Difference::default()
        };
        let rows: Vec<String> = difference.rows().iter().map(|row| row.join(" ")).collect();
        assert_eq!(
            rows,
            [
                "remove chain red/c",
                "change link n1+n2",
                "remove network red/w"
            ]
        );
    }
}
