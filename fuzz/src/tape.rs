//! [`Tape`]: a log in memory, for the targets that drive the engine. Nothing about files.

use std::collections::BTreeMap;

use model::{Log, Lsn, Record};

/// Everything that was appended.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    /// Position, kind, "the next one belongs to the same group", payload.
    pub(crate) records: Vec<(Lsn, u8, bool, Vec<u8>)>,
    by_lsn: BTreeMap<Lsn, usize>,
    next: Lsn,
}

impl Tape {
    /// The payload at a position; panics when there is none: nobody may ask for such a thing.
    pub(crate) fn payload(&self, lsn: Lsn) -> &[u8] {
        &self.records[self.by_lsn[&lsn]].3
    }

    /// The payload at a position, if there is one.
    pub(crate) fn get(&self, lsn: Lsn) -> Option<&[u8]> {
        self.by_lsn.get(&lsn).map(|at| &self.records[*at].3[..])
    }

    /// Forgets what stands behind the first `keep` records and the group that was cut; returns how
    /// many records that were.
    pub(crate) fn truncate(&mut self, keep: usize) -> usize {
        let before = self.records.len();
        self.records.truncate(keep);
        while self.is_in_group() {
            self.records.pop();
        }
        let kept = self.records.len();
        self.by_lsn.retain(|_, at| *at < kept);
        self.next = self
            .records
            .last()
            .map_or(Lsn::ZERO, |(lsn, _, _, payload)| lsn.plus(10 + payload.len() as u64));
        before - kept
    }

    /// Whether a group was left open.
    pub(crate) fn is_in_group(&self) -> bool {
        self.records.last().is_some_and(|record| record.2)
    }
}

impl Log for Tape {
    fn next_lsn(&self) -> Lsn {
        self.next
    }

    fn append(&mut self, record: Record<'_>) -> Lsn {
        let lsn = self.next;
        let payload = record.parts.concat();
        self.next = lsn.plus(10 + payload.len() as u64);
        self.by_lsn.insert(lsn, self.records.len());
        self.records.push((lsn, record.kind, record.has_more, payload));
        lsn
    }
}
