//! `weft apply`, `diff`, `delete`: a site file against the cluster.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use weft_agent::proto::{Change, Object, RemoveRequest};

use crate::connect::with_agent;
use crate::fail::{Done, Failure};
use crate::output;

/// A command about a site file.
#[derive(Debug, Args)]
pub struct Apply {
    /// The site file; `-` is standard input.
    #[arg(long = "file", short)]
    file: PathBuf,
}

/// Runs `weft apply` (or `diff`, which writes nothing).
pub fn apply(host: &str, json: bool, apply: &Apply, dry_run: bool) -> Done {
    let objects = read(&apply.file)?;
    with_agent(host, async |mut agent| {
        print_changes(json, &agent.apply(objects, dry_run).await?);
        Ok(0)
    })
}

/// Runs `weft delete`: the file's objects, last first; one that is gone already is no failure.
pub fn delete(host: &str, json: bool, apply: &Apply) -> Done {
    let objects = read(&apply.file)?;
    with_agent(host, async |mut agent| {
        let mut removed = Vec::new();
        for object in objects.into_iter().rev() {
            let request = RemoveRequest {
                kind: object.kind,
                name: object.name,
                ..RemoveRequest::default()
            };
            match agent.remove(request).await {
                Ok(names) => removed.extend(names),
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => {
                    print_removed(json, &removed);
                    return Err(status.into());
                }
            }
        }
        print_removed(json, &removed);
        Ok(0)
    })
}

fn read(path: &Path) -> Result<Vec<Object>, Failure> {
    let name = path.display().to_string();
    let text = read_file(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let site = weft_labs::site::parse(&name, &text, folder)
        .map_err(|diagnostics| Failure::file(&name, diagnostics))?;
    let mut objects = Vec::new();
    for network in &site.networks {
        objects.push(object("network", &network.name.to_string(), network)?);
    }
    for container in &site.containers {
        objects.push(object("container", &container.name.to_string(), container)?);
    }
    for chain in &site.chains {
        objects.push(chain_object(&chain.name, &chain.file, &chain.text)?);
    }
    Ok(objects)
}

/// The text of a file; of standard input for `-`.
pub fn read_file(path: &Path) -> Result<String, Failure> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let failure = Failure::new(
            format!("{}: cannot be read: {error}", path.display()),
            "check the path and its permissions",
        );
        Failure {
            code: if missing { 3 } else { 1 },
            ..failure
        }
    })
}

/// A document as the API takes it.
pub fn object(kind: &str, name: &str, document: &impl Serialize) -> Result<Object, Failure> {
    let json = serde_json::to_string(document).map_err(|e| {
        Failure::new(
            format!("{kind} {name}: cannot be written as JSON: {e}"),
            "please report this",
        )
    })?;
    Ok(Object {
        kind: kind.to_owned(),
        name: name.to_owned(),
        json,
        revision: 0,
    })
}

/// A chain file as the API takes it.
pub fn chain_object(name: &str, file: &str, text: &str) -> Result<Object, Failure> {
    object("chain", name, &json!({ "file": file, "text": text }))
}

/// Prints what an apply did or would do.
pub fn print_changes(json: bool, changes: &[Change]) {
    if json {
        for change in changes {
            println!(
                "{}",
                json!({
                    "action": change.action, "kind": change.kind, "name": change.name,
                    "detail": change.detail,
                })
            );
        }
        return;
    }
    output::table(
        ["ACTION", "KIND", "NAME", "DETAIL"],
        changes.iter().map(|c| {
            [
                c.action.clone(),
                c.kind.clone(),
                c.name.clone(),
                c.detail.clone(),
            ]
        }),
    );
}

/// Prints what was removed.
pub fn print_removed(json: bool, removed: &[String]) {
    print_done(json, "removed", removed);
}

/// Prints what was `removed`, `stopped`.
pub fn print_done(json: bool, done: &str, names: &[String]) {
    for name in names {
        if json {
            println!("{}", json!({ done: name }));
        } else {
            println!("{done} {name}");
        }
    }
}
