//! [`Places`]: from a position to the file that holds its record.
//!
//! Lives here: the block table of the ring (8 bytes per block) and the list of survivor files.
//! Not here: reading (`reader.rs`). Shared behind a mutex: the main thread adds committed blocks,
//! the background worker looks up and moves; both hold it for an instant only.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::Lsn;

use crate::layout::{BLOCK_HEAD, PAGE, pages};
use crate::segment::Segment;
use crate::survivor::Survivor;

/// The shared form.
pub(crate) type SharedPlaces = Arc<Mutex<Places>>;

/// Locks; a panic elsewhere cannot leave the table half changed, so it stays usable.
pub(crate) fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Oldest first; all positions here are above those of the survivors.
    segments: VecDeque<Blocks>,
    /// By position; ranges are disjoint.
    survivors: Vec<Arc<Survivor>>,
}

/// The blocks of one segment.
#[derive(Debug)]
struct Blocks {
    segment: Arc<Segment>,
    first: Lsn,
    end: Lsn,
    /// Position after `first`, and the block's offset in pages; in order.
    table: Vec<(u32, u32)>,
}

/// Where a record is.
#[derive(Debug)]
pub(crate) enum Place {
    /// At this offset of a ring segment.
    Ring(Arc<Segment>, u64),
    /// Somewhere in this range of a survivor file, if at all.
    Survivor(Arc<Survivor>, Range<u64>),
}

impl Places {
    /// Adds a committed block.
    pub(crate) fn note(&mut self, segment: &Arc<Segment>, block: Range<Lsn>, offset: u64) {
        if block.is_empty() {
            return;
        }
        let is_same =
            self.segments.back().is_some_and(|last| last.segment.sequence == segment.sequence);
        if !is_same {
            self.segments.push_back(Blocks {
                segment: Arc::clone(segment),
                first: block.start,
                end: block.start,
                table: Vec::new(),
            });
        }
        let bytes = block.end.0.saturating_sub(block.start.0);
        segment.reaches(offset.saturating_add(pages(BLOCK_HEAD as u64 + bytes)));
        let Some(blocks) = self.segments.back_mut() else { return };
        let after = block.start.0.saturating_sub(blocks.first.0);
        let page = offset / PAGE as u64;
        let entry = (u32::try_from(after), u32::try_from(page));
        if let (Ok(after), Ok(page)) = entry {
            blocks.table.push((after, page));
            blocks.end = block.end;
        }
    }

    pub(crate) fn find(&self, lsn: Lsn) -> Option<Place> {
        if self.segments.front().is_some_and(|blocks| lsn >= blocks.first) {
            self.find_in_ring(lsn)
        } else {
            self.find_survivor(lsn)
        }
    }

    fn find_in_ring(&self, lsn: Lsn) -> Option<Place> {
        let after = self.segments.partition_point(|blocks| blocks.first <= lsn);
        let blocks = self.segments.get(after.checked_sub(1)?)?;
        if lsn >= blocks.end {
            return None;
        }
        let within = lsn.0 - blocks.first.0;
        let after = blocks.table.partition_point(|(start, _)| u64::from(*start) <= within);
        let (start, page) = blocks.table.get(after.checked_sub(1)?)?;
        let offset = u64::from(*page) * PAGE as u64 + BLOCK_HEAD as u64;
        Some(Place::Ring(Arc::clone(&blocks.segment), offset + (within - u64::from(*start))))
    }

    fn find_survivor(&self, lsn: Lsn) -> Option<Place> {
        let after = self.survivors.partition_point(|survivor| survivor.range.start <= lsn);
        let survivor = self.survivors.get(after.checked_sub(1)?)?;
        let range = survivor.lookup(lsn)?;
        Some(Place::Survivor(Arc::clone(survivor), range))
    }

    /// The positions a ring segment holds.
    pub(crate) fn range_of(&self, sequence: u64) -> Option<Range<Lsn>> {
        let blocks = self.segments.iter().find(|blocks| blocks.segment.sequence == sequence)?;
        Some(blocks.first..blocks.end)
    }

    /// Takes the oldest segment out, in the same breath as its survivors come in.
    pub(crate) fn retire(&mut self, sequence: u64, survivor: Option<Arc<Survivor>>) {
        self.segments.retain(|blocks| blocks.segment.sequence != sequence);
        self.survivors.extend(survivor);
        self.survivors.sort_by_key(|survivor| survivor.range.start);
    }

    /// Puts one file (or none) in the place of several.
    pub(crate) fn replace(&mut self, old: &[Arc<Survivor>], new: Option<Arc<Survivor>>) {
        let is_old = |one: &Survivor| old.iter().any(|other| other.generation == one.generation);
        self.survivors.retain(|survivor| !is_old(survivor));
        self.survivors.extend(new);
        self.survivors.sort_by_key(|survivor| survivor.range.start);
    }

    pub(crate) fn survivors(&self) -> &[Arc<Survivor>] {
        &self.survivors
    }

    /// Whether one survivor file stands for all of the range. A power cut can undo the removal of a
    /// segment whose survivors were merged with others since; a second file of them would overlap.
    pub(crate) fn is_survived(&self, range: &Range<Lsn>) -> bool {
        let covers = |own: &Range<Lsn>| own.start <= range.start && range.end <= own.end;
        self.survivors.iter().any(|survivor| covers(&survivor.range))
    }

    /// First position that is in the ring.
    pub(crate) fn ring_start(&self) -> Option<Lsn> {
        self.segments.front().map(|blocks| blocks.first)
    }
}
