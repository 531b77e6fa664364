//! All links of a relay and the frames on them: pure, driven by the `now` that comes in.
//!
//! Owns: which port is at which link, the lanes of both ways, frames under way in the order of their
//! release. A frame that leaves at once is never copied. Never: reads a clock, sends by itself; what
//! is to be sent goes to a [`Sink`].

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bridge::Bridge;
use super::impairment::Impairment;
use super::lane::{Counters, Departure, Lane, Verdict};
use super::spec::{LinkKind, LinkSpec};

mod change;

/// A port, numbered by the fabric in the order of links and their ends; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortId(pub usize);

/// Where frames go that reach the end of their link.
pub trait Sink {
    /// `frame` is to be sent at `port`.
    fn deliver(&mut self, now: Duration, port: PortId, frame: &[u8]);
}

/// Which way at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// What the node sends.
    From,
    /// What the node would hear. At a wire: what the other end sends.
    To,
}

/// A node at a link and the way that is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direction {
    /// The node's name at the link.
    pub node: String,
    /// Seen from it.
    pub way: Way,
}

/// What a lane does and has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneStats {
    /// Its node and way.
    #[serde(flatten)]
    pub direction: Direction,
    /// As set.
    pub impairment: Impairment,
    /// Since the link was made.
    pub counters: Counters,
}

/// The links of a relay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fabric {
    seed: u64,
    links: Vec<Option<Link>>,
    /// By port: its link and its place there.
    ports: Vec<(usize, usize)>,
    under_way: BinaryHeap<Frame>,
    /// Frames so far: those of one moment leave in the order in which they came.
    frames: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Link {
    name: String,
    members: Vec<Member>,
    /// None for a wire.
    bridge: Option<Bridge>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    node: String,
    port: PortId,
    from: Lane,
    /// Passed by frames of a segment alone; a wire's frames end with the other's `from`.
    to: Lane,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Leg {
    link: usize,
    member: usize,
    way: Way,
}

#[derive(Debug, Serialize, Deserialize)]
struct Frame {
    departure: Departure,
    number: u64,
    leg: Leg,
    bytes: Box<[u8]>,
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        self.number == other.number
    }
}

impl Eq for Frame {}

impl PartialOrd for Frame {
    fn partial_cmp(&self, other: &Frame) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Frame {
    /// The heap gives its greatest first: that is the earliest.
    fn cmp(&self, other: &Frame) -> Ordering {
        (other.departure.at, other.number).cmp(&(self.departure.at, self.number))
    }
}

impl Fabric {
    /// No links. All chance comes from `seed`.
    pub fn new(seed: u64) -> Fabric {
        Fabric {
            seed,
            links: Vec::new(),
            ports: Vec::new(),
            under_way: BinaryHeap::new(),
            frames: 0,
        }
    }

    /// Adds a link; its ports are numbered on from the last one, in the order of `spec.ends`.
    pub fn add(&mut self, now: Duration, spec: &LinkSpec) -> Result<Vec<PortId>, String> {
        spec.check()?;
        if self.find(&spec.name).is_ok() {
            return Err(format!("link {} is there already", spec.name));
        }
        let number = self.links.len();
        let mut members = Vec::with_capacity(spec.ends.len());
        for (place, end) in spec.ends.iter().enumerate() {
            let port = PortId(self.ports.len());
            self.ports.push((number, place));
            let lane = |way| Lane::new(self.seed, &format!("{}/{}/{way}", spec.name, end.node));
            let mut from = lane("from");
            from.set(now, spec.impairment.clone());
            members.push(Member {
                node: end.node.clone(),
                port,
                from,
                to: lane("to"),
            });
        }
        let ports = members.iter().map(|member| member.port).collect();
        self.links.push(Some(Link {
            name: spec.name.clone(),
            members,
            bridge: (spec.kind == LinkKind::Segment).then(Bridge::default),
        }));
        Ok(ports)
    }

    /// Removes a link with what is on its way there, and tells its ports.
    pub fn remove(&mut self, link: &str) -> Result<Vec<PortId>, String> {
        let number = self.find(link)?;
        let gone = self.links[number].take();
        self.under_way.retain(|frame| frame.leg.link != number);
        let members = gone.into_iter().flat_map(|link| link.members);
        Ok(members.map(|member| member.port).collect())
    }

    /// The number of all ports so far, those of removed links included.
    pub(crate) fn port_count(&self) -> usize {
        self.ports.len()
    }

    /// The names of all links.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.links.iter().flatten().map(|link| link.name.as_str())
    }

    /// The ports of a link with their nodes.
    pub fn ports(&self, link: &str) -> Result<Vec<(PortId, String)>, String> {
        let members = &self.link(self.find(link)?).members;
        Ok(members.iter().map(|m| (m.port, m.node.clone())).collect())
    }

    /// The other end of a wire.
    pub fn opposite(&self, port: PortId) -> Option<PortId> {
        let (link, member) = self.ports.get(port.0).copied()?;
        let link = self.links[link].as_ref()?;
        match link.bridge {
            None => Some(link.members[1 - member].port),
            Some(_) => None,
        }
    }

    /// A frame was read at `port`. Call [`Fabric::advance`] for the same `now` before.
    pub fn offer(&mut self, now: Duration, port: PortId, frame: &[u8], sink: &mut dyn Sink) {
        let Some((link, member)) = self.ports.get(port.0).copied() else {
            return;
        };
        if self.links[link].is_some() {
            let way = Way::From;
            self.enter(now, Leg { link, member, way }, frame, sink);
        }
    }

    /// Lets go of all frames whose time has come.
    pub fn advance(&mut self, now: Duration, sink: &mut dyn Sink) {
        while self.next().is_some_and(|at| at <= now) {
            let Some(frame) = self.under_way.pop() else {
                return;
            };
            // At its own time, not when the caller came: lateness does not add up over legs.
            self.leave(frame.departure.at, frame.leg, &frame.bytes, sink);
        }
    }

    /// When [`Fabric::advance`] is due next.
    pub fn next(&self) -> Option<Duration> {
        self.under_way.peek().map(|frame| frame.departure.at)
    }

    fn enter(&mut self, now: Duration, leg: Leg, frame: &[u8], sink: &mut dyn Sink) {
        let lane = self.lane_mut(leg);
        let idle = lane.is_idle();
        let Verdict::Release(departure) = lane.offer(now, frame.len()) else {
            return;
        };
        if idle && departure.at <= now {
            return self.leave(now, leg, frame, sink);
        }
        self.frames += 1;
        self.under_way.push(Frame {
            departure,
            number: self.frames,
            leg,
            bytes: frame.into(),
        });
    }

    fn leave(&mut self, now: Duration, leg: Leg, frame: &[u8], sink: &mut dyn Sink) {
        self.lane_mut(leg).release(frame.len());
        let Some(link) = &mut self.links[leg.link] else {
            return;
        };
        let to = |member| Leg {
            member,
            way: Way::To,
            ..leg
        };
        match (&mut link.bridge, leg.way) {
            (None, _) => sink.deliver(now, link.members[1 - leg.member].port, frame),
            (Some(_), Way::To) => sink.deliver(now, link.members[leg.member].port, frame),
            (Some(bridge), Way::From) => match bridge.forward(now, leg.member, frame) {
                Some(member) if member == leg.member => {}
                Some(member) => self.enter(now, to(member), frame, sink),
                None => {
                    for member in (0..link.members.len()).filter(|m| *m != leg.member) {
                        self.enter(now, to(member), frame, sink);
                    }
                }
            },
        }
    }

    fn find(&self, name: &str) -> Result<usize, String> {
        let mut links = self.links.iter();
        links
            .position(|link| link.as_ref().is_some_and(|link| link.name == name))
            .ok_or_else(|| {
                let names: Vec<&str> = self.names().collect();
                format!("there is no link {name}; there are {}", names.join(", "))
            })
    }

    /// A number from `find`, or of a frame under way: those of removed links are gone.
    fn link(&self, number: usize) -> &Link {
        self.links[number].as_ref().expect("a link that is there")
    }

    fn lane(&self, leg: Leg) -> &Lane {
        let member = &self.link(leg.link).members[leg.member];
        match leg.way {
            Way::From => &member.from,
            Way::To => &member.to,
        }
    }

    fn lane_mut(&mut self, leg: Leg) -> &mut Lane {
        let link = self.links[leg.link].as_mut();
        let member = &mut link.expect("a link that is there").members[leg.member];
        match leg.way {
            Way::From => &mut member.from,
            Way::To => &mut member.to,
        }
    }
}
