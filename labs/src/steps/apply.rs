//! `apply`: a chain or site file is applied; it holds when its containers run and its chains steer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::{Attempt, until, wait};
use crate::cancel::Cancel;
use crate::engine::Running;
use crate::file::{AppliedFile, Condition};
use crate::node::Node;

pub(super) fn run(
    running: &mut Running,
    file: &AppliedFile,
    number: usize,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let folder = format!("step-{number}");
    let done = until(deadline, cancel, || {
        write_and_apply(running, &folder, &file.files, deadline)
    })?;
    adopt(running, file);
    for container in &file.site.containers {
        let state = Condition::Container(container.name.clone(), "running".to_owned());
        wait::until_holds(running, &state, deadline, cancel)?;
    }
    let chains: Vec<&str> = file.site.chains.iter().map(|c| c.name.as_str()).collect();
    if !chains.is_empty() {
        until(deadline, cancel, || {
            let listed = wait::ask_any(running, |node| {
                node.weft_json(&["chain", "ls", "--json"], wait::ASK_WITHIN)
            })?;
            judge_chains(&chains, &listed)
        })?;
    }
    Ok(done)
}

/// Writes the files into a folder of the lab and gives them to a node that answers.
pub(super) fn write_and_apply(
    running: &Running,
    folder: &str,
    files: &BTreeMap<String, String>,
    deadline: Instant,
) -> Attempt {
    let folder = running.place.dir().join(folder);
    let cannot = |e: std::io::Error| format!("{}: {e}", folder.display());
    std::fs::create_dir_all(&folder).map_err(cannot)?;
    for (name, text) in files {
        std::fs::write(folder.join(name), text).map_err(cannot)?;
    }
    let site = folder.join("site.toml");
    // The last attempt too is let to its answer, so that a refusal is told and not a lack of time.
    let left = deadline.saturating_duration_since(Instant::now());
    let within = left.max(wait::ASK_WITHIN);
    let changes = wait::ask_any(running, |node| {
        let there = bring(node, &folder, files)?;
        node.weft_json(&["apply", "-f", &there, "--json"], within)
    });
    judge_applied(
        changes.map(|changes| changes.len()),
        &site.to_string_lossy(),
    )
}

/// Lets a node read the files; where its `site.toml` is.
fn bring(node: &Node, folder: &Path, files: &BTreeMap<String, String>) -> Attempt {
    let mut site = String::new();
    for name in files.keys() {
        let brought = node.carrier.bring(&folder.join(name));
        let there = brought.map_err(|e| e.to_string().replace('\n', "; "))?;
        if name == "site.toml" {
            site = there;
        }
    }
    Ok(site)
}

fn judge_applied(changes: Result<usize, String>, site: &str) -> Attempt {
    match changes {
        Ok(count) => Ok(format!("{count} objects")),
        Err(error) => Err(format!(
            "expected: the file is taken; seen: {error}; look at: {site}, weft diff -f {site}"
        )),
    }
}

fn judge_chains(wanted: &[&str], listed: &[Value]) -> Attempt {
    let steers = |name: &str| {
        listed
            .iter()
            .any(|chain| chain["name"] == name && chain["classified"].is_number())
    };
    let waiting: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|name| !steers(name))
        .collect();
    if waiting.is_empty() {
        return Ok(String::new());
    }
    let waiting = waiting.join(", ");
    Err(format!(
        "expected: chain {waiting} steers on all nodes; seen: some node is not ready for it; \
         look at: weft chain ls, weft chain show"
    ))
}

/// What was applied belongs to the lab from now on, in place of what had its name.
fn adopt(running: &mut Running, file: &AppliedFile) {
    let site = &mut running.lab.site;
    let new = &file.site;
    site.networks
        .retain(|old| new.networks.iter().all(|n| n.name != old.name));
    site.networks.extend(new.networks.iter().cloned());
    site.containers
        .retain(|old| new.containers.iter().all(|c| c.name != old.name));
    site.containers.extend(new.containers.iter().cloned());
    site.chains
        .retain(|old| new.chains.iter().all(|c| c.name != old.name));
    site.chains.extend(new.chains.iter().cloned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_that_is_refused_is_told_with_the_reason() {
        assert_eq!(judge_applied(Ok(2), "x"), Ok("2 objects".to_owned()));
        assert_eq!(
            judge_applied(Err("no tenant green".to_owned()), "/x/site.toml").unwrap_err(),
            "expected: the file is taken; seen: no tenant green; \
             look at: /x/site.toml, weft diff -f /x/site.toml"
        );
    }

    #[test]
    fn a_chain_that_some_node_does_not_steer_yet_is_told() {
        let listed = [
            json!({"name": "red/a", "classified": 0}),
            json!({"name": "red/b", "classified": null}),
        ];
        assert!(judge_chains(&["red/a"], &listed).is_ok());
        let waiting = judge_chains(&["red/a", "red/b"], &listed).unwrap_err();
        assert!(
            waiting.starts_with("expected: chain red/b steers"),
            "{waiting}"
        );
    }
}
