//! [`Rebuild`]: a data directory made of a backup: survivor files with the records, a checkpoint
//! with the state, and a ring that starts empty at the checkpoint's position. The ordinary
//! recovery opens it. Called by crate `replica`.
//!
//! The segment comes last: a directory in which it is missing does not open, so a restore that
//! was interrupted is never taken for a whole one.

use std::sync::Arc;

use model::Lsn;

use super::write::frame_head;
use crate::block::{Block, Chain};
use crate::checkpoint::{self, Mark, WriteState};
use crate::disk::{Disk, LockGuard};
use crate::fault::Fault;
use crate::files::Directory;
use crate::layout::{PAGE, RECORD_HEAD};
use crate::open::{occupy, salt};
use crate::options::Options;
use crate::record::RecordRef;
use crate::recovery::FIRST_BYTES;
use crate::segment::{self, Plan};
use crate::survivor::SurvivorWriter;

/// The incarnation of the log that is made here; the first real one is the next.
const INCARNATION: u64 = 1;

/// See the module's head.
#[derive(Debug)]
pub struct Rebuild {
    dir: Directory,
    options: Options,
    /// Held as long as this lives.
    _lock: Box<dyn LockGuard>,
    lsn: Lsn,
    survivor: Option<(SurvivorWriter, Lsn)>,
    generation: u64,
    /// Frame bytes in the survivor file that is being written, and the position behind its last.
    held: (u64, Lsn),
}

impl Rebuild {
    /// Takes an empty directory, or makes one, for a log that goes on at `lsn`.
    ///
    /// # Errors
    /// [`Fault::NotEmpty`], [`Fault::Locked`], [`Fault::Io`], [`Fault::Setting`].
    pub fn begin(disk: Arc<dyn Disk>, options: Options, lsn: Lsn) -> Result<Self, Fault> {
        options.check()?;
        let (dir, lock) = occupy(disk, &options.dir)?;
        if dir.list()?.iter().any(|name| name != "lock") {
            return Err(Fault::NotEmpty { dir: dir.dir });
        }
        let held = (0, Lsn::ZERO);
        Ok(Self { dir, options, _lock: lock, lsn, survivor: None, generation: 0, held })
    }

    /// Adds a record; positions rise and lie before the log's.
    ///
    /// # Errors
    /// What the disk says.
    pub fn record(&mut self, record: RecordRef<'_>) -> Result<(), Fault> {
        if self.held.0 >= self.options.segment_bytes {
            self.finish_survivor()?;
        }
        if self.survivor.is_none() {
            let writer = SurvivorWriter::create(&self.dir, self.options.pace_bytes)?;
            self.survivor = Some((writer, record.lsn));
        }
        let Some((writer, _)) = &mut self.survivor else { return Ok(()) };
        // A record is at most `RECORD_BYTES_MAX` long.
        let payload = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
        let head = frame_head(record, payload);
        writer.add(record.lsn, &[&head.encode(), record.payload])?;
        let bytes = (RECORD_HEAD + record.payload.len()) as u64;
        self.held = (self.held.0 + bytes, record.lsn.plus(bytes));
        Ok(())
    }

    fn finish_survivor(&mut self) -> Result<(), Fault> {
        let Some((writer, first)) = self.survivor.take() else { return Ok(()) };
        self.generation += 1;
        writer.finish(&self.dir, self.generation, first..self.held.1)?;
        self.held.0 = 0;
        Ok(())
    }

    /// Adds the owner's state and makes the directory one that opens. Durable when it returns;
    /// only dropping this sets the directory free.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(&mut self, state: WriteState) -> Result<(), Fault> {
        self.finish_survivor()?;
        let mark = Mark { lsn: self.lsn, incarnation: INCARNATION };
        checkpoint::write(&self.dir, mark, state, self.options.pace_bytes, &mut || ())?;
        let bytes = self.options.segment_bytes.min(FIRST_BYTES);
        let salt = salt(&self.options, 1);
        let plan = Plan { sequence: 1, salt, bytes, fill_pace: Some(u64::MAX) };
        let segment = segment::prepare(&self.dir, plan, &mut || ())?;
        // A block without records says where the log goes on.
        let chain = Chain {
            sequence: segment.sequence,
            salt: segment.salt,
            stable: self.lsn,
            previous: 0,
            incarnation: INCARNATION,
        };
        let mut block = Block::new(Vec::new(), self.lsn);
        block.seal(chain);
        segment.handle.write(block.sealed(), PAGE as u64)?;
        segment.handle.sync()
    }

    /// Removes what was made so far, as well as the disk lets it.
    pub fn abandon(self) {
        let names = self.dir.list().unwrap_or_default();
        for name in names.iter().filter(|name| *name != "lock") {
            if let Err(fault) = self.dir.remove(name) {
                tracing::warn!(%fault, "an unfinished restore left a file behind");
            }
        }
    }
}
