//! Deadlines of leases: kept in memory by every member, acted on by the leader only.
//!
//! The replicated state says which leases exist; when they end is the leader's clock alone. A new leader cannot know what the
//! old one promised last, so it gives every lease its whole time again, plus the time an election takes, before anything ends.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
struct Deadline {
    ttl: Duration,
    at: Instant,
    /// Its end has been proposed: it is not renewed any more.
    ending: bool,
}

/// When leases end.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    leases: Mutex<HashMap<i64, Deadline>>,
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

impl Deadlines {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Deadline>> {
        self.leases.lock().expect("nothing panics under this lock")
    }

    /// A lease was granted.
    pub(crate) fn granted(&self, id: i64, ttl: i64) {
        let ttl = seconds(ttl);
        let deadline = Deadline {
            ttl,
            at: Instant::now() + ttl,
            ending: false,
        };
        self.lock().insert(id, deadline);
    }

    /// A lease is gone.
    pub(crate) fn revoked(&self, id: i64) {
        self.lock().remove(&id);
    }

    /// The state was replaced: only these leases (id, TTL in seconds) exist.
    pub(crate) fn reset(&self, leases: &[(i64, i64)]) {
        self.lock().clear();
        for (id, ttl) in leases {
            self.granted(*id, *ttl);
        }
    }

    /// Whether there are no leases.
    pub(crate) fn none(&self) -> bool {
        self.lock().is_empty()
    }

    /// This member became leader and has applied all that earlier ones proposed: every lease gets its whole time and
    /// `extra`, and what is still here does not end.
    pub(crate) fn begin_leading(&self, now: Instant, extra: Duration) {
        for deadline in self.lock().values_mut() {
            deadline.at = now + deadline.ttl + extra;
            deadline.ending = false;
        }
    }

    /// The majority was away: as [`Deadlines::begin_leading`], but what was proposed to end may still do so.
    pub(crate) fn extend_all(&self, now: Instant, extra: Duration) {
        for deadline in self.lock().values_mut().filter(|d| !d.ending) {
            deadline.at = now + deadline.ttl + extra;
        }
    }

    /// Renews a lease; what it has now, or `None` if it is gone or ending.
    pub(crate) fn renew(&self, id: i64, now: Instant) -> Option<Duration> {
        let mut leases = self.lock();
        let deadline = leases.get_mut(&id).filter(|d| !d.ending)?;
        deadline.at = deadline.at.max(now + deadline.ttl);
        Some(deadline.ttl)
    }

    /// What remains of a lease.
    pub(crate) fn remaining(&self, id: i64, now: Instant) -> Option<Duration> {
        self.lock()
            .get(&id)
            .map(|d| d.at.saturating_duration_since(now))
    }

    /// Leases that are over, at most `limit`; they count as ending from now on.
    pub(crate) fn take_over_due(&self, now: Instant, limit: usize) -> Vec<i64> {
        let mut leases = self.lock();
        let due = leases
            .iter_mut()
            .filter(|(_, d)| !d.ending && d.at <= now)
            .take(limit);
        due.map(|(id, deadline)| {
            deadline.ending = true;
            *id
        })
        .collect()
    }

    /// The end of a lease certainly did not reach the log: it is proposed again later.
    pub(crate) fn not_ended(&self, id: i64) {
        if let Some(deadline) = self.lock().get_mut(&id) {
            deadline.ending = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_lease_is_taken_once_and_not_renewed() {
        let deadlines = Deadlines::default();
        deadlines.granted(7, 5);
        let later = Instant::now() + Duration::from_secs(6);
        assert_eq!(deadlines.take_over_due(later, 10), vec![7]);
        assert!(deadlines.take_over_due(later, 10).is_empty());
        assert_eq!(deadlines.renew(7, later), None);
        deadlines.not_ended(7);
        assert_eq!(deadlines.take_over_due(later, 10), vec![7]);
        deadlines.revoked(7);
        assert_eq!(deadlines.remaining(7, later), None);
    }

    #[test]
    fn a_new_leader_gives_the_whole_time_and_more() {
        let deadlines = Deadlines::default();
        deadlines.reset(&[(1, 10)]);
        let now = Instant::now() + Duration::from_secs(9);
        deadlines.begin_leading(now, Duration::from_secs(1));
        assert_eq!(deadlines.remaining(1, now), Some(Duration::from_secs(11)));
        // A renewal never shortens what the extension gave.
        deadlines.renew(1, now);
        assert_eq!(deadlines.remaining(1, now), Some(Duration::from_secs(11)));
    }

    #[test]
    fn what_may_be_ending_in_the_log_is_not_renewed_after_a_break() {
        let deadlines = Deadlines::default();
        deadlines.reset(&[(1, 1), (2, 60)]);
        let later = Instant::now() + Duration::from_secs(2);
        assert_eq!(deadlines.take_over_due(later, 10), vec![1]);
        deadlines.extend_all(later, Duration::ZERO);
        assert_eq!(deadlines.renew(1, later), None, "its end is proposed");
        assert!(deadlines.take_over_due(later, 10).is_empty(), "once");
        assert_eq!(deadlines.renew(2, later), Some(Duration::from_secs(60)));
        // A later term has applied whatever there was of it.
        deadlines.begin_leading(later, Duration::ZERO);
        assert_eq!(deadlines.renew(1, later), Some(Duration::from_secs(1)));
    }
}
