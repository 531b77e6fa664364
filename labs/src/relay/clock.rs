//! The relay's time: the machine's own (`CLOCK_MONOTONIC`), but for the moments in which the lab stands still.
//!
//! So what is on a link keeps its place in time: a frame that had 3 ms to go when the lab was frozen has 3 ms to go
//! when it goes on, in this relay or in one that is started from its state.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A clock that can stand still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The time when it was last started or stopped.
    at: Duration,
    /// What the machine's clock said then; none while it stands.
    since: Option<Duration>,
}

impl Clock {
    /// As the machine's.
    pub(crate) fn start() -> Clock {
        let now = machine();
        Clock {
            at: now,
            since: Some(now),
        }
    }

    /// Stands at this time.
    pub(crate) fn standing(at: Duration) -> Clock {
        Clock { at, since: None }
    }

    pub(crate) fn now(&self) -> Duration {
        self.at_machine(machine())
    }

    fn at_machine(&self, machine: Duration) -> Duration {
        match self.since {
            Some(since) => self.at + machine.saturating_sub(since),
            None => self.at,
        }
    }

    pub(crate) fn stands(&self) -> bool {
        self.since.is_none()
    }

    pub(crate) fn stop(&mut self) {
        *self = Clock::standing(self.now());
    }

    pub(crate) fn go(&mut self) {
        if self.since.is_none() {
            self.since = Some(machine());
        }
    }

    /// When the machine's clock will be at this time; none while it stands.
    pub(crate) fn machine_at(&self, time: Duration) -> Option<Duration> {
        let since = self.since?;
        Some((since + time).saturating_sub(self.at))
    }
}

fn machine() -> Duration {
    // The clock is there on every Linux; without it there is no relay.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_while_the_lab_does_and_then_goes_on_from_there() {
        let ms = Duration::from_millis;
        let mut clock = Clock {
            at: ms(1_000),
            since: Some(ms(50)),
        };
        assert_eq!(clock.at_machine(ms(60)), ms(1_010));
        assert_eq!(clock.machine_at(ms(1_010)), Some(ms(60)));
        clock.at = ms(1_010);
        clock.since = None;
        assert!(clock.stands());
        assert_eq!(clock.at_machine(ms(9_000)), ms(1_010));
        assert_eq!(clock.machine_at(ms(1_011)), None);
        // Of another machine, or after a boot: its clock may be behind the saved time.
        clock.since = Some(ms(7));
        assert_eq!(clock.at_machine(ms(8)), ms(1_011));
        assert_eq!(clock.machine_at(ms(1_011)), Some(ms(8)));
        assert_eq!(clock.machine_at(ms(900)), Some(Duration::ZERO));
    }
}
