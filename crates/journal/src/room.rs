//! How much room the log has left, and what that means for who wants to add to it.
//!
//! Lives here: [`Room`] and the limits behind it. Not here: the places of single blocks
//! (`ring.rs`), free space of the disk (`space.rs`), making room (`upkeep.rs`). Crate `replica`
//! asks before it accepts work.
//!
//! What waits for a place is counted with the place that it will take: whole pages, and the ends of
//! segments into which no block fits. Counted by its bytes, a ring of small segments was full long
//! before it seemed so.

use crate::block::Block;
use crate::fault::Fault;
use crate::journal::Journal;
use crate::layout::{BLOCK_HEAD, pages};
use crate::ring::Left;

/// Publishes wait when less than this has a place without background work.
const ROOM_MARGIN: u64 = 1024 * 1024;

/// Whether publishes may be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes.
    Free,
    /// Not now: background work lags. Stop reading from publishers, it clears by itself.
    Wait,
    /// Refuse them: disk space is short. Everything else is still accepted.
    Full,
}

impl Journal {
    /// Whether publishes may be accepted.
    pub fn room(&self) -> Room {
        if self.upkeep.space.is_short() {
            return Room::Full;
        }
        let margin = self.options.block_bytes_max().min(ROOM_MARGIN);
        let is_free = |left: Left| left.ever >= self.ring.reserve() && left.now >= margin;
        if self.left(0).is_some_and(is_free) { Room::Free } else { Room::Wait }
    }

    /// Whether even single publishes must be refused: behind `added` bytes more so little is left
    /// that soon there would be no place for acknowledgements. Holding publishers back at
    /// [`Room::Full`] is not enough, for new ones come, each with what it sent before it could be
    /// told.
    pub fn is_tight(&self, added: u64) -> bool {
        let reserve = self.ring.reserve();
        self.left(added).is_none_or(|left| {
            if self.upkeep.space.is_short() {
                left.ever.min(left.now) < reserve / 2
            } else {
                left.ever < reserve / 8
            }
        })
    }

    /// What is left behind all that waits and `added` bytes more; `None` when not all of it has a
    /// place.
    fn left(&self, added: u64) -> Option<Left> {
        let open = Some(&self.open).filter(|open| !open.is_empty());
        let waiting = self.sealed.iter().chain(open).map(Block::extent);
        // What is larger than a segment is no single record; any cut of it will do.
        let room = self.ring.segment_room;
        let wholes = added / room;
        let rest = Some(added % room).filter(|rest| *rest > 0);
        let rest = rest.map(|rest| pages(BLOCK_HEAD as u64 + rest).min(room));
        let wholes = (0..wholes).map(|_| room);
        self.ring.left_behind(waiting.chain(wholes).chain(rest))
    }

    /// Ends the journal when what waits, and `added` bytes more, can never get a place.
    pub(crate) fn check_room(&mut self, added: u64) -> Result<(), Fault> {
        if self.left(added).is_none() {
            return self.poison(Fault::Exhausted { dir: self.dir.dir.clone() });
        }
        Ok(())
    }
}
