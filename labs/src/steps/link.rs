//! `link`: a link of the lab is set up or down, cut, or made better or worse.

use weft_overlay::NodeName;

use super::Attempt;
use crate::engine::Running;
use crate::error::LabError;
use crate::file::{Changes, LinkChange, LinkState, ends};
use crate::journal::{Entry, Journal};
use crate::relay::{Client, Direction, LaneStats, Reply, Request, Way, process};
use crate::underlay;

pub(super) fn run(running: &mut Running, between: &[NodeName], change: &LinkChange) -> Attempt {
    let told = |seen: &str| judge(between, change, seen);
    let mut links = running.lab.links.iter();
    let Some(number) = links.position(|link| link.joins(between)) else {
        return Err(told("no such link"));
    };
    let words = |error: LabError| told(&error.to_string().replace('\n', "; "));
    if let Some(state) = change.state {
        running.wires[number].up = state == LinkState::Up;
        // Noted first: `up` of this lab sets it as the file says.
        Journal::open(&running.place.journal())
            .and_then(|mut journal| {
                journal.write(&Entry::LinkState {
                    slot: number,
                    up: running.wires[number].up,
                })
            })
            .map_err(words)?;
        underlay::set_wire(&running.nodes, &running.wires, number).map_err(words)?;
    }
    if change.changes.is_empty() {
        return Ok(String::new());
    }
    let name = running.lab.links[number].name();
    let control = process::control(&running.place);
    let mut relay = Client::connect(&control).map_err(words)?;
    for lane in lanes(&mut relay, &name, change.from.as_ref()).map_err(words)? {
        let request = Request::Set {
            link: name.clone(),
            direction: Some(lane.direction),
            impairment: change.changes.on(&lane.impairment),
        };
        relay.ask(&request).map_err(words)?;
    }
    let now = lanes(&mut relay, &name, change.from.as_ref()).map_err(words)?;
    let other = now.iter().find(|lane| !holds(&change.changes, lane));
    match other {
        None => Ok(String::new()),
        Some(lane) => Err(told(&format!("{:?}", lane.impairment))),
    }
}

/// What nodes send on a link: all, or one of them. What they hear of a segment is not theirs to change.
fn lanes(
    relay: &mut Client,
    link: &str,
    from: Option<&NodeName>,
) -> Result<Vec<LaneStats>, LabError> {
    let request = Request::Stats {
        link: Some(link.to_owned()),
    };
    let Reply::Stats(links) = relay.ask(&request)? else {
        return Ok(Vec::new());
    };
    let lanes = links.into_iter().flat_map(|link| link.lanes);
    let meant = |direction: &Direction| {
        direction.way == Way::From && from.is_none_or(|from| from.as_str() == direction.node)
    };
    Ok(lanes.filter(|lane| meant(&lane.direction)).collect())
}

fn holds(changes: &Changes, lane: &LaneStats) -> bool {
    changes.on(&lane.impairment) == lane.impairment
}

/// Why a link is not as told.
fn judge(between: &[NodeName], change: &LinkChange, seen: &str) -> String {
    let names: Vec<&str> = between.iter().map(NodeName::as_str).collect();
    format!(
        "expected: link {} {change}; seen: {seen}; look at: ip -d link on {}",
        ends(between),
        names.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_cannot_be_set_is_told() {
        let between = ["n1".parse().unwrap(), "n2".parse().unwrap()];
        let mut change = LinkChange {
            state: Some(LinkState::Down),
            from: None,
            changes: Changes::default(),
        };
        assert_eq!(
            judge(&between, &change, "no such link"),
            "expected: link n1 to n2 is set down; seen: no such link; \
             look at: ip -d link on n1 and n2"
        );
        change.state = None;
        change.from = Some("n1".parse().unwrap());
        change.changes.cut = Some(true);
        change.changes.loss = Some(0.01);
        assert!(
            judge(&between, &change, "x")
                .starts_with("expected: link n1 to n2 is set loss 1%, cut from n1; seen: x")
        );
    }
}
