//! One measured thing beside another: a line of JSON for programs, a line of a table for people.

use serde_json::json;

use crate::figures::{Figure, figure, mean, median, part, ratios};

/// What a figure must be, as a part of the goal.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// So near to it, as a part of it.
    Near(f64, f64),
}

/// A figure of weft and what it stands beside.
#[derive(Clone, Debug)]
pub struct Row {
    pub bench: &'static str,
    pub case: &'static str,
    pub metric: &'static str,
    pub unit: &'static str,
    weft: f64,
    baseline: f64,
    baseline_name: String,
    ratio: Figure,
    n: usize,
    goal: Option<Goal>,
    /// Which ratio is the goal: 1 where it is a ratio to the goal itself.
    bound: f64,
}

/// What a row is about.
pub type Title = (&'static str, &'static str, &'static str, &'static str);

/// Beside another way, run in turn with it.
pub fn beside(title: Title, weft: &[f64], baseline: &[f64], name: &str) -> Row {
    let ratio = figure(&ratios(weft, baseline), median);
    let sides = (median(weft), median(baseline), name);
    row(title, sides, ratio, (weft.len(), None))
}

/// Beside what it must be.
pub fn against(title: Title, weft: &[f64], goal: Goal) -> Row {
    judged(title, weft, goal, median)
}

/// The same for parts of one long run: their mean counts.
pub fn whole_against(title: Title, weft: &[f64], goal: Goal) -> Row {
    judged(title, weft, goal, mean)
}

/// The same for the value below which 99 of 100 are.
pub fn tail_against(title: Title, weft: &[f64], goal: Goal) -> Row {
    judged(title, weft, goal, |values| part(values, 0.99))
}

fn judged(title: Title, weft: &[f64], goal: Goal, middle: fn(&[f64]) -> f64) -> Row {
    let (Goal::AtLeast(wanted) | Goal::AtMost(wanted) | Goal::Near(wanted, _)) = goal;
    let parts: Vec<f64> = weft.iter().map(|value| value / wanted).collect();
    let sides = (middle(weft), wanted, "goal");
    row(
        title,
        sides,
        figure(&parts, middle),
        (weft.len(), Some(goal)),
    )
}

fn row(
    (bench, case, metric, unit): Title,
    (weft, baseline, name): (f64, f64, &str),
    ratio: Figure,
    (n, goal): (usize, Option<Goal>),
) -> Row {
    Row {
        bench,
        case,
        metric,
        unit,
        weft,
        baseline,
        baseline_name: name.to_owned(),
        ratio,
        n,
        goal,
        bound: 1.0,
    }
}

impl Row {
    /// The same row, whose ratio must be this.
    pub fn must(self, goal: Goal) -> Row {
        let (Goal::AtLeast(bound) | Goal::AtMost(bound) | Goal::Near(bound, _)) = goal;
        Row {
            goal: Some(goal),
            bound,
            ..self
        }
    }

    /// Whether the interval's worse end meets the goal; a row without one is met.
    pub fn is_met(&self) -> bool {
        let (lo, hi) = (self.ratio.lo / self.bound, self.ratio.hi / self.bound);
        match self.goal {
            None => true,
            Some(Goal::AtLeast(_)) => lo >= 1.0,
            Some(Goal::AtMost(_)) => hi <= 1.0,
            Some(Goal::Near(_, part)) => lo >= 1.0 - part && hi <= 1.0 + part,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "bench": self.bench, "case": self.case, "metric": self.metric, "unit": self.unit,
            "weft": self.weft, "baseline": self.baseline, "baseline_name": self.baseline_name,
            "ratio": self.ratio.middle, "lo": self.ratio.lo, "hi": self.ratio.hi, "n": self.n,
        })
    }

    fn line(&self) -> String {
        let unit = match self.baseline_name.as_str() {
            "goal" => self.unit.to_owned(),
            name => format!("x {name}"),
        };
        let goal = match (&self.goal, self.is_met()) {
            (None, _) => String::new(),
            (Some(goal), true) => format!("met: {}", goal.words(&unit)),
            (Some(goal), false) => format!("MISSED: {}", goal.words(&unit)),
        };
        let beside = format!("{} {:.3}", self.baseline_name, self.baseline);
        let Figure { middle, lo, hi } = self.ratio;
        let line = format!(
            "{:<18} {:<14} {:>9.3} {:<7} {:<16} {middle:>6.3} [{lo:.3}, {hi:.3}] {:>3}  {goal}",
            self.case, self.metric, self.weft, self.unit, beside, self.n
        );
        line.trim_end().to_owned()
    }
}

impl Goal {
    fn words(self, unit: &str) -> String {
        match self {
            Goal::AtLeast(value) => format!("at least {value} {unit}"),
            Goal::AtMost(value) => format!("at most {value} {unit}"),
            Goal::Near(value, part) => format!("{value} {unit} +-{:.0} %", part * 100.0),
        }
    }
}

/// All rows, in their order.
pub fn print(rows: &[Row], json: bool) {
    if json {
        rows.iter().for_each(|row| println!("{}", row.json()));
        return;
    }
    println!(
        "{:<18} {:<14} {:>9} {:<7} {:<16} {:>6} {:<14} {:>5}  GOAL",
        "CASE", "METRIC", "WEFT", "UNIT", "BESIDE", "RATIO", "[95 %]", "N"
    );
    rows.iter().for_each(|row| println!("{}", row.line()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLE: Title = ("lab", "relay", "tcp_1", "Gbit/s");

    #[test]
    fn a_goal_is_met_by_the_worse_end() {
        let goal = Goal::AtLeast(1.0);
        assert!(against(TITLE, &[1.1, 1.2, 1.3], goal).is_met());
        assert!(!against(TITLE, &[0.8, 1.2, 1.3], goal).is_met());
        assert!(!against(TITLE, &[0.9, 1.0, 1.0], Goal::Near(1.0, 0.05)).is_met());
        assert!(against(TITLE, &[0.96, 1.0, 1.04], Goal::Near(1.0, 0.05)).is_met());
        assert!(!against(TITLE, &[f64::NAN], Goal::AtMost(1.0)).is_met());
    }

    #[test]
    fn a_ratio_must_be_what_it_is_to_be() {
        let row = |weft: &[f64]| beside(TITLE, weft, &[1.0; 3], "kernel");
        assert!(row(&[1.5; 3]).must(Goal::AtLeast(1.4)).is_met());
        assert!(!row(&[1.3; 3]).must(Goal::AtLeast(1.4)).is_met());
        assert!(row(&[0.7; 3]).must(Goal::AtMost(0.75)).is_met());
        assert!(!row(&[0.8; 3]).must(Goal::AtMost(0.75)).is_met());
    }

    #[test]
    fn a_row_has_the_keys_that_results_are_compared_by() {
        let row = beside(TITLE, &[1.0, 2.0], &[4.0, 4.0], "veth").json();
        assert_eq!((&row["ratio"], &row["n"]), (&json!(0.375), &json!(2)));
        assert_eq!(row["baseline_name"], "veth");
        assert_eq!(row.as_object().map(|keys| keys.len()), Some(11));
    }
}
