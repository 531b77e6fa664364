//! The links of a lab that is up, as they are now: for `inspect` and `graph`.
//!
//! What passes the relay the relay tells; of a plain veth pair the nodes' own devices do. Which nodes a link joins
//! stands in the journal.

use serde_json::{Value, json};

use super::ledger::Ledger;
use super::list::Found;
use crate::backend::{self, Backend};
use crate::error::LabError;
use crate::options::Host;
use crate::place::Place;
use crate::relay::{Direction, Impairment, LinkStats, Way};
use crate::report;

/// The name of what joins all nodes of a lab without links.
const SEGMENT: &str = "underlay";

/// A link that is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Joined {
    pub(super) name: String,
    pub(super) nodes: Vec<String>,
    /// Whether its devices are up; none if no node of it could be asked.
    pub(super) up: Option<bool>,
    /// What passed the relay and what it did to it; none for a veth pair.
    pub(super) relayed: Option<LinkStats>,
}

impl Joined {
    /// What is wrong with it, in words; none for a good link.
    pub(super) fn words(&self) -> Vec<String> {
        let down = (self.up == Some(false)).then(|| "down".to_owned());
        let Some(link) = &self.relayed else {
            return down.into_iter().collect();
        };
        let lanes = link
            .lanes
            .iter()
            .filter(|lane| lane.direction.way == Way::From);
        let all: Vec<(&Direction, String)> = lanes
            .map(|lane| (&lane.direction, of(&lane.impairment)))
            .collect();
        let same = all.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let words = all.into_iter().filter(|(_, words)| !words.is_empty());
        let words: Vec<String> = if same {
            words.map(|(_, words)| words).take(1).collect()
        } else {
            words
                .map(|(direction, words)| format!("from {}: {words}", direction.node))
                .collect()
        };
        down.into_iter().chain(words).collect()
    }

    /// Frames that reached an end, and those that did not.
    pub(super) fn frames(&self) -> Option<(u64, u64)> {
        let link = self.relayed.as_ref()?;
        let lanes = link.lanes.iter().map(|lane| &lane.counters);
        Some(lanes.fold((0, 0), |(passed, lost), c| {
            let more = c.lost + c.cut + c.too_big + c.overflow;
            (passed + c.passed, lost + more)
        }))
    }

    pub(super) fn object(&self) -> Value {
        json!({
            "link": self.name, "nodes": self.nodes, "up": self.up, "words": self.words(),
            "relayed": self.relayed,
        })
    }
}

/// An impairment in the words of the lab file.
pub(super) fn of(impairment: &Impairment) -> String {
    let percent = |part: f64| format!("{}%", part * 100.0);
    let set = |name: &str, is: bool, value: String| is.then(|| format!("{name} {value}"));
    let words = [
        impairment.cut.then(|| "cut".to_owned()),
        set(
            "delay",
            !impairment.delay.is_zero(),
            format!("{:?}", impairment.delay),
        ),
        set(
            "jitter",
            !impairment.jitter.is_zero(),
            format!("{:?}", impairment.jitter),
        ),
        set("loss", impairment.loss > 0.0, percent(impairment.loss)),
        set(
            "reorder",
            impairment.reorder > 0.0,
            percent(impairment.reorder),
        ),
        impairment
            .rate
            .map(|rate| format!("rate {} Mbit/s", rate as f64 / 1e6)),
        impairment.mtu.map(|mtu| format!("mtu {mtu}")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    words.join(" ")
}

/// All links of a lab; of a lab that is dead what its journal says.
pub(super) fn all(host: &Host, lab: &Found) -> Result<Vec<Joined>, LabError> {
    let place = Place::new(&host.root, &lab.name);
    let ledger = Ledger::read(&place)?;
    // A relay that has ended tells nothing; that the lab is dead is said elsewhere.
    let mut stats = report::ask_links(&place).unwrap_or_default();
    let joins = if ledger.links.is_empty() {
        vec![(0, SEGMENT.to_owned(), lab.names())]
    } else {
        let there = ledger.links.iter().enumerate().filter(|(_, l)| !l.gone);
        let named = there.map(|(slot, l)| (slot, l.between.join("+"), l.between.clone()));
        named.collect()
    };
    let mut found: Vec<Joined> = Vec::new();
    for (slot, name, nodes) in joins {
        let relayed = stats.iter().position(|link| link.link == name);
        let relayed = relayed.map(|at| stats.swap_remove(at));
        let mut states = Vec::new();
        for node in &nodes {
            let before = ledger.links.iter().take(slot);
            let before = before.filter(|link| link.between.contains(node));
            states.extend(device_is_up(host, lab, node, before.count()));
        }
        found.push(Joined {
            up: (!states.is_empty()).then(|| states.iter().all(|up| *up)),
            name,
            nodes,
            relayed,
        });
    }
    Ok(found)
}

/// Whether the node's device at its link of this number is up, as its kernel says.
fn device_is_up(host: &Host, lab: &Found, node: &str, number: usize) -> Option<bool> {
    if lab.backend == Backend::Qemu {
        // The state of a machine's card is the relay's to tell: its other end is always there.
        return None;
    }
    let (node, keeper) = lab.node(node).ok()?;
    let place = Place::new(&host.root, &lab.name);
    let carrier = backend::attach(lab.backend, &place, &host.weft_exe, &lab.id, &node, keeper);
    let path = format!("/sys/class/net/eth{number}/operstate");
    let output = carrier.command(&["cat", &path]).output().ok()?;
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!state.is_empty()).then(|| state != "down")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::relay::{Counters, LaneStats};

    fn lane(node: &str, impairment: Impairment) -> LaneStats {
        LaneStats {
            direction: Direction {
                node: node.to_owned(),
                way: Way::From,
            },
            impairment,
            counters: Counters {
                passed: 5,
                lost: 1,
                cut: 1,
                ..Counters::default()
            },
        }
    }

    fn joined(lanes: Vec<LaneStats>, up: Option<bool>) -> Joined {
        Joined {
            name: "a+b".to_owned(),
            nodes: vec!["a".to_owned(), "b".to_owned()],
            up,
            relayed: Some(LinkStats {
                link: "a+b".to_owned(),
                lanes,
                ends: Vec::new(),
                capture: None,
            }),
        }
    }

    #[test]
    fn a_link_is_told_in_the_words_of_the_file() {
        let slow = Impairment {
            delay: Duration::from_millis(5),
            loss: 0.01,
            rate: Some(100_000_000),
            ..Impairment::default()
        };
        let both = vec![lane("a", slow.clone()), lane("b", slow.clone())];
        let link = joined(both, Some(true));
        assert_eq!(link.words(), ["delay 5ms loss 1% rate 100 Mbit/s"]);
        assert_eq!(link.frames(), Some((10, 4)));
        let cut = Impairment {
            cut: true,
            ..Impairment::default()
        };
        let one = vec![lane("a", Impairment::default()), lane("b", cut)];
        assert_eq!(joined(one, Some(false)).words(), ["down", "from b: cut"]);
        let good = vec![lane("a", Impairment::default())];
        assert!(joined(good, None).words().is_empty());
    }
}
