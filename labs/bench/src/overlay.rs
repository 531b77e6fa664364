//! `overlay`: from container to container, by weft and by what flannel sets up, and from node to node on the bare
//! underlay, in one run and in turn, so that what else the machine does meets all of them.
//!
//! - `site`: the lab and the containers of all ways. `kernel`: flannel's way; the bridge of one node is its too.
//! - `load`: what is sent, beside what `traffic` has. `tool`: programs inside a namespace.
//! - `tables`: what many entries cost.

mod kernel;
mod load;
mod site;
mod tables;
mod tool;

use std::path::Path as File;

use anyhow::Context;

use crate::Effort;
use crate::figures::part;
use crate::row::{Goal, Row, Title, against, beside};
use crate::traffic::{Path, questions};
use site::Site;
pub use site::{Family, address};

/// Questions of a run: an answer takes some 10 us.
const QUESTIONS: usize = 1000;
/// Datagrams a second at which the processor's time is taken, at most; else a third of what the slowest way can.
const CALM: f64 = 50_000.0;
/// What a stream must have of the bare wire.
const OF_BARE: f64 = 0.95;
/// The ways of a case by name; weft's is the first.
type Ways = Vec<(&'static str, Path)>;
/// What a case has of each way, in the order of the ways, run by run.
type Runs<T> = Vec<Vec<T>>;
/// What medians and tails of round trips are called, with the processor of either end.
type Place = ([&'static str; 2], [usize; 2]);
/// Both ends on one processor, and on two as well.
const ONE: [Place; 1] = [(["rtt_p50", "rtt_p99"], [0, 0])];
const BOTH: [Place; 2] = [ONE[0], (["rtt_p50_cpus", "rtt_p99_cpus"], [0, 1])];

/// All cases.
pub fn run(weft: &File, effort: Effort) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let site = Site::up(weft, Family::Four)?;
    let case = |case, ways, goals| Case {
        case,
        ways,
        effort,
        goals,
    };
    rows.extend(case("cross", site.cross(Family::Four)?, true).all()?);
    rows.extend(case("same", site.same()?, true).same()?);
    rows.extend(case("cross, v6 inside", site.cross(Family::Six)?, false).some()?);
    drop(site);
    let site = Site::up(weft, Family::Six)?;
    rows.extend(case("cross, v6 under", site.cross(Family::Six)?, false).some()?);
    rows.extend(tables::rows(effort.pairs)?);
    Ok(rows)
}

/// What one processor can show.
pub fn on_one_processor(weft: &File, effort: Effort) -> anyhow::Result<Vec<Row>> {
    let site = Site::up(weft, Family::Four)?;
    let case = Case {
        case: "cross, one processor",
        ways: site.cross(Family::Four)?,
        effort,
        goals: true,
    };
    case.one_processor()
}

/// Ways that are measured side by side.
struct Case {
    case: &'static str,
    ways: Ways,
    effort: Effort,
    /// Whether the figures are to be as promised.
    goals: bool,
}

impl Case {
    /// What needs one processor only.
    fn one_processor(&self) -> anyhow::Result<Vec<Row>> {
        let mut rows = self.round_trips(&ONE)?;
        rows.extend(self.cost()?);
        Ok(rows)
    }

    /// Processor time of a packet at a rate that every way can do.
    fn cost(&self) -> anyhow::Result<Vec<Row>> {
        let seconds = self.effort.seconds;
        let mut calm = CALM;
        for (_, path) in &self.ways {
            calm = calm.min(load::flood(path, 64, seconds)? / 3.0);
        }
        let cost = self.runs(|path| load::processor_time(path, 64, calm, seconds))?;
        Ok(self.rows("cpu_per_packet", "us", &cost, Goal::AtMost(0.75)))
    }

    /// Across nodes, everything that is promised.
    fn all(&self) -> anyhow::Result<Vec<Row>> {
        let seconds = self.effort.seconds;
        let mut rows = self.round_trips(&BOTH)?;
        rows.extend(self.cost()?);
        let small = self.runs(|path| load::flood(path, 64, seconds))?;
        rows.extend(self.rows("udp_64", "pps", &small, Goal::AtLeast(1.4)));
        let full = self.runs(|path| load::flood(path, 1400, seconds))?;
        rows.extend(self.rows("udp_1400", "pps", &full, None));
        let opened = self.runs(|path| load::connections(path, seconds))?;
        rows.extend(self.rows("connections", "1/s", &opened, None));
        for (metric, count) in [("tcp_1", 1), ("tcp_8", 8)] {
            let rate = self.runs(|path| load::streams(path, count, seconds))?;
            rows.extend(self.rows(metric, "Gbit/s", &rate, Goal::AtLeast(1.0)));
        }
        Ok(rows)
    }

    /// On one node, where the kernel's way is a bridge.
    fn same(&self) -> anyhow::Result<Vec<Row>> {
        let seconds = self.effort.seconds;
        let mut rows = Vec::new();
        for (metric, runs) in self.rtt(&BOTH)? {
            let least = metric.starts_with("rtt_p50").then_some(Goal::AtMost(1.0));
            rows.extend(self.rows(metric, "us", &runs, least));
        }
        let small = self.runs(|path| load::flood(path, 64, seconds))?;
        rows.extend(self.rows("udp_64", "pps", &small, Goal::AtLeast(1.1)));
        let rate = self.runs(|path| load::streams(path, 1, seconds))?;
        rows.extend(self.rows("tcp_1", "Gbit/s", &rate, Goal::AtLeast(1.0)));
        Ok(rows)
    }

    /// What shows whether the other family goes another way.
    fn some(&self) -> anyhow::Result<Vec<Row>> {
        let seconds = self.effort.seconds;
        let mut rows = self.round_trips(&BOTH)?;
        let small = self.runs(|path| load::flood(path, 64, seconds))?;
        rows.extend(self.rows("udp_64", "pps", &small, None));
        let rate = self.runs(|path| load::streams(path, 1, seconds))?;
        rows.extend(self.rows("tcp_1", "Gbit/s", &rate, None));
        Ok(rows)
    }

    /// Round trips, and on one processor what the network has of them: what a way adds to the bare wire, beside what
    /// the kernel's adds.
    fn round_trips(&self, places: &[Place]) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (metric, runs) in self.rtt(places)? {
            let least = (metric == "rtt_p50_cpus").then_some(Goal::AtMost(0.75));
            rows.extend(self.rows(metric, "us", &runs, least));
            if metric == "rtt_p50"
                && let (Some(kernel), Some(bare)) = (self.of("kernel"), self.of("bare"))
            {
                let all = runs[0].iter().zip(&runs[kernel]).zip(&runs[bare]);
                let added: Vec<f64> = all
                    .map(|((weft, kernel), bare)| (weft - bare) / (kernel - bare))
                    .collect();
                let title = self.title("rtt_net", "kernel");
                rows.push(match self.goals {
                    true => against(title, &added, Goal::AtMost(0.6)),
                    false => against(title, &added, Goal::AtMost(1.0)),
                });
            }
        }
        Ok(rows)
    }

    /// Medians and tails with both ends at each of these places.
    fn rtt(&self, places: &[Place]) -> anyhow::Result<Vec<(&'static str, Runs<f64>)>> {
        let mut found = Vec::new();
        for &(names, processors) in places {
            let runs = self.runs(|path| questions(path, QUESTIONS, Some(processors)))?;
            for (metric, at) in names.into_iter().zip([0.5, 0.99]) {
                let way = |runs: &Vec<Vec<f64>>| runs.iter().map(|run| part(run, at)).collect();
                found.push((metric, runs.iter().map(way).collect()));
            }
        }
        Ok(found)
    }

    /// Runs all ways in turn; which is first changes each time.
    fn runs<T>(&self, measure: impl Fn(&Path) -> anyhow::Result<T>) -> anyhow::Result<Runs<T>> {
        let mut all: Runs<T> = self.ways.iter().map(|_| Vec::new()).collect();
        let count = self.ways.len();
        for round in 0..self.effort.pairs {
            for step in 0..count {
                let way = (round + step) % count;
                let (name, path) = &self.ways[way];
                let run = measure(path).with_context(|| format!("{}, by {name}", self.case))?;
                all[way].push(run);
            }
        }
        Ok(all)
    }

    /// Weft beside each other way; the goal is one beside the kernel's, and streams have one beside the wire.
    fn rows(
        &self,
        metric: &'static str,
        unit: &'static str,
        runs: &Runs<f64>,
        goal: impl Into<Option<Goal>>,
    ) -> Vec<Row> {
        let goal = goal.into();
        let others = self.ways[1..].iter();
        let rows = others.filter_map(|(name, _)| {
            let row = self.beside((metric, unit), runs, name)?;
            Some(match (goal, *name) {
                (Some(_), "bare") if metric.starts_with("tcp") => {
                    self.judged(row, Goal::AtLeast(OF_BARE))
                }
                (None, _) | (_, "bare") => row,
                (Some(goal), _) => self.judged(row, goal),
            })
        });
        rows.collect()
    }

    fn judged(&self, row: Row, goal: Goal) -> Row {
        if self.goals { row.must(goal) } else { row }
    }

    fn beside(
        &self,
        (metric, unit): (&'static str, &'static str),
        runs: &Runs<f64>,
        name: &str,
    ) -> Option<Row> {
        let other = &runs[self.of(name)?];
        Some(beside(self.title(metric, unit), &runs[0], other, name))
    }

    fn of(&self, name: &str) -> Option<usize> {
        self.ways.iter().position(|(way, _)| *way == name)
    }

    fn title(&self, metric: &'static str, unit: &'static str) -> Title {
        ("overlay", self.case, metric, unit)
    }
}
