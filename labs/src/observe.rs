//! What the nodes see of a step's packets: `weft trace live --json`, read while the step probes.
//!
//! Owns: the questions that steps ask of observations. Never: fills in what nobody reported.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::command::Lines;
use crate::node::Node;

/// How long until all nodes may be expected to listen.
const LISTENING_WITHIN: Duration = Duration::from_secs(5);

/// One observation; the keys are those of the agent's API.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Observation {
    pub(crate) node: String,
    pub(crate) point: String,
    pub(crate) reason: String,
    pub(crate) network: String,
    pub(crate) src: String,
    pub(crate) dst: String,
    pub(crate) endpoint: String,
    pub(crate) hop: String,
    pub(crate) instance: String,
    pub(crate) direction: String,
    pub(crate) sport: u32,
    pub(crate) dport: u32,
    /// The whole line, for the ladder.
    #[serde(skip)]
    pub(crate) line: Value,
}

/// A running trace.
#[derive(Debug)]
pub(crate) struct Trace {
    lines: Lines,
    /// Observations since the last [`Trace::forget`].
    pub(crate) seen: Vec<Observation>,
}

impl Trace {
    /// Starts on `node`; all nodes listen when this returns.
    pub(crate) fn start(
        node: &Node,
        from: &str,
        to: &str,
        traffic: &str,
        within: Duration,
    ) -> Result<Trace, String> {
        let seconds = (within.as_secs() + 5).to_string();
        let args = [
            "trace",
            "live",
            from,
            to,
            traffic,
            "--json",
            "--seconds",
            &seconds,
        ];
        let lines = node
            .weft_lines(&args)
            .map_err(|e| format!("the trace cannot be started: {e}"))?;
        let mut trace = Trace {
            lines,
            seen: Vec::new(),
        };
        let deadline = Instant::now() + LISTENING_WITHIN;
        while let Some(line) = trace.lines.next(deadline) {
            match serde_json::from_str::<Value>(&line) {
                Ok(first) if first.get("listening").is_some() => return Ok(trace),
                _ => {}
            }
        }
        let said = trace.lines.finish();
        Err(format!("the trace does not listen: {}", said.trim()))
    }

    /// Forgets what was seen: a new attempt begins.
    pub(crate) fn forget(&mut self) {
        while self.lines.next(Instant::now()).is_some() {}
        self.seen.clear();
    }

    /// Reads until `enough` says so or the time is over; whether it was enough.
    pub(crate) fn read_until(
        &mut self,
        within: Duration,
        enough: impl Fn(&[Observation]) -> bool,
    ) -> bool {
        let deadline = Instant::now() + within;
        while !enough(&self.seen) {
            let Some(line) = self.lines.next(deadline) else {
                return enough(&self.seen);
            };
            let Ok(value) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            // Either the observation itself or wrapped as in the API.
            let value = match value.get("observation") {
                Some(inner) if inner.is_object() => inner.clone(),
                _ => value,
            };
            if let Ok(mut observation) = serde_json::from_value::<Observation>(value.clone())
                && !observation.point.is_empty()
            {
                observation.line = value;
                self.seen.push(observation);
            }
        }
        true
    }
}

/// Whether some packet entered this hop in the chain's direction.
pub(crate) fn entered(seen: &[Observation], hop: &str) -> bool {
    at_hop(seen, "to_hop", hop)
}

/// Whether some packet left this hop in the chain's direction.
pub(crate) fn left(seen: &[Observation], hop: &str) -> bool {
    at_hop(seen, "from_hop", hop)
}

fn at_hop(seen: &[Observation], point: &str, hop: &str) -> bool {
    seen.iter()
        .any(|o| o.point == point && o.hop == hop && o.direction != "reverse")
}

/// Whether a packet passed all these hops, in and out, in this order, and was delivered.
pub(crate) fn passed(seen: &[Observation], hops: &[String]) -> bool {
    hops.iter().all(|hop| entered(seen, hop) && left(seen, hop)) && in_order(seen, hops)
}

/// The first entry of each hop comes after the exit of the one before. Nodes of a lab share a clock.
fn in_order(seen: &[Observation], hops: &[String]) -> bool {
    let first = |point: &str, hop: &str| {
        seen.iter()
            .filter(|o| o.point == point && o.hop == hop && o.direction != "reverse")
            .filter_map(|o| o.line.get("time"))
            .filter_map(|time| time.as_u64().or_else(|| time.as_str()?.parse().ok()))
            .min()
    };
    hops.windows(2).all(
        |pair| match (first("from_hop", &pair[0]), first("to_hop", &pair[1])) {
            (Some(out), Some(into)) => out <= into,
            _ => false,
        },
    )
}

/// The observations of the first packet that a container sent: of one identity.
pub(crate) fn first_packet(seen: &[Observation]) -> Vec<&Value> {
    let Some(first) = seen
        .iter()
        .find(|o| o.point == "from_container" && o.line.get("identity").is_some())
    else {
        return Vec::new();
    };
    let identity = &first.line["identity"];
    seen.iter()
        .map(|o| &o.line)
        .filter(|line| &line["identity"] == identity)
        .collect()
}

/// Whether the first packet was seen to arrive.
pub(crate) fn delivered(seen: &[Observation]) -> bool {
    first_packet(seen)
        .iter()
        .any(|line| line["point"] == "to_container")
}

/// What was seen, in a few words for a message.
pub(crate) fn words(seen: &[Observation]) -> String {
    if seen.is_empty() {
        return "no node saw a packet of it".to_owned();
    }
    let mut steps: Vec<String> = Vec::new();
    for o in seen {
        let what = match o.point.as_str() {
            "drop" => format!("drop {}", o.reason),
            point if o.hop.is_empty() => point.to_owned(),
            point => format!("{point} {}", o.hop),
        };
        let step = format!("{} {what}", o.node);
        if steps.last() != Some(&step) {
            steps.push(step);
        }
    }
    const SHOWN: usize = 14;
    if steps.len() > SHOWN {
        steps.truncate(SHOWN);
        steps.push("...".to_owned());
    }
    steps.join(" > ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(lines: &[Value]) -> Vec<Observation> {
        lines
            .iter()
            .map(|line| Observation {
                line: line.clone(),
                ..serde_json::from_value(line.clone()).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_hop_is_passed_only_if_the_packet_came_out_again() {
        let into = json!({"point": "to_hop", "hop": "fw", "direction": "forward", "time": 1});
        let out = json!({"point": "from_hop", "hop": "fw", "direction": "forward", "time": 2});
        let back = json!({"point": "from_hop", "hop": "fw", "direction": "reverse", "time": 3});
        let hops = ["fw".to_owned()];
        assert!(!passed(&seen(&[into.clone(), back]), &hops));
        assert!(passed(&seen(&[into, out]), &hops));
    }

    #[test]
    fn the_first_packet_is_told_apart_from_the_next() {
        let lines = [
            json!({"point": "from_container", "identity": 5}),
            json!({"point": "from_container", "identity": 6}),
            json!({"point": "to_container", "identity": 5}),
        ];
        assert_eq!(first_packet(&seen(&lines)).len(), 2);
    }
}
