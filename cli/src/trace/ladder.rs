//! One packet's way as a ladder: a rung an observation, in the order in which things happened. A step that
//! nobody reported is shown as missing.

use std::fmt::Write;

use owo_colors::OwoColorize;
use weft_agent::proto::Observation;
use weft_agent::trace::{Ladder, Outcome, Step};

/// Draws it; with `colours`, ends and gaps stand out.
pub fn draw(ladder: &Ladder, colours: bool) -> String {
    let mut text = format!("{}\n", title(&ladder.first));
    let rows: Vec<[String; 5]> = ladder.steps.iter().map(row).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    for [node, time, mark, what, detail] in &rows {
        let line = format!(
            "  {node:<a$}  {time:>b$}  {mark:<c$}  {what:<d$}  {detail}",
            a = widths[0],
            b = widths[1],
            c = widths[2],
            d = widths[3],
        );
        let _ = writeln!(text, "{}", paint(line.trim_end(), tone(mark), colours));
    }
    let tone = match &ladder.outcome {
        Outcome::Delivered { .. } | Outcome::Answered { .. } => Tone::Good,
        Outcome::Dropped { .. } => Tone::Bad,
        Outcome::Unknown => Tone::Gap,
    };
    let _ = writeln!(text, "  {}\n", paint(&end(ladder), tone, colours));
    text
}

/// What a line is about, for its colour.
#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Good,
    Bad,
    Gap,
}

fn tone(mark: &str) -> Tone {
    match mark {
        "*" => Tone::Good,
        "x" => Tone::Bad,
        "?" => Tone::Gap,
        _ => Tone::Plain,
    }
}

fn paint(line: &str, tone: Tone, colours: bool) -> String {
    match tone {
        Tone::Good if colours => line.green().to_string(),
        Tone::Bad if colours => line.red().to_string(),
        Tone::Gap if colours => line.yellow().to_string(),
        _ => line.to_owned(),
    }
}

fn title(o: &Observation) -> String {
    let (proto, ports) = match o.proto {
        6 => ("tcp", true),
        17 => ("udp", true),
        1 => ("icmp", false),
        58 => ("icmp6", false),
        0 => ("arp", false),
        _ => ("ip", false),
    };
    let network = if o.network.is_empty() {
        format!("vni {}", o.vni)
    } else {
        o.network.clone()
    };
    let ends = if ports {
        format!("{}:{} > {}:{}", o.src, o.sport, o.dst, o.dport)
    } else {
        format!("{} > {}", o.src, o.dst)
    };
    let flags = if o.proto == 6 {
        format!(" {}", flags(o.tcp_flags))
    } else {
        String::new()
    };
    format!(
        "{network} (vni {})  {proto} {ends}{flags}, {} bytes",
        o.vni, o.len
    )
}

fn flags(bits: u32) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
    let set: Vec<&str> = names
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits & (1 << bit) != 0)
        .map(|(_, n)| *n)
        .collect();
    set.join("+")
}

/// Node, time since the step before on that node, mark, what happened, details.
fn row(step: &Step) -> [String; 5] {
    match step {
        Step::Seen {
            observation,
            since_previous,
        } => {
            let time = match since_previous {
                Some(ns) => format!("+{:.1} us", *ns as f64 / 1_000.0),
                None => String::new(),
            };
            let (mark, what, detail) = words(observation);
            [
                observation.node.clone(),
                time,
                mark.to_owned(),
                what,
                detail,
            ]
        }
        Step::Missing { node, what } => [
            node.clone(),
            String::new(),
            "?".to_owned(),
            "missing".to_owned(),
            what.clone(),
        ],
    }
}

fn words(o: &Observation) -> (&'static str, String, String) {
    let at = |name: &str| {
        if name.is_empty() {
            o.interface.clone()
        } else {
            name.to_owned()
        }
    };
    let hop = || {
        let way = if o.direction.is_empty() {
            String::new()
        } else {
            format!(", {}", o.direction)
        };
        let instance = at(&o.instance);
        format!("{} {} by {instance}{way}", o.chain, o.hop)
    };
    let position = if o.position.is_empty() {
        String::new()
    } else {
        o.position.clone()
    };
    match o.point.as_str() {
        "from_container" => ("o", "sent".into(), format!("by {}", at(&o.endpoint))),
        "chain_entry" => ("|", "chain entry".into(), position),
        "encap" => (
            ">",
            "VXLAN out".into(),
            format!("vni {} to {}", o.vni, o.peer),
        ),
        "decap" => (
            ">",
            "VXLAN in".into(),
            format!("vni {} from {}", o.vni, o.peer),
        ),
        "to_hop" => ("+", "into hop".into(), hop()),
        "from_hop" => ("+", "out of hop".into(), hop()),
        "to_container" => ("*", "delivered".into(), format!("to {}", at(&o.endpoint))),
        "answered" => ("*", "answered".into(), "in place".into()),
        "drop" => ("x", "dropped".into(), o.reason.clone()),
        other => ("|", other.to_owned(), String::new()),
    }
}

fn end(ladder: &Ladder) -> String {
    let cut = match ladder.segments {
        0 => String::new(),
        n => format!(" (cut on the way: {n} more segments were seen)"),
    };
    let outcome = match &ladder.outcome {
        Outcome::Delivered { endpoint } => format!("delivered to {endpoint}"),
        Outcome::Dropped { node, reason } => format!("dropped on {node}: {reason}"),
        Outcome::Answered { node } => format!("answered on {node}"),
        Outcome::Unknown => "the trail ends here: nobody reported what became of it".to_owned(),
    };
    format!("= {outcome}{cut}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(node: &str, point: &str, change: impl FnOnce(&mut Observation)) -> Step {
        let mut observation = Observation {
            node: node.into(),
            point: point.into(),
            vni: 7,
            network: "red/front".into(),
            ..Observation::default()
        };
        change(&mut observation);
        Step::Seen {
            observation: Box::new(observation),
            since_previous: Some(1_500),
        }
    }

    #[test]
    fn a_ladder_shows_what_was_seen_and_marks_what_was_not() {
        let first = Observation {
            vni: 7,
            network: "red/front".into(),
            proto: 6,
            src: "10.10.0.2".into(),
            dst: "10.10.1.2".into(),
            sport: 4000,
            dport: 80,
            tcp_flags: 2,
            len: 74,
            ..Observation::default()
        };
        let ladder = Ladder {
            first,
            steps: vec![
                seen("n1", "from_container", |o| {
                    o.endpoint = "red/front/a".into()
                }),
                seen("n1", "encap", |o| o.peer = "n2".into()),
                Step::Missing {
                    node: "n2".into(),
                    what: "not seen after n1 sent it there".into(),
                },
            ],
            outcome: Outcome::Unknown,
            segments: 0,
        };
        assert_eq!(
            draw(&ladder, false),
            "red/front (vni 7)  tcp 10.10.0.2:4000 > 10.10.1.2:80 SYN, 74 bytes\n\
             \x20 n1  +1.5 us  o  sent       by red/front/a\n\
             \x20 n1  +1.5 us  >  VXLAN out  vni 7 to n2\n\
             \x20 n2           ?  missing    not seen after n1 sent it there\n\
             \x20 = the trail ends here: nobody reported what became of it\n\n"
        );
        assert_eq!(
            draw(&ladder, true).matches("\u{1b}[33m").count(),
            2,
            "the gap and the end"
        );
    }
}
