//! [`Backoff`]: how long to wait before the next try: twice as long each time up to a most, then
//! a random part of it, so that a fleet does not come back in step. Not here: waiting.

use std::time::Duration;

/// First and longest pause, and where it stands.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    /// Tries since the last success.
    failures: u32,
}

impl Backoff {
    /// Pauses from `first` to `most`.
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// It worked: the next pause is the first again.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Tries since the last success.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed: the pause before the next try, between half and all of the step. `chance` is any
    /// 64 bits; `asked` is what the other side asks for at least.
    pub(crate) fn failed(&mut self, chance: u64, asked: Option<Duration>) -> Duration {
        let doubled =
            self.first.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(30);
        let step = doubled.min(self.most);
        let half = step / 2;
        let share = u32::try_from(chance % 1000).unwrap_or_default();
        let pause = half + half.saturating_mul(share) / 1000;
        // An absurd wish of the other side does not put the worker to sleep for ever.
        pause.max(asked.unwrap_or_default().min(self.most.saturating_mul(10)))
    }
}

/// 64 random bits; none at all when the system has no randomness, which only loses the jitter.
pub(crate) fn chance() -> u64 {
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_up_to_the_most_and_begin_anew() {
        let mut backoff = Backoff::new(100 * MS, 1000 * MS);
        let pauses: Vec<Duration> = (0..6).map(|_| backoff.failed(0, None)).collect();
        assert_eq!(pauses, [50 * MS, 100 * MS, 200 * MS, 400 * MS, 500 * MS, 500 * MS]);
        backoff.succeeded();
        assert_eq!(backoff.failed(999, None), 50 * MS + 50 * MS * 999 / 1000);
    }

    #[test]
    fn a_wish_of_the_other_side_counts_within_reason() {
        let mut backoff = Backoff::new(MS, 1000 * MS);
        assert_eq!(backoff.failed(0, Some(7000 * MS)), 7000 * MS);
        assert_eq!(backoff.failed(0, Some(Duration::MAX)), 10_000 * MS);
        for _ in 0..100 {
            assert!(backoff.failed(u64::MAX, None) <= 1000 * MS);
        }
    }
}
