//! `weft doctor`: what this machine offers, and what to do about what it lacks. Nodes and labs ask it
//! before they start. - `checks`: of the machine. - `underlay`: of what lies between nodes.

mod checks;
mod underlay;

use clap::{Args, Subcommand};
use serde_json::json;

use checks::Check;

use crate::fail::{Done, Failure};
use crate::output;

/// `weft doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(subcommand)]
    what: Option<What>,
}

/// `weft doctor ...`
#[derive(Debug, Subcommand)]
enum What {
    /// Try the ways between all nodes: UDP of the tunnels both ways, packets of full size, clocks.
    Underlay,
}

/// Runs it.
pub fn run(host: &str, json: bool, doctor: &Doctor) -> Done {
    match doctor.what {
        Some(What::Underlay) => underlay::run(host, json),
        None => machine(json),
    }
}

/// This machine; exit code 1 when something required is missing.
fn machine(json: bool) -> Done {
    let found = checks::all();
    let missing = found.iter().any(Check::blocks);
    if json {
        for check in &found {
            println!(
                "{}",
                json!({
                    "name": check.name, "present": check.present, "required": check.required,
                    "found": check.found, "why": check.why,
                })
            );
        }
        return Ok(u8::from(missing));
    }
    let rows = found.iter().map(|check| {
        [
            check.name.to_owned(),
            verdict(check).to_owned(),
            check.found.clone(),
            check.why.clone(),
        ]
    });
    output::table(["CHECK", "OK", "FOUND", "WHAT IT IS FOR, WHAT TO DO"], rows);
    if missing {
        println!("\nThis machine cannot run a node before what is MISSING is there.");
    } else {
        println!("\nThis machine can run a node.");
    }
    Ok(u8::from(missing))
}

fn verdict(check: &Check) -> &'static str {
    match (check.present, check.required) {
        (true, _) => "yes",
        (false, true) => "MISSING",
        (false, false) => "no",
    }
}

/// Refuses to go on without what is required.
pub fn require(subject: &str) -> Result<(), Failure> {
    if !checks::privileged() {
        return Err(Failure::refused(
            format!("{subject}: needs root: it makes namespaces, network devices and BPF programs"),
            "run the same command with sudo",
        ));
    }
    judge(subject, &checks::kernel(), &checks::required())
}

fn judge(subject: &str, kernel: &str, found: &[Check]) -> Result<(), Failure> {
    let missing: Vec<&Check> = found.iter().filter(|check| check.blocks()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|check| check.name).collect();
    let mut help = String::new();
    for check in &missing {
        help.push_str(&format!("{}: {}\n      ", check.name, check.why));
    }
    help.push_str("`weft doctor` shows everything that was checked");
    Err(Failure::refused(
        format!(
            "{subject}: this machine (kernel {kernel}) lacks {}",
            names.join(", ")
        ),
        help,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, present: bool, required: bool) -> Check {
        Check {
            name,
            present,
            required,
            found: String::new(),
            why: "steers packets: use Linux 6.1 or newer".to_owned(),
        }
    }

    #[test]
    fn a_kernel_without_what_is_required_is_named_with_the_next_step() {
        let found = [
            check("bpf-tc", false, true),
            check("vxlan", false, true),
            check("tcx", false, false),
            check("btf", true, true),
        ];
        let failure = judge("lab two-tenants", "6.0.9", &found).unwrap_err();
        assert_eq!(failure.code, 4);
        assert_eq!(
            failure.message,
            "lab two-tenants: this machine (kernel 6.0.9) lacks bpf-tc, vxlan"
        );
        assert!(
            failure
                .help
                .contains("bpf-tc: steers packets: use Linux 6.1 or newer")
        );
        assert!(failure.help.contains("weft doctor"));
    }

    #[test]
    fn what_is_only_nice_to_have_stops_nobody() {
        assert!(judge("node n1", "6.1.0", &[check("tcx", false, false)]).is_ok());
    }
}
