//! [`Pace`]: whether the disk is quick enough to be waited for.
//!
//! Lives here: what a flush must not have taken. Not here: whether somebody else has work
//! meanwhile; that is the owner's question. `journal.rs` feeds it with every sync.

use std::time::Duration;

use crate::options::Workers;

/// After a slow flush so many quick ones in a row make the disk quick again.
const QUICK_RUN: u32 = 16;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    flush_max: Duration,
    /// Flushes since the last slow one, up to [`QUICK_RUN`].
    quick: u32,
    /// Without threads nothing is measured: simulated disks take no time, and a run must not depend
    /// on how busy the machine is.
    is_measured: bool,
}

impl Pace {
    /// Nothing is known of the disk yet; at first it is not waited for.
    pub(crate) fn new(flush_max: Duration, workers: &Workers) -> Self {
        Self { flush_max, quick: 0, is_measured: matches!(workers, Workers::Threads { .. }) }
    }

    /// A flush took so long.
    pub(crate) fn note(&mut self, taken: Duration) {
        let is_slow = self.is_measured && taken > self.flush_max;
        self.quick = if is_slow { 0 } else { self.quick.saturating_add(1).min(QUICK_RUN) };
    }

    /// Whether no flush was slow for a while.
    pub(crate) fn is_prompt(&self) -> bool {
        !self.flush_max.is_zero() && self.quick == QUICK_RUN
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const MAX: Duration = Duration::from_micros(500);

    fn threads() -> Workers {
        Workers::Threads { wake: Arc::new(|| {}) }
    }

    #[test]
    fn one_slow_flush_ends_it_and_a_run_of_quick_ones_begins_it() {
        let mut pace = Pace::new(MAX, &threads());
        for _ in 0..QUICK_RUN {
            assert!(!pace.is_prompt(), "a disk has to show that it is quick");
            pace.note(MAX);
        }
        assert!(pace.is_prompt());
        pace.note(MAX + Duration::from_nanos(1));
        for _ in 0..QUICK_RUN {
            assert!(!pace.is_prompt());
            pace.note(Duration::ZERO);
        }
        assert!(pace.is_prompt());
    }

    #[test]
    fn zero_is_never_and_without_threads_time_does_not_count() {
        let (mut never, mut timeless) =
            (Pace::new(Duration::ZERO, &threads()), Pace::new(MAX, &Workers::Inline));
        for _ in 0..QUICK_RUN {
            never.note(Duration::ZERO);
            timeless.note(Duration::from_hours(1));
        }
        assert!(!never.is_prompt());
        assert!(timeless.is_prompt());
    }
}
