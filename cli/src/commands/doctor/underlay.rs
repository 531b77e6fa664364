//! `weft doctor underlay`: a row for each direction of each pair of VTEPs, and what to do about those that are not well.

use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;
use weft_agent::underlay::{Report, Row, Verdict};

use crate::connect::with_agent;
use crate::fail::{Done, Failure};
use crate::output;

/// Work that takes longer than this shows that it goes on.
const PATIENCE: Duration = Duration::from_secs(1);
/// Ways that are all shown in a table.
const ROWS: usize = 200;
/// How often that is drawn anew.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// Runs it; exit code 1 when anything was found.
pub fn run(host: &str, as_json: bool) -> Done {
    with_agent(host, async |mut agent| {
        let asked = agent.underlay(false);
        let mut asked = std::pin::pin!(asked);
        let reply = match tokio::time::timeout(PATIENCE, &mut asked).await {
            Ok(reply) => reply,
            Err(_) => {
                // Draws on standard error, and only on a terminal.
                let bar = ProgressBar::new_spinner();
                bar.set_message(
                    "every node probes its ways to all others; what is lost takes a few seconds",
                );
                bar.enable_steady_tick(DRAWN_EVERY);
                let reply = asked.await;
                bar.finish_and_clear();
                reply
            }
        }?;
        let report: Report = serde_json::from_str(&reply.json).map_err(|e| {
            Failure::new(
                format!("doctor underlay: the agent's answer cannot be read: {e}"),
                "use the same version of weft as the agent",
            )
        })?;
        match as_json {
            true => print_json(&report),
            false => print(&report),
        }
        Ok(u8::from(!report.findings.is_empty()))
    })
}

fn print_json(report: &Report) {
    for row in &report.rows {
        let mut row = json!(row);
        row["kind"] = "way".into();
        println!("{row}");
    }
    for finding in &report.findings {
        let mut finding = json!(finding);
        finding["kind"] = "finding".into();
        println!("{finding}");
    }
    if let Some(cause) = &report.store {
        println!("{}", json!({ "kind": "store", "error": cause }));
    }
}

fn print(report: &Report) {
    // What is well is not looked at where there is much of it.
    let brief = report.rows.len() > ROWS;
    let shown = |row: &&Row| !brief || row.verdict != Verdict::Ok;
    let rows = report.rows.iter().filter(shown).map(|row| {
        [
            row.from.to_string(),
            row.to.to_string(),
            row.vtep.to_string(),
            word(row.verdict).to_owned(),
            size(row),
            match row.passed.sent {
                0 => dash(),
                sent => format!("{} of {sent}", sent.saturating_sub(row.passed.arrived)),
            },
            row.round_trip.map_or_else(dash, milliseconds),
            row.clock.map_or_else(dash, |clock| {
                let sign = if clock.ahead < 0 { "-" } else { "+" };
                let ahead = milliseconds(clock.ahead.unsigned_abs());
                format!("{sign}{ahead} (within {})", milliseconds(clock.within))
            }),
        ]
    });
    let head = [
        "FROM",
        "TO",
        "VTEP",
        "UDP",
        "BYTES",
        "LOST",
        "ROUND TRIP",
        "CLOCK",
    ];
    output::table(head, rows);
    if brief {
        let well = report.rows.iter().filter(|row| row.verdict == Verdict::Ok);
        println!("\n{} more ways are ok; --json shows them.", well.count());
    }
    if let Some(cause) = &report.store {
        println!(
            "\nThe store does not answer ({cause}): these are the nodes that were known last."
        );
    }
    for finding in &report.findings {
        println!("\n{}: {}", finding.subject, finding.says);
        println!("help: {}", finding.help);
    }
    if report.findings.is_empty() {
        println!("\nTunnels pass between all nodes.");
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Lossy => "lossy",
        Verdict::TooSmall => "too small",
        Verdict::Lost => "lost",
        Verdict::NoAnswer => "no answer",
        Verdict::NotProbed => "not probed",
    }
}

fn size(row: &Row) -> String {
    match (row.verdict, row.full) {
        (_, 0) => dash(),
        (Verdict::Ok | Verdict::Lossy, full) => full.to_string(),
        (_, full) => format!("{} of {full}", row.takes),
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn milliseconds(ns: u64) -> String {
    format!("{:.2} ms", ns as f64 / 1e6)
}
