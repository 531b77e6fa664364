//! The relay's one thread: epoll over ports, a timer and the control socket.
//!
//! A frame is read, judged at the time of its reading and, if it leaves at once, written from the
//! same buffer. What leaves later waits in the fabric for a timerfd set to the exact moment: sleeps and
//! poll timeouts round to the scheduler's slack (50 us) or a millisecond. One thread, since a frame
//! costs two system calls and nothing else that would be worth a second one.
//!
//! A wire whose far node is slow is not read for a moment, so that an unimpaired link loses nothing to
//! the relay itself; a segment drops, as a switch does.
//!
//! Owns: descriptors, the clock, captures. Never: decides about a frame; the fabric does.

use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use weft_overlay::tap::Undone;

use super::capture::{Capture, Seen};
use super::clients::Clients;
use super::clock::Clock;
use super::control::Reply;
use super::fabric::{Fabric, PortId, Sink};
use super::port::{LARGEST, Port};
use super::spec::{LinkSpec, RelaySpec};
use crate::error::LabError;
use frozen::Frozen;

mod frozen;
mod requests;
mod trains;

/// Frames of one port before the next one's turn.
const TURN: usize = 32;
/// Captures are on disk this long after traffic ends.
const QUIET_MS: u16 = 100;
/// How soon a held end is looked at again when its far node does nothing at all.
const HELD_MS: u16 = 10;
/// What events are about: a port's number, or these.
const TIMER: u64 = 1 << 32;
const LISTENER: u64 = 2 << 32;
const CLIENT: u64 = 3 << 32;

/// A relay with all its ends open.
pub struct Relay {
    clock: Clock,
    fabric: Fabric,
    /// As they were asked for.
    links: Vec<LinkSpec>,
    out: Egress,
    clients: Clients,
    epoll: Epoll,
    timer: TimerFd,
    /// What the timer is set to.
    armed: Option<Duration>,
    /// Ends that are not read while the far node is behind.
    held: Vec<PortId>,
    frozen: Frozen,
    stopped: bool,
}

/// Where frames leave.
struct Egress {
    ports: Vec<Option<Port>>,
    captures: Vec<Option<Capture>>,
    /// The relay's own, by which captures know the time of day.
    clock: Clock,
    /// What is undone on the frame that is being passed on.
    undone: Undone,
}

impl Egress {
    fn capture(&mut self, now: Duration, port: PortId, seen: Seen, frame: &[u8]) {
        // A capture has the machine's times.
        let now = self.clock.machine_at(now).unwrap_or(now);
        if let Some(Some(open)) = self.ports.get(port.0)
            && let Some((slot, interface)) = open.watched
            && let Some(Some(capture)) = self.captures.get_mut(slot)
        {
            capture.write(now, interface, seen, frame);
        }
    }
}

impl Sink for Egress {
    fn deliver(&mut self, now: Duration, port: PortId, frame: &[u8]) {
        self.capture(now, port, Seen::Out, frame);
        if let Some(Some(port)) = self.ports.get_mut(port.0) {
            if self.undone.is_nothing() {
                port.send(now, frame);
            } else {
                port.send_undone(now, frame, self.undone);
            }
        }
    }
}

impl Relay {
    /// Opens everything: when it returns, frames that nodes send are kept for it.
    pub fn open(spec: &RelaySpec) -> Result<Relay, LabError> {
        if let Some(frames) = spec.socket_queue {
            let path = "/proc/sys/net/unix/max_dgram_qlen";
            std::fs::write(path, frames.to_string())
                .map_err(LabError::io("deepen the queues of unix sockets", path))?;
        }
        let clients = Clients::listen(&spec.control).map_err(LabError::io(
            "make the relay's control socket",
            &spec.control,
        ))?;
        let open = || {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
            epoll.add(clients.listener(), event)?;
            Ok((epoll, timer))
        };
        let (epoll, timer) = open().map_err(failed)?;
        let clock = Clock::start();
        let mut relay = Relay {
            clock,
            fabric: Fabric::new(spec.seed),
            links: Vec::new(),
            out: Egress {
                ports: Vec::new(),
                captures: Vec::new(),
                clock,
                undone: Undone::default(),
            },
            clients,
            epoll,
            timer,
            armed: None,
            held: Vec::new(),
            frozen: Frozen::default(),
            stopped: false,
        };
        if let Some(file) = &spec.state {
            relay.go_on_from(file)?;
        }
        for link in &spec.links {
            relay.add(link)?;
        }
        relay.couple();
        Ok(relay)
    }

    /// Works until it is asked to stop.
    pub fn run(&mut self) -> Result<(), LabError> {
        let mut events = [EpollEvent::empty(); 64];
        let mut buffer = vec![0; LARGEST];
        while !self.stopped {
            let timeout = self.prepare().map_err(failed)?;
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                count => count.map_err(failed)?,
            };
            if count == 0 {
                let captures = self.out.captures.iter_mut().flatten();
                captures.for_each(Capture::flush);
            }
            for event in &events[..count] {
                match event.data() {
                    TIMER => self.fired(),
                    LISTENER => self.accept(),
                    data if data >= CLIENT => self.converse((data - CLIENT) as usize),
                    data => self.turn(PortId(data as usize), event.events(), &mut buffer),
                }
            }
            let now = self.clock.now();
            self.fabric.advance(now, &mut self.out);
            self.resume(now);
        }
        self.out
            .captures
            .iter_mut()
            .flatten()
            .for_each(Capture::flush);
        Ok(())
    }

    /// Sets the timer to what leaves next and tells how long to wait otherwise.
    fn prepare(&mut self) -> nix::Result<EpollTimeout> {
        let next = self.fabric.next();
        if let Some(time) = next
            && next != self.armed
            && let Some(at) = self.clock.machine_at(time)
        {
            // A time that has passed fires at once.
            let at = at.max(Duration::from_nanos(1));
            self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(at)),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?;
            self.armed = next;
        }
        let mut captures = self.out.captures.iter().flatten();
        Ok(if !self.held.is_empty() {
            EpollTimeout::from(HELD_MS)
        } else if captures.any(Capture::is_dirty) {
            EpollTimeout::from(QUIET_MS)
        } else {
            EpollTimeout::NONE
        })
    }

    fn fired(&mut self) {
        self.armed = None;
        // Read, or it stays an event; it was set anew meanwhile if there is nothing to read.
        let _ = self.timer.wait();
    }

    /// One port has frames, or takes them again.
    fn turn(&mut self, id: PortId, events: EpollFlags, buffer: &mut [u8]) {
        let Some(Some(port)) = self.out.ports.get_mut(id.0) else {
            return;
        };
        if events.contains(EpollFlags::EPOLLOUT) {
            port.flush(self.clock.now());
        }
        for _ in 0..TURN {
            let Some(Some(port)) = self.out.ports.get_mut(id.0) else {
                return;
            };
            match port.receive(buffer) {
                Ok(None) => return,
                Ok(Some(len)) if self.clock.stands() => {
                    if !self.frozen.keep(id, &buffer[..len]) {
                        return self.hold(id);
                    }
                }
                Ok(Some(len)) => {
                    let (now, frame) = (self.clock.now(), &buffer[..len]);
                    self.fabric.advance(now, &mut self.out);
                    self.pass(now, id, frame);
                    if self.far(id).is_some_and(|far| far.is_behind(now)) {
                        return self.hold(id);
                    }
                }
                Err(error) => {
                    // A device that went with its namespace. Without this its end would spin.
                    tracing::debug!(port = id.0, %error, "an end of a link is gone");
                    let _ = self.epoll.delete(port.end().reader());
                    return;
                }
            }
        }
    }

    fn far(&self, id: PortId) -> Option<&Port> {
        let far = self.fabric.opposite(id)?;
        self.out.ports[far.0].as_ref()
    }

    fn hold(&mut self, id: PortId) {
        self.listen(id, EpollFlags::empty());
        self.held.push(id);
    }

    fn resume(&mut self, now: Duration) {
        if self.held.is_empty() || self.clock.stands() {
            return;
        }
        for id in std::mem::take(&mut self.held) {
            if self.far(id).is_none_or(|far| far.has_room(now)) {
                self.listen(id, EpollFlags::EPOLLIN);
            } else {
                self.held.push(id);
            }
        }
    }

    fn listen(&self, id: PortId, events: EpollFlags) {
        if let Some(Some(port)) = self.out.ports.get(id.0) {
            let mut event = EpollEvent::new(events, id.0 as u64);
            // Refused for an end that is gone, which is not read anyway.
            let _ = self.epoll.modify(port.end().reader(), &mut event);
        }
    }

    fn accept(&mut self) {
        if let Some((number, stream)) = self.clients.accept() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, CLIENT + number as u64);
            if let Err(error) = self.epoll.add(stream, event) {
                tracing::warn!(%error, "a client of the relay cannot be heard");
            }
        }
    }

    fn converse(&mut self, number: usize) {
        for line in self.clients.lines(number) {
            let reply = match serde_json::from_slice(&line) {
                Ok(request) => self.act(number, request),
                Err(error) => Reply::Error(format!("the request is not understood: {error}")),
            };
            let mut answer = serde_json::to_vec(&reply).unwrap_or_default();
            answer.push(b'\n');
            self.clients.answer(number, &answer);
        }
        if !self.clients.is_open(number) {
            self.left(number);
        }
    }
}

fn failed(error: nix::Error) -> LabError {
    LabError::failed("relay", error, "this is a defect of weft; please report it")
}
