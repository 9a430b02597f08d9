//! Results by key, of one virtual host: which record is the last one under a name, in order of keys
//! and of revisions, and what was forgotten since. The results themselves are in the log. What is
//! asked about them is `result/ask.rs`, the layouts are `result/record.rs`.
//!
//! All is durable but who waits for a change.

mod ask;
mod record;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, Range};

use bytes::Bytes;
use model::Lsn;

use crate::channel::Asker;
use crate::fifo::NEVER;
pub(crate) use ask::Storing;
pub(crate) use record::{GoneHead, ResultHead, result_of};

/// Most deletions that are remembered; readers of changes who come later hear of a gap.
const GONE_MAX: usize = 100_000;

/// A result that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its record, and so its revision.
    pub lsn: Lsn,
    /// Bytes of the record.
    pub bytes: u32,
    /// When it was stored, ms since 1970.
    pub at: u64,
    /// When it is forgotten, ms since 1970; [`NEVER`] when it is not.
    pub expires: u64,
}

/// What may follow a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A result was stored.
    Kept(Bytes, Kept),
    /// One is gone.
    Gone(Bytes),
}

/// Somebody waits for a change.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub asker: Asker,
    pub prefix: Bytes,
    pub after: Lsn,
}

/// The results of a virtual host.
#[derive(Debug, Default)]
pub(crate) struct Results {
    by_key: BTreeMap<Bytes, Kept>,
    /// Keys by the revisions of what is there.
    by_revision: BTreeMap<Lsn, Bytes>,
    /// Times at which something is forgotten.
    expiring: BTreeSet<(u64, Lsn)>,
    /// Keys by the revisions at which they ended.
    gone: BTreeMap<Lsn, Bytes>,
    /// Deletions up to here are not remembered any more.
    gap: Lsn,
    /// The last revision.
    pub last: Lsn,
    /// Volatile.
    pub waiters: VecDeque<Waiter>,
}

impl Results {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Kept> {
        self.by_key.get(key).copied()
    }

    /// Puts a result in its place; returns the one that stood there.
    pub(crate) fn put(&mut self, key: Bytes, kept: Kept) -> Option<Kept> {
        let before = self.by_key.insert(key.clone(), kept);
        if let Some(before) = before {
            self.unlist(before);
        }
        if kept.expires != NEVER {
            self.expiring.insert((kept.expires, kept.lsn));
        }
        self.by_revision.insert(kept.lsn, key);
        self.note(kept.lsn);
        before
    }

    /// Forgets a result, at a revision of its own.
    pub(crate) fn remove(&mut self, key: &[u8], revision: Lsn) -> Option<Kept> {
        let (key, kept) = self.by_key.remove_entry(key)?;
        self.unlist(kept);
        self.put_gone(revision, key);
        self.note(revision);
        Some(kept)
    }

    fn unlist(&mut self, kept: Kept) {
        self.by_revision.remove(&kept.lsn);
        self.expiring.remove(&(kept.expires, kept.lsn));
    }

    fn note(&mut self, revision: Lsn) {
        self.last = self.last.max(revision);
    }

    /// Remembers that a key ended.
    pub(crate) fn put_gone(&mut self, revision: Lsn, key: Bytes) {
        self.gone.insert(revision, key);
        while self.gone.len() > GONE_MAX {
            if let Some((revision, _)) = self.gone.pop_first() {
                self.gap = self.gap.max(revision);
            }
        }
    }

    /// Deletions up to here are not remembered.
    pub(crate) const fn gap(&self) -> Lsn {
        self.gap
    }

    /// As it was (from a snapshot).
    pub(crate) fn set_ends(&mut self, last: Lsn, gap: Lsn) {
        (self.last, self.gap) = (last, gap);
    }

    /// When the next one is to be forgotten, ms since 1970.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.expiring.first().map(|(time, _)| *time)
    }

    /// The key of the next one whose time is over.
    pub(crate) fn expired(&self, now: u64) -> Option<Bytes> {
        let (_, lsn) = self.expiring.first().filter(|(time, _)| *time <= now)?;
        self.by_revision.get(lsn).cloned()
    }

    /// Results whose keys begin so, behind a key, in order of keys.
    pub(crate) fn list<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, Kept)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let found = self.by_key.range::<[u8], _>((start, Bound::Unbounded));
        let found = found.take_while(move |(key, _)| key.starts_with(prefix));
        found.map(|(key, kept)| (key, *kept))
    }

    /// What changed behind a revision, in order.
    pub(crate) fn changes(&self, after: Lsn) -> impl Iterator<Item = (Lsn, Change)> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let mut kept = self.by_revision.range(behind).peekable();
        let mut gone = self.gone.range(behind).peekable();
        std::iter::from_fn(move || {
            let is_kept = match (kept.peek(), gone.peek()) {
                (Some((one, _)), Some((other, _))) => one < other,
                (one, _) => one.is_some(),
            };
            let (revision, key) = if is_kept { kept.next()? } else { gone.next()? };
            let key = key.clone();
            let change = if is_kept {
                Change::Kept(key.clone(), self.get(&key)?)
            } else {
                Change::Gone(key)
            };
            Some((*revision, change))
        })
    }

    /// All that are there, by key.
    pub(crate) fn all(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Kept)> {
        self.by_key.iter()
    }

    /// All deletions that are remembered, by revision.
    pub(crate) fn all_gone(&self) -> impl ExactSizeIterator<Item = (&Lsn, &Bytes)> {
        self.gone.iter()
    }

    /// Positions of the records inside `range`.
    pub(crate) fn positions(&self, range: &Range<Lsn>) -> impl Iterator<Item = Lsn> {
        self.by_revision.range(range.clone()).map(|(lsn, _)| *lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(lsn: u64) -> Kept {
        Kept { lsn: Lsn(lsn), bytes: 10, at: 0, expires: NEVER }
    }

    fn revisions(results: &Results, after: u64) -> Vec<(u64, &'static str)> {
        let changes = results.changes(Lsn(after));
        let named = changes.map(|(lsn, change)| match change {
            Change::Kept(..) => (lsn.0, "kept"),
            Change::Gone(_) => (lsn.0, "gone"),
        });
        named.collect()
    }

    #[test]
    fn of_several_changes_of_a_key_the_last_is_there() {
        let mut results = Results::default();
        results.put("a".into(), kept(1));
        results.put("b".into(), kept(2));
        assert_eq!(results.put("a".into(), kept(3)).map(|old| old.lsn), Some(Lsn(1)));
        assert_eq!(revisions(&results, 0), [(2, "kept"), (3, "kept")]);
        results.remove(b"b", Lsn(4));
        assert_eq!(revisions(&results, 2), [(3, "kept"), (4, "gone")]);
        assert_eq!((results.len(), results.last), (1, Lsn(4)));
    }

    #[test]
    fn keys_are_listed_by_prefix_behind_a_key() {
        let mut results = Results::default();
        for (at, key) in ["a", "b/1", "b/2", "b/3", "c"].into_iter().enumerate() {
            results.put(key.into(), kept(at as u64 + 1));
        }
        let keys = |prefix: &'static [u8], after: Option<&'static [u8]>| {
            let list = results.list(prefix, after).map(|(key, _)| key.clone());
            list.collect::<Vec<_>>()
        };
        assert_eq!(keys(b"b/", None), ["b/1", "b/2", "b/3"]);
        assert_eq!(keys(b"b/", Some(b"b/2")), ["b/3"]);
        assert_eq!(keys(b"b/", Some(b"a")), ["b/1", "b/2", "b/3"]);
        assert_eq!(keys(b"", Some(b"b/3")), ["c"]);
    }
}
