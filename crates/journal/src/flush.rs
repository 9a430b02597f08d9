//! Commits as the owner sees them: what goes along, who writes it, what is true afterwards.
//!
//! Lives here: `Journal::flush` and its twin that waits. Not here: writing itself (`commit.rs`) and
//! whether the disk is quick (`pace.rs`). Part of [`Journal`].

use crate::commit::{Batch, Committed, Placed};
use crate::fault::Fault;
use crate::journal::{InFlight, Journal};
use crate::options::Durability;
use crate::places::lock;

impl Journal {
    /// Starts a commit of everything appended, unless one is in flight; call it when a turn ends.
    /// Does nothing in the middle of a group, and waits for a segment when none is ready.
    ///
    /// # Errors
    /// The fault that ended this journal.
    pub fn flush(&mut self) -> Result<(), Fault> {
        self.check()?;
        if self.in_flight.is_some() || self.open.is_in_group() {
            return Ok(());
        }
        self.gather()?;
        self.start_commit()
    }

    /// As [`Journal::flush`], but waits for the disk: what was appended is safe when this returns.
    /// Worth it when nobody has anything else to do meanwhile and [`Journal::is_prompt`]; a commit
    /// that is in flight already is not waited for.
    ///
    /// # Errors
    /// The fault that ended this journal.
    pub fn flush_here(&mut self) -> Result<(), Fault> {
        self.check()?;
        if self.in_flight.is_some() || self.open.is_in_group() {
            return Ok(());
        }
        self.gather()?;
        match self.next_batch() {
            Some(batch) => self.committed(batch.commit()),
            None => Ok(()),
        }
    }

    /// Whether the disk was quick of late, so that the owner may wait for it.
    pub fn is_prompt(&self) -> bool {
        self.pace.is_prompt()
    }

    /// Gives blocks their places for the next commit.
    fn gather(&mut self) -> Result<(), Fault> {
        if self.sealed.is_empty() && (self.open.is_empty() || !self.ring.fits(self.open.extent())) {
            return self.check_room(0);
        }
        self.place_sealed();
        if self.sealed.is_empty() && !self.open.is_empty() && self.ring.fits(self.open.extent()) {
            self.seal();
            self.place_sealed();
        }
        if self.batch.is_empty() { self.check_room(0) } else { Ok(()) }
    }

    /// Gives waiting blocks their places, as far as there are any.
    fn place_sealed(&mut self) {
        while let Some(block) = self.sealed.front() {
            let Some((segment, offset)) = self.ring.place(block.extent()) else { break };
            if let Some(block) = self.sealed.pop_front() {
                self.sealed_bytes = self.sealed_bytes.saturating_sub(block.record_bytes);
                self.batch.push(Placed { block, segment, offset });
            }
        }
    }

    fn next_batch(&mut self) -> Option<Batch> {
        let blocks = std::mem::take(&mut self.batch);
        self.in_flight = InFlight::of(&blocks);
        self.in_flight.map(|_| Batch { blocks, end: self.end })
    }

    pub(crate) fn start_commit(&mut self) -> Result<(), Fault> {
        let Some(batch) = self.next_batch() else { return Ok(()) };
        if let Err(fault) = self.commits.send(batch) {
            return self.poison(fault);
        }
        if self.options.durability == Durability::Memory {
            self.commits.run_pending();
        }
        Ok(())
    }

    /// Takes a commit back: what it wrote is safe now, or all is over.
    pub(crate) fn committed(&mut self, committed: Committed) -> Result<(), Fault> {
        self.in_flight = None;
        if let Err(fault) = committed.result {
            return self.poison(fault);
        }
        let Batch { mut blocks, end } = committed.batch;
        self.end = end;
        self.pace.note(committed.taken);
        {
            let mut places = lock(&self.places);
            for placed in &blocks {
                let range = placed.block.first..placed.block.end();
                places.note(&placed.segment, range, placed.offset);
            }
        }
        self.stats.commits += 1;
        for placed in blocks.drain(..) {
            self.stats.blocks += 1;
            self.stats.record_bytes += placed.block.record_bytes as u64;
            self.stats.written_bytes += placed.block.extent();
            self.durable = placed.block.end();
            self.tail.push(placed.block, &mut self.pool);
        }
        if let Some(taken) = committed.sync {
            self.stats.sync.record(taken);
        }
        self.batch = blocks;
        Ok(())
    }
}
