//! A relay that stands still while the machines of its lab are stopped and saved, all at one instant.
//!
//! Owns: what nodes send meanwhile, and whose word it is that the relay stands: it never stays so because an engine
//! was killed.

use std::path::Path;

use super::{Egress, Relay};
use crate::error::LabError;
use crate::relay::clock::Clock;
use crate::relay::fabric::{Fabric, PortId};
use crate::relay::port::Port;
use crate::relay::state::{State, Waiting};
use nix::sys::epoll::EpollFlags;

/// What nodes may send while the relay stands, bytes; they wait beyond it.
const INBOX: usize = 64 << 20;

/// What a relay has to remember while it stands.
#[derive(Default)]
pub(super) struct Frozen {
    /// The client that asked for it; none if it was started so.
    by: Option<usize>,
    inbox: Vec<(PortId, Box<[u8]>)>,
    bytes: usize,
}

impl Frozen {
    /// Keeps what a node has sent; `false` once that is enough.
    pub(super) fn keep(&mut self, port: PortId, frame: &[u8]) -> bool {
        self.bytes += frame.len();
        self.inbox.push((port, frame.into()));
        self.bytes < INBOX
    }
}

impl Relay {
    pub(super) fn freeze(&mut self, client: usize) -> Result<(), String> {
        if self.clock.stands() {
            return Err("it stands already".to_owned());
        }
        self.clock.stop();
        self.out.clock = self.clock;
        self.frozen.by = Some(client);
        // What was not read for a moment is read now, and kept.
        for id in std::mem::take(&mut self.held) {
            self.listen(id, EpollFlags::EPOLLIN);
        }
        Ok(())
    }

    /// The client is gone: what it alone asked for ends with it.
    pub(super) fn left(&mut self, client: usize) {
        if self.clock.stands() && self.frozen.by == Some(client) {
            self.go();
        }
    }

    pub(super) fn go(&mut self) {
        if !self.clock.stands() {
            return;
        }
        self.clock.go();
        self.out.clock = self.clock;
        // The time may already be armed for, from before it stood still.
        self.armed = None;
        for id in std::mem::take(&mut self.held) {
            self.listen(id, EpollFlags::EPOLLIN);
        }
        let now = self.clock.now();
        for (port, frame) in std::mem::take(&mut self.frozen).inbox {
            self.fabric.offer(now, port, &frame, &mut self.out);
        }
    }

    pub(super) fn save(&mut self, file: &Path) -> Result<(), String> {
        if !self.clock.stands() {
            return Err("it can be saved only while it stands".to_owned());
        }
        self.take_in();
        let ports = self.out.ports.iter().enumerate();
        let ends = ports.filter_map(|(number, port)| {
            let port = port.as_ref()?;
            Some(Waiting {
                port: PortId(number),
                frames: port.waiting(),
                refused: port.refused(),
            })
        });
        let ends = ends.collect();
        let time = self.clock.now();
        // Moved into the state and back: what is on the links may be large.
        let state = State {
            time,
            fabric: std::mem::replace(&mut self.fabric, Fabric::new(0)),
            links: self.links.clone(),
            ends,
            inbox: std::mem::take(&mut self.frozen.inbox),
        };
        let written = state.write(file);
        (self.fabric, self.frozen.inbox) = (state.fabric, state.inbox);
        written.map_err(|error| format!("{}: {error:#}", file.display()))
    }

    /// What the machines sent before they were stopped.
    fn take_in(&mut self) {
        let mut buffer = vec![0; crate::relay::port::LARGEST];
        for (number, port) in self.out.ports.iter_mut().enumerate() {
            let Some(port) = port else { continue };
            // An end that is gone has nothing more to say.
            while let Ok(Some(len)) = port.receive(&mut buffer) {
                if !self.frozen.keep(PortId(number), &buffer[..len]) {
                    break;
                }
            }
        }
    }

    /// As the relay that wrote the file; stands until it is told to go.
    pub(super) fn go_on_from(&mut self, file: &Path) -> Result<(), LabError> {
        let failed = |cause: String| {
            LabError::failed(
                format!("the links' state in {}", file.display()),
                cause,
                "take another snapshot; this one cannot be restored",
            )
        };
        let state = State::read(file).map_err(|error| failed(format!("{error:#}")))?;
        self.clock = Clock::standing(state.time);
        self.out = Egress {
            clock: self.clock,
            ports: std::iter::repeat_with(|| None)
                .take(state.fabric.port_count())
                .collect(),
            captures: Vec::new(),
            undone: Default::default(),
        };
        self.fabric = state.fabric;
        for link in &state.links {
            let ids = self.fabric.ports(&link.name).map_err(failed)?;
            for ((id, _), end) in ids.into_iter().zip(&link.ends) {
                let port = Port::open(&end.port)?;
                self.plug(id, port)?;
            }
        }
        for end in state.ends {
            if let Some(Some(port)) = self.out.ports.get_mut(end.port.0) {
                port.go_on_with(end.frames, end.refused);
            }
        }
        self.links = state.links;
        self.frozen.inbox = state.inbox;
        Ok(())
    }
}
