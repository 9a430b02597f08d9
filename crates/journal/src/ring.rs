//! [`Ring`]: the segments in use and in waiting, as the main thread sees them.
//!
//! Lives here: where the next block goes, how much room there is. Not here: making segments
//! (`segment.rs`) and deciding when (`upkeep.rs`). `journal.rs` owns it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::segment::Segment;

/// See the module's head. Sequence numbers rise by one from `full` over `active` to `ready`.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Written to the end, oldest first.
    pub(crate) full: VecDeque<Arc<Segment>>,
    /// Where blocks go now.
    pub(crate) active: Arc<Segment>,
    /// Next free byte in it.
    pub(crate) used: u64,
    /// Prepared for use, in order.
    pub(crate) ready: VecDeque<Arc<Segment>>,
    /// Retired, waiting to be prepared again.
    pub(crate) spent: VecDeque<Arc<Segment>>,
    pub(crate) segments_max: usize,
    /// Bytes a segment has for blocks.
    pub(crate) segment_room: u64,
}

/// Segments that only records other than publishes may use.
const RESERVE: u64 = 2;

impl Ring {
    /// Segment files on disk.
    pub(crate) fn total(&self) -> usize {
        self.full.len() + 1 + self.ready.len() + self.spent.len()
    }

    fn left_in_active(&self) -> u64 {
        self.active.bytes.saturating_sub(self.used)
    }

    /// Room that needs no background work.
    pub(crate) fn room_now(&self) -> u64 {
        self.left_in_active() + self.ready.len() as u64 * self.segment_room
    }

    /// Room before a segment has to be retired.
    pub(crate) fn room_ever(&self) -> u64 {
        let others = self.segments_max.saturating_sub(self.full.len() + 1);
        self.left_in_active() + others as u64 * self.segment_room
    }

    /// Room that publishes may not touch.
    pub(crate) fn reserve(&self) -> u64 {
        RESERVE * self.segment_room
    }

    /// Whether a block of this extent has a place now.
    pub(crate) fn fits(&self, extent: u64) -> bool {
        extent <= self.left_in_active() || !self.ready.is_empty()
    }

    /// Whether this fits without opening another segment.
    pub(crate) fn fits_active(&self, extent: u64) -> bool {
        extent <= self.left_in_active()
    }

    /// Assigns the next place; `None` while no segment is ready.
    pub(crate) fn place(&mut self, extent: u64) -> Option<(Arc<Segment>, u64)> {
        if extent > self.left_in_active() {
            let next = self.ready.pop_front()?;
            let full = std::mem::replace(&mut self.active, next);
            self.full.push_back(full);
            self.used = crate::layout::PAGE as u64;
        }
        let offset = self.used;
        self.used += extent;
        Some((Arc::clone(&self.active), offset))
    }

    /// The number the next prepared segment gets.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.ready.back().unwrap_or(&self.active).sequence + 1
    }
}
