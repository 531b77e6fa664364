//! The links that pass the lab's relay: what it is told of them, and its start.
//!
//! Owns: how a link of the file is called there. Never: what its ends are; that is the backend's.

use std::path::PathBuf;

use crate::backend::Start;
use crate::error::LabError;
use crate::file::{LabFile, Link};
use crate::journal::{Entry, Journal, RELAY};
use crate::place::Place;
use crate::relay::process;
use crate::relay::{
    Client, Direction, EndSpec, Impairment, LinkKind, LinkSpec, PortSpec, Reply, Request, Way,
};

/// The segment of a lab without links.
const SEGMENT: &str = "underlay";

/// What the relay is told of one link: the nodes at it, by index, and the end of each.
pub(crate) fn link_spec(
    lab: &LabFile,
    link: Option<&Link>,
    nodes: &[usize],
    port: impl Fn(usize) -> PortSpec,
) -> LinkSpec {
    let ends = nodes.iter().map(|&node| EndSpec {
        node: lab.nodes[node].to_string(),
        port: port(node),
    });
    LinkSpec {
        name: link.map_or_else(|| SEGMENT.to_owned(), Link::name),
        kind: if link.is_some() && nodes.len() == 2 {
            LinkKind::Wire
        } else {
            LinkKind::Segment
        },
        ends: ends.collect(),
        impairment: link.map_or_else(Impairment::default, |link| link.impairment.clone()),
    }
}

/// Starts the relay, in the journal before and after; what is said of single directions holds when this returns.
pub(crate) fn start_relay(
    start: &Start<'_>,
    links: Vec<LinkSpec>,
    journal: &mut Journal,
) -> Result<(), LabError> {
    journal.write(&Entry::Holder {
        node: RELAY.to_owned(),
    })?;
    let process = process::start(
        start.exe,
        start.id,
        start.place,
        start.lab.seed,
        links,
        None,
    )?;
    journal.write(&Entry::Started {
        node: RELAY.to_owned(),
        pid: process.pid,
        start: process.start,
    })?;
    let mut relay = Client::connect(&process::control(start.place))?;
    for link in start.lab.links.iter().filter(|link| link.relayed) {
        for request in requests(link, start.place) {
            relay.ask(&request)?;
        }
    }
    Ok(())
}

/// One link more for the relay of a lab that runs; the relay is started if there is none, in place of one of that name.
pub(crate) fn add_to_relay(
    start: &Start<'_>,
    spec: LinkSpec,
    link: &Link,
    journal: &mut Journal,
) -> Result<(), LabError> {
    let control = process::control(start.place);
    let mut relay = match Client::connect(&control) {
        Ok(relay) => relay,
        Err(_) => {
            journal.write(&Entry::Holder {
                node: RELAY.to_owned(),
            })?;
            let (exe, id, place) = (start.exe, start.id, start.place);
            let process = process::start(exe, id, place, start.lab.seed, Vec::new(), None)?;
            journal.write(&Entry::Started {
                node: RELAY.to_owned(),
                pid: process.pid,
                start: process.start,
            })?;
            Client::connect(&control)?
        }
    };
    remove_from(&mut relay, &spec.name)?;
    relay.ask(&Request::Add { link: spec })?;
    for request in requests(link, start.place) {
        relay.ask(&request)?;
    }
    Ok(())
}

/// Takes a link out of the relay, if it is there.
pub(crate) fn remove_from_relay(place: &Place, name: &str) -> Result<(), LabError> {
    remove_from(&mut Client::connect(&process::control(place))?, name)
}

/// Lets go of the network of a node that has ended; nothing without a relay.
pub(crate) fn leave_relay(place: &Place, node: &str) -> Result<(), LabError> {
    let control = process::control(place);
    if !control.exists() {
        return Ok(());
    }
    let node = node.to_owned();
    Client::connect(&control)?
        .ask(&Request::Leave { node })
        .map(drop)
}

fn remove_from(relay: &mut Client, name: &str) -> Result<(), LabError> {
    let Reply::Stats(links) = relay.ask(&Request::Stats { link: None })? else {
        return Ok(());
    };
    let link = name.to_owned();
    if links.iter().any(|one| one.link == name) {
        relay.ask(&Request::Remove { link })?;
    }
    Ok(())
}

/// Lets a link do what the file says of it, and be captured or not.
pub(crate) fn change_in_relay(place: &Place, name: &str, link: &Link) -> Result<(), LabError> {
    let mut relay = Client::connect(&process::control(place))?;
    let stats = relay.ask(&Request::Stats {
        link: Some(name.to_owned()),
    })?;
    let captured = match stats {
        Reply::Stats(links) => links.into_iter().find_map(|l| l.capture).map(|c| c.file),
        _ => None,
    };
    // A capture that goes on is not begun anew: its file would be emptied.
    let recapture = captured != capture_file(link, place);
    let link = &Link {
        between: name
            .split('+')
            .filter_map(|node| node.parse().ok())
            .collect(),
        ..link.clone()
    };
    relay.ask(&Request::Set {
        link: name.to_owned(),
        direction: None,
        impairment: link.impairment.clone(),
    })?;
    if recapture && capture_file(link, place).is_none() {
        relay.ask(&Request::Capture {
            link: name.to_owned(),
            file: None,
            append: false,
        })?;
    }
    for request in requests(link, place) {
        if recapture || !matches!(request, Request::Capture { .. }) {
            relay.ask(&request)?;
        }
    }
    Ok(())
}

/// What a link's ends send differently from each other, and its capture.
fn requests(link: &Link, place: &Place) -> Vec<Request> {
    let ways = link.from.iter().map(|(node, impairment)| Request::Set {
        link: link.name(),
        direction: Some(Direction {
            node: node.to_string(),
            way: Way::From,
        }),
        impairment: impairment.clone(),
    });
    let capture = capture_file(link, place).map(|file| Request::Capture {
        link: link.name(),
        file: Some(file),
        append: false,
    });
    ways.chain(capture).collect()
}

/// Where the frames of a link are written: where the file says, or for its steps in the lab's folder.
pub(crate) fn capture_file(link: &Link, place: &Place) -> Option<PathBuf> {
    match &link.capture {
        // The relay works in another folder.
        Some(file) => std::path::absolute(file).ok(),
        None if link.watched => {
            let name = format!("{}.pcapng", link.name());
            Some(place.node(process::FOLDER).join(name))
        }
        None => None,
    }
}
