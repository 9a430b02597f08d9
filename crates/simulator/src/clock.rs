//! [`Clock`]: the wall clock that the server reads: it drifts and jumps, as the plan wants it.
//! Virtual time itself only ever moves forward and is the world's.

use model::Millis;

use crate::fact::Micros;

/// What the wall clock shows when a run begins.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// The wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// How far it was set away from true time.
    offset_ms: i64,
    /// Too fast (or slow) by so many millionths.
    drift_ppm: i64,
    /// The latest time it has ever shown to the server.
    latest: u64,
}

impl Clock {
    pub(crate) fn new(drift_ppm: i64) -> Self {
        Self { offset_ms: 0, drift_ppm, latest: 0 }
    }

    /// What it shows.
    pub(crate) fn show(&mut self, now: Micros) -> Millis {
        let since = i64::try_from(now / 1_000).unwrap_or(0);
        let drift = since.saturating_mul(self.drift_ppm) / 1_000_000;
        let shown = BEGIN_MS + since + drift + self.offset_ms;
        let shown = u64::try_from(shown).unwrap_or(0);
        self.latest = self.latest.max(shown);
        Millis(shown)
    }

    /// The latest time that can have been stamped onto anything.
    pub(crate) const fn latest(&self) -> u64 {
        self.latest
    }

    /// Somebody sets it.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.offset_ms = self.offset_ms.saturating_add(by_ms);
    }

    /// Somebody sets it right, never below what it has shown.
    pub(crate) fn mend(&mut self, now: Micros) {
        self.offset_ms = self.offset_ms.max(0);
        let shown = self.show(now).0;
        let behind = self.latest.saturating_sub(shown);
        self.offset_ms = self.offset_ms.saturating_add(i64::try_from(behind).unwrap_or(0));
    }
}
