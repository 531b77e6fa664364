//! What links did to frames, for the end of a report: one line for each direction that lost some.

use serde_json::{Value, json};

use crate::error::LabError;
use crate::place::Place;
use crate::relay::{Client, Direction, LaneStats, LinkStats, Reply, Request, Way, process};

/// The links of a lab that pass its relay; none if it has no relay.
pub(crate) fn ask(place: &Place) -> Result<Vec<LinkStats>, LabError> {
    let control = process::control(place);
    if !control.exists() {
        return Ok(Vec::new());
    }
    match Client::connect(&control)?.ask(&Request::Stats { link: None })? {
        Reply::Stats(links) => Ok(links),
        _ => Ok(Vec::new()),
    }
}

/// For people.
pub(super) fn lines(links: &[LinkStats]) -> Vec<String> {
    let lossy = |link: &LinkStats| {
        let lanes = link.lanes.iter().filter_map(losses);
        let lines = lanes.map(|words| format!("link {}, {words}", link.link));
        lines.collect::<Vec<_>>()
    };
    links.iter().flat_map(lossy).collect()
}

/// For programs: every direction of every link.
pub(super) fn objects(lab: &str, links: &[LinkStats]) -> Vec<Value> {
    let of = |link: &LinkStats| {
        let name = link.link.clone();
        let lanes = link.lanes.iter();
        let objects = lanes.map(move |lane| {
            json!({"lab": lab, "link": name, "direction": lane.direction, "counters": lane.counters})
        });
        objects.collect::<Vec<_>>()
    };
    links.iter().flat_map(of).collect()
}

fn losses(lane: &LaneStats) -> Option<String> {
    let counters = &lane.counters;
    let kinds = [
        (counters.lost, "lost by chance"),
        (counters.cut, "by a cut"),
        (counters.too_big, "too big"),
        (counters.overflow, "past the rate's queue"),
    ];
    let sum: u64 = kinds.iter().map(|(count, _)| count).sum();
    let kinds = kinds.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = kinds.map(|(count, why)| format!("{count} {why}")).collect();
    let Direction { node, way } = &lane.direction;
    let way = match way {
        Way::From => "from",
        Way::To => "to",
    };
    let all = counters.passed + sum;
    (sum > 0).then(|| format!("{way} {node}: of {all} frames {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{Counters, Impairment};

    #[test]
    fn only_directions_that_lost_frames_are_told() {
        let lane = |node: &str, counters| LaneStats {
            direction: Direction {
                node: node.to_owned(),
                way: Way::From,
            },
            impairment: Impairment::default(),
            counters,
        };
        let quiet = Counters {
            passed: 9,
            ..Counters::default()
        };
        let lossy = Counters {
            lost: 2,
            cut: 1,
            ..quiet
        };
        let link = LinkStats {
            link: "n1+n2".to_owned(),
            lanes: vec![lane("n1", quiet), lane("n2", lossy)],
            ends: Vec::new(),
            capture: None,
        };
        assert_eq!(
            lines(std::slice::from_ref(&link)),
            ["link n1+n2, from n2: of 12 frames 2 lost by chance, 1 by a cut"]
        );
        let objects = objects("x", &[link]);
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[1]["counters"]["lost"], 2);
        assert_eq!(objects[0]["direction"]["node"], "n1");
    }
}
