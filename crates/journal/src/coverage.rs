//! Whether every record that is still needed has a file that answers for it.
//!
//! Lives here: the comparison of the owner's needs with the files, once, when a log was recovered.
//! Not here: whether what is in the files verifies (that is seen when it is read, or by
//! `survey.rs`). The owner calls it after replaying.
//!
//! No file names the survivor files: which of them must be there follows from what is needed. A
//! removed file that held nothing of use is no loss and no fault.

use std::ops::Range;

use model::Lsn;

use crate::fault::Fault;
use crate::journal::Journal;
use crate::options::Durability;
use crate::places::{Places, lock};
use crate::upkeep::Liveness;

impl Journal {
    /// Makes sure that no needed record lies where no file answers for it. Cheap: asks about the
    /// gaps between files only.
    ///
    /// # Errors
    /// [`Fault::Damaged`] with the first missing position: somebody removed a file.
    pub fn check_needed(&self, live: &dyn Liveness) -> Result<(), Fault> {
        if self.options.durability == Durability::Memory {
            return Ok(());
        }
        let mut needed = Vec::new();
        for gap in gaps(&lock(&self.places), self.next_lsn()) {
            if live.usage(gap.clone()).records == 0 {
                continue;
            }
            needed.clear();
            live.live(gap, &mut needed);
            if let Some(first) = needed.first() {
                return Err(Fault::Damaged {
                    file: self.dir.dir.clone(),
                    offset: 0,
                    last_good: *first,
                    detail: "a file with records that are still needed is missing",
                });
            }
        }
        Ok(())
    }
}

/// Stretches below `end` that neither the ring nor a survivor file answers for.
fn gaps(places: &Places, end: Lsn) -> Vec<Range<Lsn>> {
    let mut gaps = Vec::new();
    let mut next = Lsn::ZERO;
    let ring = places.ring_start().unwrap_or(end);
    for survivor in places.survivors() {
        if survivor.range.start > next {
            gaps.push(next..survivor.range.start.min(ring));
        }
        next = next.max(survivor.range.end);
    }
    if next < ring {
        gaps.push(next..ring);
    }
    gaps
}
