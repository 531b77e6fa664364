//! From what all nodes found to rows and findings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_overlay::NodeName;

use super::{Apart, Known, Passed, Probed, Refused, Way};

/// Clocks that are surely farther apart than this are a finding: an operator cannot compare what two nodes log.
const CLOCKS: Duration = Duration::from_millis(500);

/// A way that loses more than one packet of so many is a finding: one may be chance.
const ONE_IN: u32 = 20;

/// What a way does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A packet of full size arrives.
    Ok,
    /// So it does, but some are lost.
    Lossy,
    /// Only smaller ones do.
    TooSmall,
    /// Nothing arrives.
    Lost,
    /// No answer came, and the node at the end could not be asked what arrived.
    NoAnswer,
    /// The node at the beginning could not be asked to probe.
    NotProbed,
}

/// One direction of a pair of VTEPs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where the way begins.
    pub from: NodeName,
    /// Where it ends.
    pub to: NodeName,
    /// The VTEP there.
    pub vtep: IpAddr,
    /// What it does.
    pub verdict: Verdict,
    /// The largest packet that arrived, bytes of outer IP packet.
    pub takes: u32,
    /// The largest that should; 0 = not known.
    pub full: u32,
    /// How many of the small packets arrived.
    pub passed: Passed,
    /// There and back, ns.
    pub round_trip: Option<u64>,
    /// How far the clock at the end is ahead.
    pub clock: Option<Apart>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Of what: `n1 > n2`, `n3`.
    pub subject: String,
    /// What was found.
    pub says: String,
    /// The next step.
    pub help: String,
}

/// The whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// A row for each direction of each pair.
    pub rows: Vec<Row>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Why the store does not answer, if it does not: then these are the nodes that were known last.
    pub store: Option<String>,
}

/// What each node told, or why it did not.
pub type Told = BTreeMap<NodeName, Result<Probed, String>>;

/// Judges.
pub fn judge(nodes: &[Known], told: &Told, port: u16) -> Report {
    let mut report = Report::default();
    for node in nodes {
        if let Some(Err(cause)) = told.get(&node.name) {
            report.findings.push(silent(node, cause));
        }
    }
    for from in nodes {
        for to in nodes.iter().filter(|to| to.name != from.name) {
            for vtep in &to.vteps {
                let way = way(told, &from.name, &to.name, *vtep);
                let row = row(from, to, *vtep, way);
                let filtered = told
                    .get(&to.name)
                    .is_some_and(|t| t.as_ref().is_ok_and(|t| t.filtered));
                report
                    .findings
                    .extend(finding(&row, from, way, filtered, port));
                report.rows.push(row);
            }
        }
    }
    report.findings.extend(clocks(&report.rows));
    report
}

fn way<'a>(told: &'a Told, from: &NodeName, to: &NodeName, vtep: IpAddr) -> Option<&'a Way> {
    let probed = told.get(from)?.as_ref().ok()?;
    probed
        .ways
        .iter()
        .find(|way| way.to == *to && way.vtep == vtep)
}

fn row(from: &Known, to: &Known, vtep: IpAddr, way: Option<&Way>) -> Row {
    let verdict = match way {
        None => Verdict::NotProbed,
        Some(way) if way.arrived && way.takes >= way.full && lossy(way) => Verdict::Lossy,
        Some(way) if way.arrived && way.takes >= way.full => Verdict::Ok,
        Some(way) if way.arrived => Verdict::TooSmall,
        Some(way) if way.told.is_ok() || way.refused.is_some() => Verdict::Lost,
        Some(_) => Verdict::NoAnswer,
    };
    Row {
        from: from.name.clone(),
        to: to.name.clone(),
        vtep,
        verdict,
        takes: way.map_or(0, |way| way.takes),
        full: way.map_or(0, |way| way.full),
        passed: way.map(|way| way.passed).unwrap_or_default(),
        round_trip: way
            .and_then(|way| way.round_trip)
            .map(|trip| u64::try_from(trip.as_nanos()).unwrap_or(u64::MAX)),
        clock: way.and_then(|way| way.clock),
    }
}

/// Whether packets are lost on this way. Where nobody said what arrived, the answers may be.
fn lossy(way: &Way) -> bool {
    let lost = way.passed.sent.saturating_sub(way.passed.arrived);
    way.told.is_ok() && lost * ONE_IN > way.passed.sent
}

fn silent(node: &Known, cause: &str) -> Finding {
    let gone = match node.alive {
        true => "",
        false => ", and it has no lease",
    };
    Finding {
        subject: node.name.to_string(),
        says: format!("its agent does not answer{gone}: {cause}"),
        help: format!(
            "check that {} is up, that `weft node run` runs there, and that TCP 7946, or its --api-port, is reachable",
            node.name
        ),
    }
}

fn finding(
    row: &Row,
    from: &Known,
    way: Option<&Way>,
    filtered: bool,
    port: u16,
) -> Option<Finding> {
    let (says, help) = match row.verdict {
        // The node that could not be asked has a finding of its own.
        Verdict::Ok | Verdict::NotProbed => return None,
        Verdict::Lossy => (
            format!(
                "loses {} of {} packets",
                row.passed.sent.saturating_sub(row.passed.arrived),
                row.passed.sent
            ),
            format!(
                "look for a link that is overloaded or bad between the two; `ip -s link` on {} and {} counts what the underlay's interfaces lose",
                row.from, row.to
            ),
        ),
        Verdict::TooSmall => (
            format!(
                "takes only {} of {} bytes",
                thousands(row.takes),
                thousands(row.full)
            ),
            format!(
                "raise the MTU of what lies between, or give the underlay's interfaces of one of the two nodes MTU {}; networks follow",
                row.takes
            ),
        ),
        Verdict::Lost => lost(row, from, way, filtered, port),
        Verdict::NoAnswer => (
            "no answer, and what arrives there is not known".to_owned(),
            format!(
                "bring {} up first; then check that UDP {port} passes both ways",
                row.to
            ),
        ),
    };
    Some(Finding {
        subject: format!("{} > {}", row.from, row.to),
        says,
        help,
    })
}

fn lost(row: &Row, from: &Known, way: Option<&Way>, filtered: bool, port: u16) -> (String, String) {
    let (to, vtep) = (&row.to, row.vtep);
    let source = from
        .vteps
        .first()
        .map(IpAddr::to_string)
        .unwrap_or_default();
    match way.and_then(|way| way.refused.as_ref()) {
        Some(Refused::Filter) => (
            format!("{}'s own packet filter lets no UDP {port} out", row.from),
            format!(
                "on {}, allow UDP to {vtep} port {port}; `nft list ruleset` shows the rules",
                row.from
            ),
        ),
        Some(Refused::Port) => (
            format!("{to} says that nothing takes UDP {port} there"),
            format!(
                "on {to}, see that `weft-vxlan` is there and up, and that all nodes have one --vxlan-port"
            ),
        ),
        Some(Refused::Route) => (
            format!("{} has no way to {vtep}", row.from),
            format!("on {}, `ip route get {vtep}`", row.from),
        ),
        Some(Refused::Other(cause)) => (
            format!("{} cannot send UDP {port}: {cause}", row.from),
            format!("on {}, `ip route get {vtep}`, `nft list ruleset`", row.from),
        ),
        None if filtered => (
            format!(
                "UDP {port} does not arrive, and a packet filter of {to} looks at what comes in"
            ),
            format!(
                "on {to}, allow UDP from {source} to port {port}; `nft list ruleset` shows the rules"
            ),
        ),
        None => (
            format!("UDP {port} does not arrive"),
            format!(
                "allow UDP from {source} to {vtep} port {port} in filters and security groups on the way; `weft drops` shows what {to} itself drops"
            ),
        ),
    }
}

/// One a pair, by the direction that says it best.
fn clocks(rows: &[Row]) -> Vec<Finding> {
    let mut best: BTreeMap<(&NodeName, &NodeName), Apart> = BTreeMap::new();
    for row in rows {
        let Some(clock) = row.clock else { continue };
        let (pair, clock) = if row.from < row.to {
            ((&row.from, &row.to), clock)
        } else {
            let ahead = clock.ahead.saturating_neg();
            ((&row.to, &row.from), Apart { ahead, ..clock })
        };
        let known = best.entry(pair).or_insert(clock);
        if clock.within < known.within {
            *known = clock;
        }
    }
    let surely = |clock: &Apart| clock.ahead.unsigned_abs().saturating_sub(clock.within);
    let far = best
        .into_iter()
        .filter(|(_, clock)| u128::from(surely(clock)) > CLOCKS.as_nanos());
    far.map(|((a, b), clock)| {
        let word = if clock.ahead < 0 {
            "behind"
        } else {
            "ahead of"
        };
        Finding {
            subject: format!("{a}, {b}"),
            says: format!(
                "the clock of {b} is {} {word} that of {a}, within {}",
                seconds(clock.ahead.unsigned_abs()),
                seconds(clock.within)
            ),
            help: "set both by one time server (chrony, systemd-timesyncd)".to_owned(),
        }
    })
    .collect()
}

fn seconds(ns: u64) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}

/// 1,372.
fn thousands(number: u32) -> String {
    match number / 1000 {
        0 => number.to_string(),
        above => format!("{},{:03}", thousands(above), number % 1000),
    }
}

#[cfg(test)]
mod tests;
