//! [`Batch`]: blocks on their way to the disk, and the only code that writes to the ring.
//!
//! Lives here: sealing, writing, one sync for everything that waited. Not here: which segment a
//! block goes to (`ring.rs`, decided before the hand-over). Runs on the commit thread, or where the
//! owner stands when it waits itself (`Journal::flush_here`); never in both places at a time,
//! because what the chain continues travels with the batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Lsn;

use crate::block::{Block, Chain};
use crate::fault::Fault;
use crate::options::Durability;
use crate::segment::Segment;
use crate::worker::{Port, Work};

/// A block and where it goes.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) block: Block,
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
}

/// What the next block continues. It is with the batch while one is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) durability: Durability,
    pub(crate) incarnation: u64,
    /// Head checksum of the newest block.
    pub(crate) previous: u32,
    /// Everything before is durable: synced, not merely written.
    pub(crate) stable: Lsn,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) blocks: Vec<Placed>,
    pub(crate) end: End,
}

/// What became of a commit. The blocks come back by value.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) batch: Batch,
    /// How long writing and syncing took.
    pub(crate) taken: Duration,
    /// How long the last sync took; `None` when there was none.
    pub(crate) sync: Option<Duration>,
    pub(crate) result: Result<(), Fault>,
}

impl Batch {
    /// Writes and syncs, here and now.
    pub(crate) fn commit(mut self) -> Committed {
        let start = Instant::now();
        let Self { blocks, end } = &mut self;
        let (sync, result) = match end.commit(blocks) {
            Ok(sync) => (sync, Ok(())),
            Err(fault) => (None, Err(fault)),
        };
        Committed { batch: self, taken: start.elapsed(), sync, result }
    }
}

impl End {
    fn commit(&mut self, blocks: &mut [Placed]) -> Result<Option<Duration>, Fault> {
        let mut unsynced: Option<Arc<Segment>> = None;
        for placed in blocks.iter_mut() {
            // A segment is complete before the next one begins; recovery counts on it.
            if let Some(before) = &unsynced
                && before.sequence != placed.segment.sequence
            {
                self.sync(before, placed.block.first)?;
            }
            self.write(placed)?;
            unsynced = Some(Arc::clone(&placed.segment));
        }
        let (Some(segment), Some(last)) = (unsynced, blocks.last()) else { return Ok(None) };
        let start = Instant::now();
        self.sync(&segment, last.block.end())?;
        Ok((self.durability == Durability::Fsync).then(|| start.elapsed()))
    }

    fn write(&mut self, placed: &mut Placed) -> Result<(), Fault> {
        let segment = &placed.segment;
        self.previous = placed.block.seal(Chain {
            sequence: segment.sequence,
            salt: segment.salt,
            stable: self.stable,
            previous: self.previous,
            incarnation: self.incarnation,
        });
        segment.handle.write(placed.block.sealed(), placed.offset)
    }

    fn sync(&mut self, segment: &Segment, until: Lsn) -> Result<(), Fault> {
        if self.durability == Durability::Fsync {
            segment.handle.sync()?;
            self.stable = until;
        }
        Ok(())
    }
}

/// The commit thread's behaviour.
#[derive(Debug)]
pub(crate) struct Committer;

impl Work for Committer {
    type Job = Batch;
    type Done = Committed;
    const NAME: &'static str = "commit";

    fn run(&mut self, batch: Batch, port: &mut dyn Port<Batch, Committed>) {
        port.answer(batch.commit());
    }
}
