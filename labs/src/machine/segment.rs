//! What joins machines: segments of Ethernet over unix datagrams, passed by a process of the lab.
//!
//! Each card of a machine sends its frames to a port of a segment, which learns where addresses are and floods what
//! it does not know. A full queue holds its sender back, as QEMU understands, so that nothing is lost between
//! machines that run; a machine that is stopped is passed over until it moves again.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::socket::{MsgFlags, UnixAddr, sendto};
use serde::{Deserialize, Serialize};

use crate::command::Lines;
use crate::error::LabError;
use crate::processes::Process;

use super::keeper::WORD;

/// The folder of the segments' sockets, beside those of the nodes. No node has such a name.
pub(crate) const FOLDER: &str = "_underlay";
/// What to join, in that folder.
const PLAN: &str = "segments.json";
/// The largest frame: the underlay's MTU is 1,500, and nothing larger leaves a card without offloads.
const FRAME_MAX: usize = 65_536;
/// How long a full queue may hold its sender back before the receiver counts as stopped: longer than a machine waits
/// for its turn on a busy processor.
const STOPPED_AFTER: Duration = Duration::from_secs(2);
/// How long the process may take to make its sockets.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The nodes on a segment, by index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Join(pub(crate) Vec<usize>);

#[derive(Serialize, Deserialize)]
struct Plan {
    nodes: Vec<String>,
    joins: Vec<Join>,
}

/// The socket of a node's card, in its machine's folder.
pub(crate) fn card_socket(card: usize) -> String {
    format!("eth{card}.sock")
}

/// The socket of a segment's port, in [`FOLDER`].
pub(crate) fn port_socket(join: usize, node: usize) -> String {
    format!("{join}-{node}.sock")
}

/// Starts the process that joins the machines below the folder's parent; its sockets are there when this returns.
pub(crate) fn start(
    exe: &Path,
    id: &str,
    folder: &Path,
    nodes: &[String],
    joins: &[Join],
) -> Result<Process, LabError> {
    std::fs::create_dir_all(folder).map_err(LabError::io("create", folder))?;
    let plan = Plan {
        nodes: nodes.to_vec(),
        joins: joins.to_vec(),
    };
    let path = folder.join(PLAN);
    std::fs::write(&path, serde_json::to_vec(&plan).unwrap_or_default())
        .map_err(LabError::io("write", path))?;
    let failed = |cause: String| LabError::failed("underlay", cause, "run the command again");
    let mut command = Command::new(exe);
    command.args([WORD, id, "segment"]).arg(folder);
    let mut lines = Lines::start(command).map_err(|e| failed(e.to_string()))?;
    let process = lines.process();
    match (
        lines.next(Instant::now() + READY_WITHIN).as_deref(),
        process,
    ) {
        (Some("ready"), Some(process)) => {
            lines.leave_running();
            Ok(process)
        }
        (said, _) => {
            let said = said.unwrap_or("it does not start").to_owned();
            Err(failed(format!("{said} {}", lines.finish().trim())))
        }
    }
}

/// `lab-machine ID segment FOLDER`: runs until it is ended.
pub(super) fn run(folder: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(folder).with_context(|| folder.display().to_string())?;
    nix::unistd::setsid().context("leave the terminal")?;
    let plan: Plan = serde_json::from_slice(&std::fs::read(PLAN).context(PLAN)?).context(PLAN)?;
    let mut threads = Vec::new();
    for (number, join) in plan.joins.iter().enumerate() {
        let segment = Arc::new(Segment::new(number, join, &plan)?);
        for port in 0..segment.ports.len() {
            let segment = segment.clone();
            threads.push(move || segment.pass(port));
        }
    }
    println!("ready");
    io::stdout().flush()?;
    super::keeper::detach_output()?;
    let threads: Vec<_> = threads.into_iter().map(std::thread::spawn).collect();
    for thread in threads {
        // Only an error of the socket itself ends one; the others go on.
        let _ = thread.join();
    }
    Ok(())
}

struct Segment {
    ports: Vec<Port>,
    /// On which port an address was seen last.
    seen: Mutex<HashMap<[u8; 6], usize>>,
}

struct Port {
    socket: UnixDatagram,
    /// The card's socket.
    address: UnixAddr,
    /// Whether nobody waits for it any more: it gets what its queue has room for.
    stopped: AtomicBool,
}

impl Segment {
    fn new(number: usize, join: &Join, plan: &Plan) -> anyhow::Result<Segment> {
        let mut ports = Vec::new();
        for &node in &join.0 {
            let path = port_socket(number, node);
            let socket = UnixDatagram::bind(&path).with_context(|| path.clone())?;
            // Applies to sending by all threads.
            socket.set_write_timeout(Some(STOPPED_AFTER))?;
            // The node's cards are numbered by the segments it is on.
            let card = plan.joins[..number]
                .iter()
                .filter(|before| before.0.contains(&node))
                .count();
            let card = format!("../{}/{}", plan.nodes[node], card_socket(card));
            ports.push(Port {
                socket,
                address: UnixAddr::new(card.as_str())?,
                stopped: AtomicBool::new(false),
            });
        }
        Ok(Segment {
            ports,
            seen: Mutex::default(),
        })
    }

    /// Passes what comes in at a port.
    fn pass(&self, from: usize) {
        let mut bytes = vec![0; FRAME_MAX];
        while let Ok(length) = self.ports[from].socket.recv(&mut bytes) {
            let frame = &bytes[..length];
            match self.way(frame, from) {
                Some(to) if to != from => self.send(to, frame),
                Some(_) => {}
                None => (0..self.ports.len())
                    .filter(|to| *to != from)
                    .for_each(|to| self.send(to, frame)),
            }
        }
    }

    /// Where a frame goes; none: everywhere. Learns where its sender is.
    fn way(&self, frame: &[u8], from: usize) -> Option<usize> {
        let (to, sender) = (
            frame.first_chunk::<6>()?,
            frame.get(6..)?.first_chunk::<6>()?,
        );
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_group(sender) {
            seen.insert(*sender, from);
        }
        if is_group(to) {
            None
        } else {
            seen.get(to).copied()
        }
    }

    fn send(&self, to: usize, frame: &[u8]) {
        let port = &self.ports[to];
        let stopped = port.stopped.load(Ordering::Relaxed);
        let flags = if stopped {
            MsgFlags::MSG_DONTWAIT
        } else {
            MsgFlags::empty()
        };
        let sent = sendto(port.socket.as_raw_fd(), frame, &port.address, flags);
        // Any other error: no machine at the other end, or not yet, as a cable that is not plugged in.
        let full = sent == Err(nix::errno::Errno::EAGAIN);
        if full != stopped {
            port.stopped.store(full, Ordering::Relaxed);
        }
    }
}

/// Multicast and broadcast (IEEE 802: the first byte's lowest bit).
fn is_group(address: &[u8; 6]) -> bool {
    address[0] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Segment {
        let port = || Port {
            socket: UnixDatagram::unbound().unwrap(),
            address: UnixAddr::new("eth0.sock").unwrap(),
            stopped: AtomicBool::new(false),
        };
        Segment {
            ports: vec![port(), port(), port()],
            seen: Mutex::default(),
        }
    }

    fn frame(to: u8, from: u8) -> Vec<u8> {
        vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0]
    }

    #[test]
    fn a_segment_learns_where_addresses_are() {
        let segment = segment();
        assert_eq!(
            segment.way(&frame(2, 1), 0),
            None,
            "unknown yet: everywhere"
        );
        assert_eq!(segment.way(&frame(1, 2), 1), Some(0));
        assert_eq!(segment.way(&frame(2, 1), 0), Some(1));
        assert_eq!(segment.way(&frame(1, 1), 2), Some(2), "it moved");
        let everyone = [[0xff; 6].as_slice(), &frame(0, 3)[6..]].concat();
        assert_eq!(segment.way(&everyone, 0), None);
        assert_eq!(segment.way(&[1, 2, 3], 0), None);
    }
}
