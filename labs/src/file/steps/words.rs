//! A step in the words of the report.

use std::fmt;

use weft_overlay::NodeName;

use super::{Condition, LinkChange, StepKind};

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepKind::Reach {
                from,
                to,
                traffic,
                via,
            } => {
                write!(f, "{from} reaches {to} on {traffic}")?;
                if via.is_empty() {
                    Ok(())
                } else {
                    write!(f, " via {}", via.join(", "))
                }
            }
            StepKind::Blocked {
                from,
                to,
                traffic,
                by,
            } => {
                write!(f, "{from} to {to} on {traffic} is blocked by {by}")
            }
            StepKind::Dropped {
                from,
                to,
                traffic,
                reason,
            } => {
                write!(f, "{from} to {to} on {traffic} is dropped: {reason}")
            }
            StepKind::Isolated([a, b]) => write!(f, "{a} and {b} are isolated"),
            StepKind::Link { between, change } => {
                write!(f, "link {} {change}", ends(between))
            }
            StepKind::Capture(capture) => {
                let some = if capture.present { "" } else { "no " };
                let (filter, link) = (capture.filter, ends(&capture.link));
                write!(f, "link {link} carries {some}{filter}")?;
                match &capture.to {
                    Some(node) => write!(f, " to {node}"),
                    None => Ok(()),
                }
            }
            StepKind::Run {
                on,
                command,
                exit,
                text,
            } => {
                write!(f, "on {on}: {}", command.join(" "))?;
                if *exit != 0 {
                    write!(f, " ends with {exit}")?;
                }
                match text {
                    Some(text) => write!(f, ", says {text:?}"),
                    None => Ok(()),
                }
            }
            StepKind::Kill {
                what, power: true, ..
            } => write!(f, "{what} loses its power"),
            StepKind::Kill { what, signal, .. } => write!(f, "{what} gets {signal}"),
            StepKind::Start(what) => write!(f, "{what} is started"),
            StepKind::Pause(what) => write!(f, "{what} is paused"),
            StepKind::Resume(what) => write!(f, "{what} is resumed"),
            StepKind::Wait(condition) => condition.fmt(f),
            StepKind::Apply(file) => write!(f, "{} is applied", file.file),
            StepKind::Stream(stream) => write!(
                f,
                "stream {} begins: {} to {} on {}, {}/s for {:?}",
                stream.name, stream.from, stream.to, stream.traffic, stream.rate, stream.duration
            ),
            StepKind::Judge { name, lost, gap } => {
                let lost = lost.map(|lost| format!("at most {lost} lost"));
                let gap = gap.map(|gap| format!("no gap over {gap:?}"));
                let limits: Vec<String> = lost.into_iter().chain(gap).collect();
                write!(f, "stream {name}: {}", limits.join(", "))
            }
        }
    }
}

/// The nodes of a link: `n1 to n2`.
pub(crate) fn ends(between: &[NodeName]) -> String {
    let names: Vec<&str> = between.iter().map(NodeName::as_str).collect();
    names.join(" to ")
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is set")?;
        if let Some(state) = self.state {
            write!(f, " {}", state.word())?;
        }
        if !self.changes.is_empty() {
            let and = if self.state.is_some() { "," } else { "" };
            write!(f, "{and} {}", self.changes)?;
        }
        match &self.from {
            Some(node) => write!(f, " from {node}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Ready(node) => write!(f, "node {node} is ready"),
            Condition::Lost(node) => write!(f, "node {node} is lost to the others"),
            Condition::Container(name, state) => write!(f, "container {name} is {state}"),
            Condition::Time(time) => write!(f, "{time:?} pass"),
        }
    }
}
