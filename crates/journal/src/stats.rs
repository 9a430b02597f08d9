//! [`Stats`]: what the journal counts, for metrics and the console.
//!
//! Lives here: plain counters and a histogram. Not here: names of metrics (the door's). The owner
//! calls `Journal::stats`.

use std::time::Duration;

use model::Lsn;

/// Buckets of a [`Latency`]; the last one is everything longer.
pub const LATENCY_BUCKETS: usize = 24;

/// A histogram over powers of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// `buckets[i]` counts durations below 2^i microseconds that are in no earlier bucket.
    pub buckets: [u64; LATENCY_BUCKETS],
    /// How many there were.
    pub count: u64,
    /// Their sum in microseconds.
    pub total_us: u64,
}

impl Latency {
    pub(crate) fn record(&mut self, taken: Duration) {
        let micros = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        let bits = usize::try_from(u64::BITS - micros.leading_zeros()).unwrap_or(0);
        if let Some(bucket) = self.buckets.get_mut(bits.min(LATENCY_BUCKETS - 1)) {
            *bucket += 1;
        }
        self.count += 1;
        self.total_us = self.total_us.saturating_add(micros);
    }

    /// An upper bound, in microseconds, of what this share (0..=1000 thousandths) of all
    /// durations stayed below; 0 without any.
    pub fn quantile_us(&self, thousandths: u64) -> u64 {
        let wanted = self.count.saturating_mul(thousandths).div_ceil(1000);
        let mut seen = 0;
        for (power, bucket) in self.buckets.iter().enumerate() {
            seen += bucket;
            if seen >= wanted && seen > 0 {
                return 1 << power;
            }
        }
        0
    }
}

/// A snapshot of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks committed since open.
    pub blocks: u64,
    /// Record bytes committed since open.
    pub record_bytes: u64,
    /// Bytes written to the ring since open, heads and padding included.
    pub written_bytes: u64,
    /// Commits, each with its syncs.
    pub commits: u64,
    /// How long the final sync of a commit took.
    pub sync: Latency,
    /// Segment files.
    pub segments: u64,
    /// Segments prepared for use.
    pub segments_ready: u64,
    /// Survivor files.
    pub survivor_files: u64,
    /// Their bytes on disk.
    pub survivor_bytes: u64,
    /// Position of the newest durable checkpoint.
    pub checkpoint: Lsn,
    /// Its bytes on disk.
    pub checkpoint_bytes: u64,
    /// Memory held by the tail cache.
    pub cache_bytes: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// Free bytes when last looked.
    pub free_bytes: u64,
    /// Records read for fetches.
    pub fetched: u64,
    /// Survivor files rewritten to drop dead records.
    pub compactions: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile_us(500), 0);
        for micros in 1..=1000 {
            latency.record(Duration::from_micros(micros));
        }
        assert_eq!((latency.count, latency.total_us), (1000, 500_500));
        assert_eq!(latency.quantile_us(500), 512);
        assert_eq!(latency.quantile_us(1000), 1024);
        latency.record(Duration::from_secs(5000));
        assert_eq!(latency.buckets[LATENCY_BUCKETS - 1], 1);
    }
}
