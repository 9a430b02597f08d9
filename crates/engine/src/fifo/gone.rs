//! Which entries of a line are not there any more although the line has not come to them: runs of
//! numbers, joined, so that what is taken in order, or against it, costs one run.

use std::collections::BTreeMap;

/// Disjoint runs of numbers that do not touch: first number and how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    runs: BTreeMap<u64, u64>,
    total: u64,
}

impl Gone {
    /// Reads runs in rising order, none empty, none touching. `None` when they are not so.
    pub(crate) fn from_runs(list: &[(u64, u64)]) -> Option<Self> {
        let mut gone = Self::default();
        let mut after = None;
        for (first, count) in list {
            let end = first.checked_add(*count).filter(|_| *count > 0)?;
            if after.is_some_and(|after| *first <= after) {
                return None;
            }
            after = Some(end);
            gone.runs.insert(*first, *count);
            gone.total = gone.total.checked_add(*count)?;
        }
        Some(gone)
    }

    /// Marks a number that is not marked.
    pub(crate) fn insert(&mut self, seq: u64) {
        debug_assert!(!self.contains(seq), "an entry goes once");
        self.total += 1;
        let (mut first, mut count) = (seq, 1);
        if let Some(behind) = self.runs.remove(&(seq + 1)) {
            count += behind;
        }
        if let Some((before, length)) = self.runs.range(..seq).next_back()
            && before + length == seq
        {
            (first, count) = (*before, count + length);
        }
        self.runs.insert(first, count);
    }

    /// Takes a mark away.
    pub(crate) fn remove(&mut self, seq: u64) {
        let Some((first, count)) = self.around(seq) else { return };
        self.total -= 1;
        self.runs.remove(&first);
        if first < seq {
            self.runs.insert(first, seq - first);
        }
        if seq + 1 < first + count {
            self.runs.insert(seq + 1, first + count - seq - 1);
        }
    }

    fn around(&self, seq: u64) -> Option<(u64, u64)> {
        let (first, count) = self.runs.range(..=seq).next_back()?;
        (seq < first + count).then_some((*first, *count))
    }

    /// Whether a number is marked.
    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.around(seq).is_some()
    }

    /// Takes the run that begins at `first`; returns its length, or 0.
    pub(crate) fn take_run(&mut self, first: u64) -> u64 {
        let count = self.runs.remove(&first).unwrap_or(0);
        self.total -= count;
        count
    }

    /// How many numbers are marked.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// All runs, rising.
    pub(crate) fn runs(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.runs.iter().map(|(first, count)| (*first, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_run_and_part_again() {
        let mut gone = Gone::default();
        for seq in [5, 3, 9, 4, 8] {
            gone.insert(seq);
        }
        assert_eq!(gone.runs().collect::<Vec<_>>(), [(3, 3), (8, 2)]);
        assert_eq!(gone.total(), 5);
        gone.remove(4);
        assert_eq!(gone.runs().collect::<Vec<_>>(), [(3, 1), (5, 1), (8, 2)]);
        assert!(gone.contains(9) && !gone.contains(4) && !gone.contains(10));
        assert_eq!(gone.take_run(8), 2);
        assert_eq!(gone.take_run(4), 0);
        assert_eq!(gone.total(), 2);
    }

    #[test]
    fn runs_that_touch_or_are_empty_are_refused() {
        assert!(Gone::from_runs(&[(3, 2), (6, 1)]).is_some());
        assert!(Gone::from_runs(&[(3, 2), (5, 1)]).is_none());
        assert!(Gone::from_runs(&[(3, 0)]).is_none());
        assert!(Gone::from_runs(&[(u64::MAX, 1)]).is_none());
    }
}
