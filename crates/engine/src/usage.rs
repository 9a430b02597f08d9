//! How much of the log is still needed: live counters per grain of 1 MiB of log positions. The
//! journal asks before it reuses a segment. Which records exactly: [`crate::Engine::live`].

use std::ops::Range;

use model::Lsn;

use crate::effects::Usage;
use crate::map::Map;

/// Bits of a position below the grain.
const GRAIN_BITS: u32 = 20;

/// References from queues, unsettled deliveries and held messages into the log.
#[derive(Debug, Default)]
pub(crate) struct Grains {
    /// By position >> `GRAIN_BITS`; no entry counts zero references.
    counters: Map<u64, Usage>,
}

impl Grains {
    /// One more reference to a message record of so many bytes.
    pub(crate) fn add(&mut self, lsn: Lsn, bytes: u64) {
        let usage = self.counters.entry(lsn.0 >> GRAIN_BITS).or_default();
        usage.records += 1;
        usage.bytes += bytes;
    }

    /// One reference less.
    pub(crate) fn remove(&mut self, lsn: Lsn, bytes: u64) {
        let grain = lsn.0 >> GRAIN_BITS;
        let Some(usage) = self.counters.get_mut(&grain) else {
            debug_assert!(false, "a reference to {lsn} is removed that was never added");
            return;
        };
        usage.records = usage.records.saturating_sub(1);
        usage.bytes = usage.bytes.saturating_sub(bytes);
        if usage.records == 0 {
            self.counters.remove(&grain);
        }
    }

    /// Sums the grains that overlap the range.
    pub(crate) fn sum(&self, range: &Range<Lsn>) -> Usage {
        if range.is_empty() {
            return Usage::default();
        }
        let grains = (range.start.0 >> GRAIN_BITS)..=((range.end.0 - 1) >> GRAIN_BITS);
        let mut sum = Usage::default();
        let mut count = |usage: &Usage| {
            sum.records += usage.records;
            sum.bytes += usage.bytes;
        };
        if grains.end() - grains.start() < self.counters.len() as u64 {
            grains.filter_map(|grain| self.counters.get(&grain)).for_each(&mut count);
        } else {
            let inside = self.counters.iter().filter(|(grain, _)| grains.contains(grain));
            inside.for_each(|(_, usage)| count(usage));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_overlaps_and_forgets_what_is_gone() {
        let mut grains = Grains::default();
        grains.add(Lsn(5), 100);
        grains.add(Lsn(6), 100);
        grains.add(Lsn(3 << 20), 50);
        let all = Lsn::ZERO..Lsn(u64::MAX);
        assert_eq!(grains.sum(&all), Usage { records: 3, bytes: 250 });
        assert_eq!(grains.sum(&(Lsn(1 << 20)..Lsn(3 << 20))), Usage::default());
        assert_eq!(grains.sum(&(Lsn(1 << 20)..Lsn((3 << 20) + 1))).records, 1);
        grains.remove(Lsn(5), 100);
        grains.remove(Lsn(6), 100);
        assert_eq!(grains.sum(&(Lsn(0)..Lsn(1))), Usage::default());
        assert_eq!(grains.counters.len(), 1);
    }
}
