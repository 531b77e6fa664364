//! Puts one packet's observations into causal order.
//!
//! Within a node its own clock decides. Between nodes clocks decide nothing: a tunnel packet that one
//! node sent to another is followed by that other's arrival from it.

use std::collections::BTreeMap;

use super::{Ladder, Outcome, Step};
use crate::proto::Observation;

/// What a node saw without a gap: from an arrival (or a container) to a departure.
type Run = Vec<Observation>;

/// Makes the ladder of one packet; `observations` is not empty.
pub(super) fn build(observations: Vec<Observation>) -> Ladder {
    let mut runs = into_runs(observations);
    let mut steps = Vec::new();
    while !runs.is_empty() {
        let mut run = runs.remove(next_start(&runs));
        announce_start(&run, &mut steps);
        loop {
            emit(&run, &mut steps);
            match follow(&run, &mut runs) {
                Next::Run(next) => run = next,
                Next::Missing(step) => {
                    steps.push(step);
                    break;
                }
                Next::End => break,
            }
        }
    }
    finish(steps)
}

fn is_arrival(point: &str) -> bool {
    matches!(point, "from_container" | "decap")
}

fn is_departure(point: &str) -> bool {
    matches!(point, "encap" | "to_container" | "drop" | "answered")
}

/// Order of steps that one node reports with the same time.
fn rank(point: &str) -> u8 {
    match point {
        "from_container" | "decap" | "from_hop" => 0,
        "chain_entry" => 1,
        _ => 2,
    }
}

fn into_runs(observations: Vec<Observation>) -> Vec<Run> {
    let mut by_node: BTreeMap<String, Vec<Observation>> = BTreeMap::new();
    for o in observations {
        by_node.entry(o.node.clone()).or_default().push(o);
    }
    let mut runs = Vec::new();
    for mut list in by_node.into_values() {
        list.sort_by_key(|o| (o.time, rank(&o.point)));
        let mut run: Run = Vec::new();
        for o in list {
            if is_arrival(&o.point) && !run.is_empty() {
                runs.push(std::mem::take(&mut run));
            }
            let ends = is_departure(&o.point);
            run.push(o);
            if ends {
                runs.push(std::mem::take(&mut run));
            }
        }
        if !run.is_empty() {
            runs.push(run);
        }
    }
    runs
}

/// The run that no other run leads to: from a container if there is one.
fn next_start(runs: &[Run]) -> usize {
    let score = |run: &Run| {
        let first = &run[0];
        let led_to =
            first.point == "decap" && runs.iter().any(|other| leads_to(other.last(), first));
        (first.point != "from_container", led_to, first.time)
    };
    (0..runs.len())
        .min_by_key(|&i| score(&runs[i]))
        .unwrap_or(0)
}

fn leads_to(last: Option<&Observation>, first: &Observation) -> bool {
    last.is_some_and(|last| {
        last.point == "encap"
            && first.point == "decap"
            && last.peer == first.node
            && first.peer == last.node
    })
}

enum Next {
    Run(Run),
    Missing(Step),
    End,
}

fn follow(run: &Run, runs: &mut Vec<Run>) -> Next {
    let Some(last) = run.last() else {
        return Next::End;
    };
    let missing = |node: &str, what: String| {
        Next::Missing(Step::Missing {
            node: node.to_owned(),
            what,
        })
    };
    match last.point.as_str() {
        "to_container" | "drop" | "answered" => Next::End,
        "encap" => {
            let next = (0..runs.len())
                .filter(|&i| leads_to(Some(last), &runs[i][0]))
                .min_by_key(|&i| runs[i][0].time);
            match next {
                Some(i) => Next::Run(runs.remove(i)),
                None => {
                    let peer = if last.peer.is_empty() {
                        "the other node"
                    } else {
                        &last.peer
                    };
                    missing(
                        &last.peer,
                        format!("not seen on {peer} after {} sent it there", last.node),
                    )
                }
            }
        }
        "to_hop" => missing(&last.node, format!("not seen leaving {}", hop_name(last))),
        _ => missing(
            &last.node,
            format!("no further step was reported on {}", last.node),
        ),
    }
}

fn hop_name(o: &Observation) -> String {
    match (o.hop.as_str(), o.instance.as_str()) {
        ("", "") => format!("the hop behind steering id {}", o.steer),
        (hop, "") => format!("hop {hop}"),
        (hop, instance) => format!("hop {hop} ({instance})"),
    }
}

/// Says what is missing before a run that does not begin at a container.
fn announce_start(run: &Run, steps: &mut Vec<Step>) {
    let first = &run[0];
    let (node, what) = match first.point.as_str() {
        "from_container" => return,
        "decap" if !first.peer.is_empty() => (
            &first.peer,
            format!(
                "{} sent it to {}, but reported nothing",
                first.peer, first.node
            ),
        ),
        "from_hop" => (
            &first.node,
            format!("not seen entering {}", hop_name(first)),
        ),
        _ => (
            &first.node,
            format!("how it came to {} was not reported", first.node),
        ),
    };
    steps.push(Step::Missing {
        node: node.clone(),
        what,
    });
}

/// Whether a node that saw `a` may see `b` next without having left out a step.
fn may_follow(a: &str, b: &str) -> bool {
    match a {
        "to_hop" => b == "from_hop",
        "chain_entry" | "decap" | "from_hop" | "from_container" => b != "from_hop",
        _ => true,
    }
}

fn emit(run: &Run, steps: &mut Vec<Step>) {
    for (i, o) in run.iter().enumerate() {
        if i > 0 && !may_follow(&run[i - 1].point, &o.point) {
            let (a, b) = (&run[i - 1].point, &o.point);
            steps.push(Step::Missing {
                node: o.node.clone(),
                what: format!("{} did not report what came between {a} and {b}", o.node),
            });
        }
        let previous = steps.iter().rev().find_map(|s| match s {
            Step::Seen { observation, .. } if observation.node == o.node => Some(observation.time),
            _ => None,
        });
        steps.push(Step::Seen {
            since_previous: previous.map(|p| o.time.saturating_sub(p)),
            observation: Box::new(o.clone()),
        });
    }
}

fn finish(steps: Vec<Step>) -> Ladder {
    let seen = |s: &Step| match s {
        Step::Seen { observation, .. } => Some((**observation).clone()),
        Step::Missing { .. } => None,
    };
    let first = steps.iter().find_map(seen).unwrap_or_default();
    let ends_unseen = matches!(steps.last(), Some(Step::Missing { .. }));
    let outcome = match steps.iter().rev().find_map(seen) {
        Some(last) if !ends_unseen => match last.point.as_str() {
            "to_container" => Outcome::Delivered {
                endpoint: if last.endpoint.is_empty() {
                    format!("port {} on {}", last.port, last.node)
                } else {
                    last.endpoint
                },
            },
            "drop" => Outcome::Dropped {
                node: last.node,
                reason: last.reason,
            },
            "answered" => Outcome::Answered { node: last.node },
            _ => Outcome::Unknown,
        },
        _ => Outcome::Unknown,
    };
    Ladder {
        first,
        steps,
        outcome,
        segments: 0,
    }
}
