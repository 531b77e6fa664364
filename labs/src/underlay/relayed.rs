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
    Client, Direction, EndSpec, Impairment, LinkKind, LinkSpec, PortSpec, Request, Way,
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
