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

/// Room in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Without any background work.
    pub(crate) now: u64,
    /// Before a segment has to be retired.
    pub(crate) ever: u64,
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

    /// What is left once blocks of these extents have their places, one behind the other. A block
    /// is never split, so the end of a segment may stay empty. `None`: not all of them have one.
    pub(crate) fn left_behind(&self, waiting: impl Iterator<Item = u64>) -> Option<Left> {
        let others = self.segments_max.saturating_sub(self.full.len() + 1);
        let (mut left, mut opened) = (self.left_in_active(), 0);
        for extent in waiting {
            if extent > left {
                opened += 1;
                left = self.segment_room;
            }
            left = left.checked_sub(extent)?;
        }
        let ever = left + others.checked_sub(opened)? as u64 * self.segment_room;
        let ready = self.ready.len().checked_sub(opened);
        let now = ready.map_or(0, |ready| left + ready as u64 * self.segment_room);
        Some(Left { now, ever })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FaultyDisk;
    use crate::files::Directory;

    const ROOM: u64 = 10;

    /// Of five segments one is full, one begun, one ready.
    fn ring() -> Ring {
        let dir = Directory { disk: Arc::new(FaultyDisk::new()), dir: "/data".into() };
        let segment = |sequence| {
            let handle = dir.create(&format!("log-{sequence}")).expect("a handle");
            Arc::new(Segment::new(handle, sequence, 0, ROOM))
        };
        Ring {
            full: VecDeque::from([segment(1)]),
            active: segment(2),
            used: 6,
            ready: VecDeque::from([segment(3)]),
            spent: VecDeque::new(),
            segments_max: 5,
            segment_room: ROOM,
        }
    }

    #[test]
    fn room_is_counted_behind_what_waits_and_what_no_block_fills_is_lost() {
        let left = |waiting: &[u64]| ring().left_behind(waiting.iter().copied());
        assert_eq!(left(&[]), Some(Left { now: 14, ever: 34 }));
        assert_eq!(left(&[4]), Some(Left { now: 10, ever: 30 }));
        assert_eq!(left(&[5]), Some(Left { now: 5, ever: 25 }), "four are lost");
        assert_eq!(left(&[5, 6]), Some(Left { now: 0, ever: 14 }), "nine are lost");
        assert_eq!(left(&[4, 10, 10, 10]), Some(Left { now: 0, ever: 0 }));
        assert_eq!(left(&[5, 10, 10, 10]), None, "34 in sum, but they do not fit");
        assert_eq!(left(&[11]), None);
    }
}
