//! The record types of the public interface: what goes in, what comes out.
//!
//! Lives here: plain data. Not here: the bytes on disk (`layout.rs`). The owner builds
//! [`Record`]s and reads [`RecordRef`]s, [`Records`] and [`Replayed`]s.

use std::ops::Range;

use model::Lsn;

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The owner's; the journal only keeps it.
    pub kind: u8,
    /// The next record belongs to the same group: both are there after a crash, or neither.
    pub more: bool,
    /// The payload, in pieces that are copied one after the other.
    pub parts: &'a [&'a [u8]],
}

/// A record in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its position.
    pub lsn: Lsn,
    /// As appended.
    pub kind: u8,
    /// As appended.
    pub payload: &'a [u8],
}

/// A record met while the log is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed<'a> {
    /// Its position.
    pub lsn: Lsn,
    /// As appended.
    pub kind: u8,
    /// As appended: the group goes on.
    pub more: bool,
    /// As appended.
    pub payload: &'a [u8],
}

/// The answer to a fetch: one buffer and where the records are in it, in the order asked for.
#[derive(Debug, Default)]
pub struct Records {
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) lsn: Lsn,
    /// `None`: not in the log any more.
    pub(crate) found: Option<(u8, Range<usize>)>,
}

impl Records {
    /// How many positions were answered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The answered position with this index, as [`Records::iter`] shows it.
    pub fn get(&self, index: usize) -> Option<(Lsn, Option<RecordRef<'_>>)> {
        let entry = self.entries.get(index)?;
        Some((entry.lsn, self.record(entry)))
    }

    fn record(&self, entry: &Entry) -> Option<RecordRef<'_>> {
        let (kind, range) = entry.found.clone()?;
        let payload = self.bytes.get(range)?;
        Some(RecordRef { lsn: entry.lsn, kind, payload })
    }

    /// Each answered position with its record; `None` when the record is gone, which happens to
    /// those that [`crate::Liveness`] no longer named.
    pub fn iter(&self) -> impl Iterator<Item = (Lsn, Option<RecordRef<'_>>)> {
        self.entries.iter().map(|entry| (entry.lsn, self.record(entry)))
    }
}
