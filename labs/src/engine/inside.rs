//! What a person does with the nodes of a lab that is up: commands, a shell, files, logs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;

use super::list::Found;
use super::{check_name, need_root};
use crate::backend::{self, AnyCarrier, Backend, LACKS_PROGRAMS};
use crate::error::LabError;
use crate::options::Host;
use crate::place::Place;

/// The best shell that a node or a container has.
const SHELL: [&str; 3] = ["sh", "-c", "exec \"$(command -v bash || echo sh)\""];
/// Standard input goes to a container only when it is asked to.
const WITH_INPUT: &str = "-i";
/// How often a log is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn carrier(host: &Host, lab: &Found, target: Option<&str>) -> Result<AnyCarrier, LabError> {
    let (node, keeper) = match target {
        Some(node) => lab.node(node)?,
        None => lab.first()?,
    };
    let place = Place::new(&host.root, &lab.name);
    let exe = &host.weft_exe;
    Ok(backend::attach(
        lab.backend,
        &place,
        exe,
        &lab.id,
        &node,
        keeper,
    ))
}

/// A command on a node, or in a container with these options, that shares our standard streams.
fn inside(
    host: &Host,
    lab: &Found,
    target: &str,
    options: &[&str],
    line: &[&str],
) -> Result<Command, LabError> {
    let in_container = target.contains('/');
    let carrier = carrier(host, lab, (!in_container).then_some(target))?;
    let mut words: Vec<&str> = Vec::new();
    if in_container {
        words.extend([carrier.weft(), "exec"]);
        words.extend(options);
        words.extend([target, "--"]);
    }
    words.extend(line);
    Ok(carrier.command(&words))
}

/// `weft lab exec NAME NODE|TENANT/CONTAINER -- COMMAND`: returns the command's exit code.
pub fn exec(host: &Host, name: &str, target: &str, command: &[String]) -> Result<u8, LabError> {
    let name = check_name(name)?;
    let lab = Found::read(host, &name)?;
    need_root(&name, lab.backend)?;
    let line: Vec<&str> = command.iter().map(String::as_str).collect();
    run(host, inside(host, &lab, target, &[], &line)?)
}

/// Runs it to its end; its exit code.
fn run(host: &Host, mut command: Command) -> Result<u8, LabError> {
    let status = command
        .status()
        .map_err(LabError::io("start", &host.weft_exe))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

/// `weft lab shell NAME NODE|TENANT/CONTAINER`: as [`exec`], with a shell.
pub fn shell(host: &Host, name: &str, target: &str) -> Result<u8, LabError> {
    let name = check_name(name)?;
    let lab = Found::read(host, &name)?;
    need_root(&name, lab.backend)?;
    if lab.backend == Backend::Qemu {
        // Asked before: what a shell ends with says nothing of whether there was one.
        let there = inside(host, &lab, target, &[], &["sh", "-c", ":"])?
            .stdin(Stdio::null())
            .output()
            .map_err(LabError::io("start", &host.weft_exe))?;
        if !there.status.success() {
            return Err(no_shell(&lab.name, target, &there));
        }
    }
    run(host, inside(host, &lab, target, &[WITH_INPUT], &SHELL)?)
}

fn no_shell(lab: &str, target: &str, tried: &Output) -> LabError {
    let said = String::from_utf8_lossy(&tried.stderr);
    LabError::Refused {
        subject: format!("a shell on {target}"),
        cause: format!("{LACKS_PROGRAMS}; sh: {}", said.trim()),
        help: format!(
            "write packages = [\"busybox-static\"] at the node and bring the lab up anew, or run weft itself: \
             weft lab exec {lab} {target} -- weft status"
        ),
    }
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a Path),
    /// A node and an absolute path on it.
    There(&'a str, &'a str),
}

impl Side<'_> {
    /// `NODE:/PATH`, else a path here.
    fn of(text: &str) -> Side<'_> {
        match text.split_once(':') {
            Some((node, path)) if !node.contains('/') && path.starts_with('/') => {
                Side::There(node, path)
            }
            _ => Side::Here(Path::new(text)),
        }
    }
}

/// `weft lab cp NAME SOURCE TARGET`: one of the two is `NODE:/PATH`.
pub fn cp(host: &Host, name: &str, source: &str, target: &str) -> Result<(), LabError> {
    let name = check_name(name)?;
    let lab = Found::read(host, &name)?;
    need_root(&name, lab.backend)?;
    match (Side::of(source), Side::of(target)) {
        (Side::Here(from), Side::There(node, to)) => {
            carrier(host, &lab, Some(node))?.copy_in(from, to)
        }
        (Side::There(node, from), Side::Here(to)) => {
            carrier(host, &lab, Some(node))?.copy_out(from, &file_at(to, from))
        }
        _ => Err(LabError::failed(
            format!("{source} to {target}"),
            "exactly one of the two is on a node",
            "write the node's side as NODE:/PATH, as in `weft lab cp NAME n1:/etc/hosts .`",
        )),
    }
}

/// Into a folder under its own name, as cp(1) does.
fn file_at(to: &Path, from: &str) -> PathBuf {
    match Path::new(from).file_name() {
        Some(name) if to.is_dir() => to.join(name),
        _ => to.to_owned(),
    }
}

/// `weft lab logs NAME [NODE]`: what the agents have said; with `follow` also what they say from now on.
pub fn logs(host: &Host, name: &str, node: Option<&str>, follow: bool) -> Result<(), LabError> {
    let name = check_name(name)?;
    let lab = Found::read(host, &name)?;
    let place = Place::new(&host.root, &name);
    let nodes: Vec<String> = match node {
        Some(node) => vec![lab.known(node)?],
        None => lab.names(),
    };
    let mut logs = Vec::new();
    for node in &nodes {
        let path = place.log(node);
        let file = File::open(&path).map_err(LabError::io("read", path))?;
        logs.push((node, BufReader::new(file), String::new()));
    }
    loop {
        for (node, log, line) in &mut logs {
            // A line that is not whole yet stays for the next look.
            while log.read_line(line).is_ok_and(|length| length > 0) && line.ends_with('\n') {
                print_line(host, node, nodes.len() > 1, line.trim_end());
                line.clear();
            }
        }
        if !follow {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn print_line(host: &Host, node: &str, named: bool, line: &str) {
    if host.json {
        println!("{}", json!({"node": node, "line": line}));
    } else if named {
        println!("{node}  {line}");
    } else {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_a_copy_is_on_a_node_only_with_its_name_and_an_absolute_path() {
        assert_eq!(Side::of("n1:/etc/hosts"), Side::There("n1", "/etc/hosts"));
        for here in ["hosts", "./n1:/x", "n1:hosts", "/tmp/a:b"] {
            assert_eq!(Side::of(here), Side::Here(Path::new(here)));
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(file_at(folder.path(), "/a/b"), folder.path().join("b"));
        assert_eq!(
            file_at(Path::new("/no/such"), "/a/b"),
            Path::new("/no/such")
        );
    }
}
