//! TCX links. Each is pinned as `links/<ifindex>-<program>`, so it outlives this process. A link whose
//! interface is gone says so, which tells a pin of an earlier interface from one of the same index now.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{SchedClassifier, TcAttachType};

use super::{failed, link, name_of};
use crate::error::Error;
use crate::programs::PROGRAMS;

fn pin_path(links: &Path, ifindex: u32, program: &str) -> PathBuf {
    links.join(format!("{ifindex}-{program}"))
}

pub(super) fn carried(links: &Path, ifindex: u32, program: &str) -> Option<u32> {
    let info = link::of_pin(&pin_path(links, ifindex, program)).ok()?;
    (info.ifindex == ifindex).then_some(info.program)
}

/// The interfaces with a pinned link that lives.
pub(super) fn carriers(links: &Path) -> Result<BTreeMap<u32, &'static str>, Error> {
    let mut found = BTreeMap::new();
    for pin in pins(links)? {
        if let Some((ifindex, program)) = parse(&pin)
            && carried(links, ifindex, program).is_some()
        {
            found.insert(ifindex, program);
        }
    }
    Ok(found)
}

/// Removes the pins of links whose interface is gone, by what the link says: an index is used again. The
/// number of pins removed.
pub(super) fn sweep(links: &Path) -> Result<usize, Error> {
    let mut removed = 0;
    for pin in pins(links)? {
        let Some((ifindex, program)) = parse(&pin) else {
            continue;
        };
        if carried(links, ifindex, program).is_none() {
            remove(&pin, ifindex)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn pins(links: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |source| Error::Bpffs {
        path: links.into(),
        action: "listing links",
        source,
    };
    let entries = fs::read_dir(links).map_err(fail)?;
    let paths = entries.map(|entry| entry.map(|e| e.path()));
    paths.collect::<Result<_, _>>().map_err(fail)
}

/// What a pin's name says.
fn parse(pin: &Path) -> Option<(u32, &'static str)> {
    let (ifindex, program) = pin.file_name()?.to_str()?.split_once('-')?;
    let mut names = PROGRAMS.into_iter();
    Some((
        ifindex.parse().ok()?,
        names.find(|known| *known == program)?,
    ))
}

pub(super) fn put(
    links: &Path,
    ifindex: u32,
    name: &str,
    program: &mut SchedClassifier,
) -> Result<(), Error> {
    let pin = pin_path(links, ifindex, name);
    if carried(links, ifindex, name).is_some() {
        return renew(&pin, program).map_err(failed(ifindex, "updating the link"));
    }
    // What is pinned there, if anything, belonged to an interface that is gone.
    remove(&pin, ifindex)?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(&name_of(ifindex)?, TcAttachType::Ingress, options)
        .map_err(failed(ifindex, "attaching"))?;
    let taken = program.take_link(id);
    let link = taken.map_err(failed(ifindex, "taking the link"))?;
    let link = FdLink::try_from(link).map_err(failed(ifindex, "taking the link"))?;
    link.pin(&pin)
        .map_err(failed(ifindex, "pinning the link"))?;
    Ok(())
}

fn renew(
    pin: &Path,
    program: &mut SchedClassifier,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let link: FdLink = PinnedLink::from_pin(pin)?.into();
    let id = program.attach_to_link(link.try_into()?)?;
    // The pin keeps the link; this handle is not needed.
    drop(program.take_link(id)?);
    Ok(())
}

pub(super) fn take(links: &Path, ifindex: u32, program: &str) -> Result<(), Error> {
    remove(&pin_path(links, ifindex, program), ifindex)
}

fn remove(pin: &Path, ifindex: u32) -> Result<(), Error> {
    match fs::remove_file(pin) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Interface {
            ifindex,
            action: "removing the link's pin",
            source,
        }),
        _ => Ok(()),
    }
}
