//! Links that change while frames are on them, and what they have done so far.
//!
//! Owns: the meaning of a direction, and that a cut loses what was under way while any other change
//! keeps it and its order.

use std::time::Duration;

use super::{Direction, Fabric, Frame, LaneStats, Leg, Way};
use crate::relay::impairment::Impairment;
use crate::relay::lane::Lane;

impl Fabric {
    /// Changes one direction, or without one what every end sends.
    pub fn set(
        &mut self,
        now: Duration,
        link: &str,
        direction: Option<&Direction>,
        impairment: &Impairment,
    ) -> Result<(), String> {
        impairment.check()?;
        let number = self.find(link)?;
        let legs = match direction {
            Some(direction) => vec![self.leg(number, direction)?],
            None => self.legs(number, &[Way::From]),
        };
        for leg in legs {
            self.change(now, leg, impairment.clone());
        }
        Ok(())
    }

    /// Cuts or heals one direction, or without one the whole link. All else stays as it was set.
    pub fn cut(
        &mut self,
        now: Duration,
        link: &str,
        direction: Option<&Direction>,
        cut: bool,
    ) -> Result<(), String> {
        let number = self.find(link)?;
        let legs = match direction {
            Some(direction) => vec![self.leg(number, direction)?],
            None => self.legs(number, &[Way::From, Way::To]),
        };
        for leg in legs {
            if self.lane(leg).impairment().cut != cut {
                let impairment = Impairment {
                    cut,
                    ..self.lane(leg).impairment().clone()
                };
                self.change(now, leg, impairment);
            }
        }
        Ok(())
    }

    /// Whether a link is a wire that does nothing to a frame, and has none under way.
    pub(crate) fn is_bare(&self, link: &str) -> Result<bool, String> {
        let link = self.link(self.find(link)?);
        let bare = |lane: &Lane| lane.is_idle() && lane.impairment() == &Impairment::default();
        let mut members = link.members.iter();
        Ok(link.bridge.is_none() && members.all(|member| bare(&member.from) && bare(&member.to)))
    }

    /// What the lanes of a link do and have done.
    pub fn stats(&self, link: &str) -> Result<Vec<LaneStats>, String> {
        let link = self.link(self.find(link)?);
        let mut stats = Vec::new();
        for member in &link.members {
            let mut tell = |way, lane: &Lane| {
                stats.push(LaneStats {
                    direction: Direction {
                        node: member.node.clone(),
                        way,
                    },
                    impairment: lane.impairment().clone(),
                    counters: lane.counters(),
                });
            };
            tell(Way::From, &member.from);
            if link.bridge.is_some() {
                tell(Way::To, &member.to);
            }
        }
        Ok(stats)
    }

    /// Sets a lane and finds new times for what is under way there.
    fn change(&mut self, now: Duration, leg: Leg, impairment: Impairment) {
        if impairment.cut {
            self.lose(leg);
        }
        self.lane_mut(leg).set(now, impairment);
        let (mut mine, others): (Vec<Frame>, Vec<Frame>) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|frame| frame.leg == leg);
        mine.sort_by_key(|frame| frame.number);
        for frame in &mut mine {
            let len = frame.bytes.len();
            frame.departure = self.lane_mut(leg).retime(now, len, frame.departure);
        }
        self.under_way = others.into_iter().chain(mine).collect();
    }

    /// A cable that is cut loses what was in it.
    fn lose(&mut self, leg: Leg) {
        let mut lengths = Vec::new();
        self.under_way.retain(|frame| {
            if frame.leg == leg {
                lengths.push(frame.bytes.len());
            }
            frame.leg != leg
        });
        let lane = self.lane_mut(leg);
        lengths.into_iter().for_each(|len| lane.lose(len));
    }

    fn leg(&self, number: usize, direction: &Direction) -> Result<Leg, String> {
        let link = self.link(number);
        let mut members = link.members.iter();
        let member = members
            .position(|member| member.node == direction.node)
            .ok_or_else(|| format!("link {} has no end {}", link.name, direction.node))?;
        let (member, way) = match (&link.bridge, direction.way) {
            (None, Way::To) => (1 - member, Way::From),
            (_, way) => (member, way),
        };
        Ok(Leg {
            link: number,
            member,
            way,
        })
    }

    fn legs(&self, link: usize, ways: &[Way]) -> Vec<Leg> {
        let members = 0..self.link(link).members.len();
        members
            .flat_map(|member| ways.iter().map(move |&way| Leg { link, member, way }))
            .collect()
    }
}
