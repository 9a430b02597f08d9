//! [`Journal`]: the main thread's half of the log.
//!
//! Lives here: appending, handing blocks over, collecting completions, hot reads, and the rule that
//! the first fault ends it all. Not here: how much room is left (`room.rs`), what is done in the
//! background and when (`upkeep.rs`), and everything that blocks (`commit.rs`, `background.rs`).
//! Crate `replica` is the owner.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

use model::Lsn;

use crate::background::{Background, Fetched, Outcome, Task};
use crate::block::{Block, Pool};
use crate::commit::{Committer, End, Placed};
use crate::disk::LockGuard;
use crate::fault::Fault;
use crate::files::Directory;
use crate::layout::{FLAG_MORE, PAGE, RECORD_HEAD, RecordHead};
use crate::options::{Durability, FETCHES_MAX, Options, RECORD_BYTES_MAX};
use crate::pace::Pace;
use crate::places::{SharedPlaces, lock};
use crate::record::{Record, RecordRef};
use crate::ring::Ring;
use crate::stats::Stats;
use crate::tail::Tail;
use crate::upkeep::Upkeep;
use crate::worker::{JOBS_MAX, Link};

/// Fetches at the background worker at a time; a job and its answer must still fit.
const FETCHES_SENT_MAX: usize = JOBS_MAX / 2;

/// What [`Journal::poll`] collected.
#[derive(Debug, Default)]
pub struct Progress {
    /// Everything before this position is safe at the configured level.
    pub durable: Lsn,
    /// Answered fetches.
    pub fetched: Vec<Fetched>,
    /// A checkpoint that ended: its position, and why it is not there if it is not.
    pub checkpoint: Option<(Lsn, Result<(), Fault>)>,
    /// A background job ended; `Journal::maintain` may have something to do.
    pub maintained: bool,
}

/// Reads that wait.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    /// Not sent yet, because records are not written yet or too many were sent.
    waiting: VecDeque<(Vec<Lsn>, u64)>,
    sent: usize,
}

/// What is with the commit thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    record_bytes: usize,
    /// Sequence number of the first segment it writes to. That one and those behind it hold more
    /// than `places` knows of: nothing may be concluded from what it says about their ranges.
    pub(crate) segment: u64,
}

impl InFlight {
    pub(crate) fn of(batch: &[Placed]) -> Option<Self> {
        let segment = batch.first()?.segment.sequence;
        let record_bytes = batch.iter().map(|placed| placed.block.record_bytes).sum();
        Some(Self { record_bytes, segment })
    }
}

/// The log. All methods but [`Journal::open`] and [`Journal::close`] return without waiting.
pub struct Journal {
    pub(crate) options: Options,
    pub(crate) dir: Directory,
    /// Held as long as the journal lives.
    pub(crate) lock: Box<dyn LockGuard>,
    /// Where records go now.
    pub(crate) open: Block,
    /// Blocks that wait for the commit in flight, or for a segment.
    pub(crate) sealed: VecDeque<Block>,
    pub(crate) sealed_bytes: usize,
    pub(crate) in_flight: Option<InFlight>,
    /// What the next block continues; out of date while a commit is in flight.
    pub(crate) end: End,
    pub(crate) pace: Pace,
    pub(crate) durable: Lsn,
    /// The first fault; repeated for ever.
    pub(crate) fault: Option<Fault>,
    pub(crate) ring: Ring,
    pub(crate) places: SharedPlaces,
    pub(crate) tail: Tail,
    pub(crate) pool: Pool,
    pub(crate) commits: Link<Committer>,
    pub(crate) background: Link<Background>,
    /// Reused for the next commit.
    pub(crate) batch: Vec<Placed>,
    pub(crate) fetches: Fetches,
    pub(crate) upkeep: Upkeep,
    pub(crate) stats: Stats,
    pub(crate) incarnation: u64,
    /// Position of the last block without records.
    pub(crate) witnessed: Lsn,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("dir", &self.dir.dir)
            .field("lock", &self.lock)
            .field("next", &self.next_lsn())
            .field("durable", &self.durable)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// The position the next record gets.
    pub fn next_lsn(&self) -> Lsn {
        self.open.end()
    }

    /// Everything before this position is safe at the configured level.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// The fault that ended this journal, if one did.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Nothing is open, in flight, waiting or being done.
    pub fn is_idle(&self) -> bool {
        self.uncommitted_bytes() == 0
            && self.fetches.sent == 0
            && self.fetches.waiting.is_empty()
            && !self.upkeep.is_busy()
    }

    /// A commit is with the commit thread; what is appended now goes with the next one.
    pub fn is_committing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Start of what no commit has taken yet: later positions become durable together.
    pub fn open_lsn(&self) -> Lsn {
        self.sealed.front().map_or(self.open.first, |block| block.first)
    }

    /// Bytes that are not committed yet: open, sealed and in flight.
    pub fn uncommitted_bytes(&self) -> usize {
        self.open.record_bytes
            + self.sealed_bytes
            + self.in_flight.map_or(0, |commit| commit.record_bytes)
    }

    pub(crate) fn check(&self) -> Result<(), Fault> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    /// Remembers the first fault and repeats it.
    pub(crate) fn poison<T>(&mut self, fault: Fault) -> Result<T, Fault> {
        tracing::error!(%fault, "the journal stops");
        Err(self.fault.get_or_insert(fault).clone())
    }

    /// Adds a record to the open block. It is not safe, and not even on its way, before
    /// [`Journal::flush`]. A group (`more`) is finished by its last record.
    ///
    /// # Errors
    /// [`Fault::TooLarge`]: the record, and what was appended of its group, is not in the log, and
    /// nothing else changed. Any other fault is final.
    pub fn append(&mut self, record: Record<'_>) -> Result<Lsn, Fault> {
        self.check()?;
        let payload: usize = record.parts.iter().map(|part| part.len()).sum();
        let bytes = payload.saturating_add(RECORD_HEAD);
        let group = self.open.group_bytes().saturating_add(bytes);
        let max = self.options.group_bytes_max();
        if bytes as u64 > RECORD_BYTES_MAX.min(max) || group as u64 > max {
            self.open.drop_group();
            let max = RECORD_BYTES_MAX.min(max);
            return Err(Fault::TooLarge { bytes: group as u64, max });
        }
        if (self.open.record_bytes + bytes) as u64 > self.options.block_bytes_max() {
            self.make_room(bytes)?;
        }
        let flags = if record.more { FLAG_MORE } else { 0 };
        // Checked above: at most RECORD_BYTES_MAX. The checksum is the commit thread's to fill in.
        let payload = u32::try_from(payload).unwrap_or(u32::MAX);
        let lsn = self.open.end();
        let head = RecordHead { payload, crc: 0, kind: record.kind, flags };
        self.open.push(head, record.parts, record.more);
        Ok(lsn)
    }

    /// Seals the open block, or as much of it as is whole, before it gets too large.
    #[cold]
    fn make_room(&mut self, bytes: usize) -> Result<(), Fault> {
        self.check_room(bytes as u64)?;
        if !self.open.is_in_group() {
            self.seal();
        } else if (self.open.record_bytes + bytes) as u64 > self.options.group_bytes_max() {
            let buffer = self.pool.take();
            let next = self.open.split_group(buffer);
            let whole = std::mem::replace(&mut self.open, next);
            self.keep_sealed(whole);
        }
        Ok(())
    }

    pub(crate) fn seal(&mut self) {
        if !self.open.is_empty() {
            let next = Block::new(self.pool.take(), self.open.end());
            let whole = std::mem::replace(&mut self.open, next);
            self.keep_sealed(whole);
        }
    }

    fn keep_sealed(&mut self, block: Block) {
        self.sealed_bytes += block.record_bytes;
        self.sealed.push_back(block);
    }

    /// Collects what the workers finished.
    ///
    /// # Errors
    /// The fault that ended this journal; nothing that was not durable before ever will be.
    pub fn poll(&mut self) -> Result<Progress, Fault> {
        self.check()?;
        let mut progress = Progress::default();
        loop {
            match self.commits.take() {
                Ok(Some(committed)) => self.committed(committed)?,
                Ok(None) => break,
                Err(fault) => return self.poison(fault),
            }
        }
        loop {
            match self.background.take() {
                Ok(Some(outcome)) => self.outcome(outcome, &mut progress)?,
                Ok(None) => break,
                Err(fault) => return self.poison(fault),
            }
        }
        self.send_fetches()?;
        self.start_checkpoint()?;
        if let Some(lsn) = self.upkeep.covered.take() {
            progress.checkpoint.get_or_insert((lsn, Ok(())));
        }
        progress.durable = self.durable;
        Ok(progress)
    }

    fn outcome(&mut self, outcome: Outcome, progress: &mut Progress) -> Result<(), Fault> {
        if let Outcome::Fetched(fetched) = outcome {
            self.fetches.sent = self.fetches.sent.saturating_sub(1);
            self.stats.fetched += fetched.records.as_ref().map_or(0, |found| found.len() as u64);
            progress.fetched.push(fetched);
            return Ok(());
        }
        progress.maintained = true;
        self.finished(outcome, progress)
    }

    /// A committed record that is still in memory. `lsn` must be the position of a record.
    pub fn read_hot(&self, lsn: Lsn) -> Option<RecordRef<'_>> {
        self.tail.get(lsn)
    }

    /// Asks for records from disk; the answer comes from [`Journal::poll`]. Reading positions in
    /// rising order is fast. Records that are not committed yet are waited for.
    ///
    /// # Errors
    /// [`Fault::Busy`] when too many wait, or the fault that ended this journal.
    pub fn fetch(&mut self, wanted: Vec<Lsn>, token: u64) -> Result<(), Fault> {
        self.check()?;
        if self.fetches.waiting.len() >= FETCHES_MAX {
            return Err(Fault::Busy { max: FETCHES_MAX });
        }
        self.fetches.waiting.push_back((wanted, token));
        self.send_fetches()
    }

    /// Sends what may be sent, in order: one that waits for a commit holds back those behind it.
    fn send_fetches(&mut self) -> Result<(), Fault> {
        while self.fetches.sent < FETCHES_SENT_MAX
            && let Some((wanted, token)) = self.fetches.waiting.pop_front()
        {
            if wanted.iter().any(|lsn| *lsn >= self.durable && *lsn < self.next_lsn()) {
                self.fetches.waiting.push_front((wanted, token));
                return Ok(());
            }
            self.fetches.sent += 1;
            if let Err(fault) = self.background.send(Task::Fetch { wanted, token }) {
                return self.poison(fault);
            }
        }
        Ok(())
    }

    /// Does the work that has no thread. Only with [`crate::Workers::Inline`].
    pub fn run_pending(&mut self) {
        self.commits.run_pending();
        self.background.run_pending();
    }

    /// Gives memory back that only traffic needs; call it when nothing happened for a while.
    /// Keeps the newest `keep_bytes` of the tail cache.
    ///
    /// Also guards the end of the log: a witness is written behind it, so that damage to the last
    /// commit is told from a torn write from now on.
    pub fn trim(&mut self, keep_bytes: usize) {
        if self.in_flight.is_none()
            && let Err(fault) = self.write_witness()
        {
            tracing::debug!(%fault, "no witness was written");
        }
        self.tail.shrink(keep_bytes);
        self.pool.clear();
        if self.open.is_empty() {
            self.open = Block::new(self.pool.take(), self.open.end());
        }
    }

    /// Commits what is open, marks the end as clean and joins the threads. Waits for both, but not
    /// for a segment: what has no place then was never safe and is gone.
    ///
    /// # Errors
    /// The fault that ended this journal, or an unfinished group.
    pub fn close(mut self) -> Result<(), Fault> {
        self.check()?;
        self.open.drop_group();
        loop {
            self.flush()?;
            if self.in_flight.is_none() {
                break;
            }
            self.wait_commit()?;
        }
        self.write_witness()?;
        if self.in_flight.is_some() {
            self.wait_commit()?;
        }
        Ok(())
    }

    /// An empty block, unless one stands at the end already: it says that everything before it was
    /// durable. Nobody waits for it.
    fn write_witness(&mut self) -> Result<(), Fault> {
        self.check()?;
        let next = self.next_lsn();
        if self.options.durability == Durability::Fsync
            && self.sealed.is_empty()
            && self.open.is_empty()
            && next > self.witnessed
            && self.ring.fits_active(PAGE as u64)
            && let Some((segment, offset)) = self.ring.place(PAGE as u64)
        {
            self.witnessed = next;
            let block = Block::new(Vec::new(), next);
            self.batch.push(Placed { block, segment, offset });
            return self.start_commit();
        }
        Ok(())
    }

    fn wait_commit(&mut self) -> Result<(), Fault> {
        match self.commits.wait() {
            Ok(committed) => self.committed(committed),
            Err(fault) => self.poison(fault),
        }
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        let (mut files, mut bytes) = (0, 0);
        for survivor in lock(&self.places).survivors() {
            files += 1;
            bytes += survivor.file_bytes();
        }
        let segments = self.ring.total() as u64;
        let checkpoint_bytes = self.upkeep.checkpoint_bytes();
        Stats {
            segments,
            segments_ready: self.ring.ready.len() as u64,
            survivor_files: files,
            survivor_bytes: bytes,
            checkpoint: self.upkeep.checkpoint(),
            checkpoint_bytes,
            cache_bytes: self.tail.bytes() as u64,
            disk_bytes: segments * self.options.segment_bytes + bytes + checkpoint_bytes,
            free_bytes: self.upkeep.space.free_bytes(),
            ..self.stats
        }
    }
}
