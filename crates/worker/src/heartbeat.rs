//! [`Heartbeat`]: when the leases are renewed: three times per lease, sooner again after a renewal
//! that failed. Not here: what is renewed (`agent`).

use std::time::Duration;

use tokio::time::Instant;

/// Renewals per lease.
const BEATS: u32 = 3;
/// Longest wait for the answer to one.
const PATIENCE_MAX: Duration = Duration::from_secs(15);

/// One timer for all leases of the worker.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    lease: Duration,
    /// When the next one is sent; `None` while one is on its way.
    next: Option<Instant>,
    sent: Instant,
}

impl Heartbeat {
    /// Leases of this length, the first of them taken about now.
    pub(crate) fn new(lease: Duration, now: Instant) -> Self {
        Self { lease, next: Some(now + lease / BEATS), sent: now }
    }

    /// When the next renewal is due.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.next
    }

    /// One goes out.
    pub(crate) const fn sent(&mut self, now: Instant) {
        self.sent = now;
        self.next = None;
    }

    /// It was answered, or not.
    pub(crate) fn answered(&mut self, now: Instant, is_good: bool) {
        let pause = if is_good { self.lease / BEATS } else { self.lease / (BEATS * BEATS) };
        // Counted from when it was sent: a slow answer does not stretch the beat.
        self.next = Some((self.sent + pause).max(now));
    }

    /// How long an answer may take before the renewal counts as failed.
    pub(crate) fn patience(&self) -> Duration {
        (self.lease / BEATS).min(PATIENCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_beats_per_lease_whatever_the_answers_take() {
        let start = Instant::now();
        let s = Duration::from_secs;
        let mut heart = Heartbeat::new(s(60), start);
        assert_eq!(heart.due(), Some(start + s(20)));
        heart.sent(start + s(20));
        assert_eq!(heart.due(), None);
        heart.answered(start + s(23), true);
        assert_eq!(heart.due(), Some(start + s(40)));
    }

    #[test]
    fn a_failed_beat_is_soon_tried_again() {
        let start = Instant::now();
        let s = Duration::from_secs;
        let mut heart = Heartbeat::new(s(45), start);
        heart.sent(start + s(15));
        heart.answered(start + s(16), false);
        assert_eq!(heart.due(), Some(start + s(20)));
        heart.sent(start + s(20));
        heart.answered(start + s(35), false);
        assert_eq!(heart.due(), Some(start + s(35)), "at once, when the answer took its time");
        assert_eq!(heart.patience(), s(15));
    }
}
