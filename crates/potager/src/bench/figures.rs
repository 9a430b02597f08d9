//! Counters and latency records that the load threads write and the report reads.
//! Not here: how they are printed (`report`).

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that is told apart from a longer one.
const LATENCY_MAX: Duration = Duration::from_mins(2);

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Load flows, nothing is recorded.
    WarmUp = 0,
    /// Load flows and is recorded.
    Measure = 1,
    /// Threads finish what is under way and end.
    Stop = 2,
}

/// What the threads of one run share. Each thread writes once per read or write, not per message.
pub(super) struct Shared {
    began: Instant,
    phase: AtomicU8,
    pub(super) published: AtomicU64,
    pub(super) confirmed: AtomicU64,
    pub(super) consumed: AtomicU64,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            phase: AtomicU8::new(0),
            published: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
        }
    }

    /// Nanoseconds since the run began: the clock of all stamps.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measure,
            _ => Phase::Stop,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Published, confirmed, consumed so far.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            published: self.published.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
            consumed: self.consumed.load(Ordering::Relaxed),
        }
    }
}

/// The counters at one moment, or the difference of two.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) consumed: u64,
}

impl Counts {
    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            published: self.published - before.published,
            confirmed: self.confirmed - before.confirmed,
            consumed: self.consumed - before.consumed,
        }
    }
}

/// Latencies in nanoseconds.
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> anyhow::Result<Self> {
        let highest = u64::try_from(LATENCY_MAX.as_nanos())?;
        Ok(Self(Histogram::new_with_bounds(1, highest, 3)?))
    }

    pub(super) fn record(&mut self, took_ns: u64, times: u64) {
        let highest = self.0.high();
        // Cannot fail: the value is within the bounds.
        self.0.record_n(took_ns.clamp(1, highest), times).ok();
    }

    pub(super) fn add(&mut self, other: &Self) {
        // Cannot fail: all have the same bounds.
        self.0.add(&other.0).ok();
    }

    /// The summary in microseconds; `None` when nothing was recorded.
    pub(super) fn summary(&self) -> Option<Percentiles> {
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(self.0.max()),
        })
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// Nanoseconds as microseconds.
pub(super) fn micros(ns: u64) -> f64 {
    float(ns) / 1e3
}

/// A count as a number to divide.
#[expect(clippy::cast_precision_loss, reason = "figures for people need no 53rd bit")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_summed_up_in_microseconds() {
        let mut latencies = Latencies::new().unwrap();
        assert!(latencies.summary().is_none());
        latencies.record(100_000, 98);
        latencies.record(2_000_000, 1);
        let mut other = Latencies::new().unwrap();
        other.record(u64::MAX, 1);
        latencies.add(&other);
        let summary = latencies.summary().unwrap();
        assert!((summary.p50 - 100.0).abs() < 0.2, "{summary:?}");
        assert!((summary.p99 - 2000.0).abs() < 4.0, "{summary:?}");
        assert!(summary.max > 119e6, "{summary:?}");
    }
}
