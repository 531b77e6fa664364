//! Trains: what TCP sends at once, up to 64 KiB, as one frame whose checksums are not written yet.
//!
//! Between two TAP devices a train may pass as it is, at a tenth of the price, as long as nothing is done to frames
//! there and nobody looks at them. Before that changes the nodes are told to send frames again, and what they have
//! sent so far is passed on.
//!
//! Owns: when that is so. A train counts once.

use std::time::Duration;

use super::{Egress, Relay, Seen};
use crate::relay::control::Request;
use crate::relay::fabric::PortId;
use crate::relay::port::{LARGEST, Port};

/// What a TAP device holds at most that nobody has read: its queue has 1000 frames (drivers/net/tun.c).
const QUEUED: usize = 1024;

impl Relay {
    /// Lets trains pass where they may.
    pub(super) fn couple(&mut self) {
        if self.clock.stands() {
            return;
        }
        let names: Vec<String> = self.fabric.names().map(str::to_owned).collect();
        for name in names {
            for id in self.bare_ends(&name).unwrap_or_default() {
                if let Some(port) = &mut self.out.ports[id.0] {
                    port.couple();
                }
            }
        }
    }

    /// The ends of a link on which a train may pass.
    fn bare_ends(&self, link: &str) -> Option<Vec<PortId>> {
        let ids = self.fabric.ports(link).ok()?.into_iter().map(|(id, _)| id);
        let ids: Vec<PortId> = ids.collect();
        let may = |port: &Port| port.can_leave_undone() && port.watched.is_none();
        let both = ids
            .iter()
            .all(|id| self.out.ports[id.0].as_ref().is_some_and(may));
        (both && self.fabric.is_bare(link).unwrap_or(false)).then_some(ids)
    }

    /// Lets no train pass on any link that a request is about.
    pub(super) fn uncouple(&mut self, request: &Request) {
        let link = match request {
            Request::Set { link, .. }
            | Request::Cut { link, .. }
            | Request::Capture { link, .. } => Some(link),
            Request::Freeze => None,
            _ => return,
        };
        let names: Vec<String> = self.fabric.names().map(str::to_owned).collect();
        let mut buffer = vec![0; LARGEST];
        for name in names
            .iter()
            .filter(|name| link.is_none_or(|link| link == *name))
        {
            for (id, _) in self.fabric.ports(name).unwrap_or_default() {
                self.stop_trains(id, &mut buffer);
            }
        }
    }

    /// Of one end: what it has is passed on.
    fn stop_trains(&mut self, id: PortId, buffer: &mut [u8]) {
        for queued in 0..QUEUED {
            let port = self.out.ports[id.0].as_mut();
            let Some(port) = port.filter(|port| port.lets_trains()) else {
                return;
            };
            if queued == 0 {
                port.slow_down();
            }
            let Ok(Some(len)) = port.receive(buffer) else {
                break;
            };
            let now = self.clock.now();
            self.pass(now, id, &buffer[..len]);
        }
        if let Some(port) = &mut self.out.ports[id.0] {
            port.uncouple();
        }
    }

    /// A frame that an end has received, or a train where one may pass.
    pub(super) fn pass(&mut self, now: Duration, id: PortId, frame: &[u8]) {
        let Relay { fabric, out, .. } = self;
        let Egress { ports, undone, .. } = out;
        if let Some(Some(port)) = ports.get_mut(id.0) {
            *undone = port.undone();
            // One that was on its way into the queue when the node was told to send frames.
            if !undone.is_nothing() && !port.lets_trains() {
                *undone = Default::default();
                return port.refuse();
            }
        }
        out.capture(now, id, Seen::In, frame);
        fabric.offer(now, id, frame, out);
        out.undone = Default::default();
    }
}
