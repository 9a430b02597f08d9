//! Upkeep: deciding what the background does next.
//!
//! Lives here: when a segment is prepared, retired or reused, when survivors are rewritten, when a
//! checkpoint is due, and what a lack of disk space means. Not here: doing it (`background.rs`).
//! The owner calls `maintain` each turn; `journal.rs` reports what ended.
//!
//! One job runs at a time. Order of preference: make spent segments ready again, prepare new ones,
//! retire the oldest, rewrite or drop survivor files. A checkpoint goes before all of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use model::Lsn;

use crate::background::{Copy, Outcome, Task};
use crate::checkpoint::{Mark, WriteState};
use crate::fault::Fault;
use crate::journal::{Journal, Progress};
use crate::open::salt;
use crate::options::Durability;
use crate::places::lock;
use crate::segment::{NotRecycled, Plan, Segment};
use crate::space::{Need, Space};
use crate::survivor::Survivor;

/// Records that are still needed, as the owner knows them.
pub trait Liveness {
    /// How many records in this range are needed, and their bytes with heads. May be too high,
    /// never too low. What is appended but not durable may count already, here and in `live`: the
    /// journal drops nothing before the log is durable up to the moment of the question.
    fn usage(&self, range: Range<Lsn>) -> Usage;
    /// Appends the positions of all needed records in this range, rising and without repeats.
    fn live(&self, range: Range<Lsn>, out: &mut Vec<Lsn>);
}

/// See [`Liveness::usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Records.
    pub records: u64,
    /// Their bytes, heads included.
    pub bytes: u64,
}

/// Segments kept ready.
const READY_TARGET: usize = 2;
/// Of the ring, this many segments are never full: active, reserve, one being retired.
const NOT_FULL: usize = 4;
/// Full segments kept when memory is the disk.
const FULL_IN_MEMORY: usize = 2;
/// Under load one survivor file is examined per so much log.
const EXAMINE_BYTES: u64 = 64 * 1024;
/// A survivor file is rewritten when fewer than this many percent of it are needed.
const LIVE_PERCENT_MIN: u64 = 30;
/// Rewritten below this, too, while all files together hold more than twice what is needed.
const LIVE_PERCENT_LOW: u64 = 60;
/// Files smaller than this count as small.
const SMALL_BYTES: u64 = 8 * 1024 * 1024;
/// So many small neighbours are merged into one.
const SMALL_FILES_MAX: usize = 8;

/// What is known about a survivor file.
#[derive(Clone, Copy, Debug, Default)]
struct Exam {
    /// The log's end when it was examined.
    at: Lsn,
    live: u64,
}

/// What is with the background worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    None,
    Checkpoint,
    Other,
}

/// The state behind the decisions.
pub(crate) struct Upkeep {
    job: Job,
    /// The newest durable checkpoint.
    checkpoint: Option<Lsn>,
    checkpoint_bytes: u64,
    /// A checkpoint that waits for its log to be durable, or for the worker.
    waiting: Option<(Lsn, WriteState)>,
    /// A checkpoint that need not be written any more; to be told as done.
    pub(crate) covered: Option<Lsn>,
    /// A job whose list of needed records counts settlements that are not durable yet. It starts
    /// when the log is durable up to this position: a crash before must still find what it drops.
    held: Option<(Lsn, Task)>,
    /// The next survivor file's.
    generation: u64,
    exams: BTreeMap<u64, Exam>,
    /// The generation examined last, and the log's end then.
    examined: (u64, Lsn),
    /// The log's end when no file was left to examine.
    all_examined: Option<Lsn>,
    pub(crate) space: Space,
}

impl Upkeep {
    pub(crate) fn new(checkpoint: Option<Lsn>, checkpoint_bytes: u64, generation: u64) -> Self {
        Self {
            job: Job::None,
            checkpoint,
            checkpoint_bytes,
            waiting: None,
            covered: None,
            held: None,
            generation,
            exams: BTreeMap::new(),
            examined: (0, Lsn::ZERO),
            all_examined: None,
            space: Space::default(),
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.job != Job::None || self.waiting.is_some()
    }

    pub(crate) fn checkpoint(&self) -> Lsn {
        self.checkpoint.unwrap_or_default()
    }

    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        self.checkpoint_bytes
    }
}

impl Journal {
    /// Starts the background job that is most due, if any; cheap when there is none. Call it every
    /// turn, and after `poll` said that something was maintained.
    ///
    /// # Errors
    /// The fault that ended this journal.
    pub fn maintain(&mut self, live: &dyn Liveness) -> Result<(), Fault> {
        self.check()?;
        self.look_at_disk()?;
        if self.upkeep.job != Job::None {
            return self.start_held();
        }
        if self.upkeep.space.pauses() {
            return Ok(());
        }
        self.start_checkpoint()?;
        if self.upkeep.job != Job::None {
            return Ok(());
        }
        if let Some(task) = self.choose(live) {
            self.upkeep.job = Job::Other;
            self.upkeep.held = Some((task.barrier(self.next_lsn()), task));
            return self.start_held();
        }
        if !self.checkpoint_due() {
            self.upkeep.space.nothing_due();
        }
        Ok(())
    }

    /// Starts the held job once what it relies on is durable.
    fn start_held(&mut self) -> Result<(), Fault> {
        match self.upkeep.held.take() {
            Some((barrier, task)) if barrier <= self.durable => self.start(Job::Other, task),
            held => {
                self.upkeep.held = held;
                Ok(())
            }
        }
    }

    fn start(&mut self, job: Job, task: Task) -> Result<(), Fault> {
        self.upkeep.job = job;
        match self.background.send(task) {
            Ok(()) => Ok(()),
            Err(fault) => self.poison(fault),
        }
    }

    fn is_volatile(&self) -> bool {
        self.options.durability == Durability::Memory
    }

    fn look_at_disk(&mut self) -> Result<(), Fault> {
        if self.upkeep.space.wants_look(self.next_lsn()) {
            return self.measure_disk();
        }
        Ok(())
    }

    /// Measures the free space of the disk. Growth of the log does so by itself; others may fill
    /// the disk while the log rests, so call it about once a second.
    ///
    /// # Errors
    /// When the system cannot tell; that is final.
    pub fn measure_disk(&mut self) -> Result<(), Fault> {
        let next = self.next_lsn();
        match self.dir.disk.free_bytes(&self.dir.dir) {
            Ok(free) => self.upkeep.space.looked(next, free, self.options.free_bytes_min),
            Err(error) => {
                let fault = Fault::io("measure free space of", &self.dir.dir, error);
                return self.poison(fault);
            }
        }
        Ok(())
    }

    /// Lets what failed for lack of space be tried at the next [`Journal::maintain`]; says whether
    /// something did. Call it about once a second: without it a quiet log waits for ever.
    pub fn try_again(&mut self) -> bool {
        self.upkeep.space.try_again()
    }

    fn choose(&mut self, live: &dyn Liveness) -> Option<Task> {
        if let Some(spent) = self.ring.spent.pop_front() {
            return Some(self.reuse(spent));
        }
        let wants_ready = self.ring.ready.len() < READY_TARGET;
        let is_below_max = self.ring.total() < self.ring.segments_max;
        let grows = wants_ready && is_below_max && self.may_grow();
        if grows && !self.upkeep.space.has_failed(Need::Segment) {
            return Some(Task::Prepare(self.plan(true)));
        }
        let other = self.retire(live, wants_ready).or_else(|| self.tidy_survivors(live));
        other.or_else(|| grows.then(|| Task::Prepare(self.plan(true))))
    }

    /// A new segment must leave the wanted space free, except for the first spare.
    fn may_grow(&self) -> bool {
        let left = self.upkeep.space.free_bytes().saturating_sub(self.options.segment_bytes);
        left >= self.options.free_bytes_min
    }

    fn plan(&self, is_new: bool) -> Plan {
        let sequence = self.ring.next_sequence();
        let is_filled = is_new && !self.is_volatile();
        Plan {
            sequence,
            salt: salt(&self.options, sequence),
            bytes: self.options.segment_bytes,
            fill_pace: is_filled.then_some(self.options.pace_bytes),
        }
    }

    fn reuse(&mut self, spent: Arc<Segment>) -> Task {
        let is_wanted = spent.bytes == self.options.segment_bytes
            && self.ring.ready.len() < READY_TARGET + 1
            && self.ring.total() < self.ring.segments_max;
        if is_wanted {
            let plan = self.plan(false);
            Task::Recycle(spent, plan)
        } else {
            Task::Discard(spent)
        }
    }

    /// The oldest segment, when the ring needs it and the checkpoint covers it.
    fn retire(&mut self, live: &dyn Liveness, wants_ready: bool) -> Option<Task> {
        let kept = if self.is_volatile() {
            FULL_IN_MEMORY
        } else {
            self.ring.segments_max.saturating_sub(NOT_FULL)
        };
        let cannot_grow = !self.may_grow() || self.upkeep.space.has_failed(Need::Segment);
        let is_stuck = wants_ready && cannot_grow;
        if self.ring.full.len() <= kept && !is_stuck {
            return None;
        }
        let oldest = Arc::clone(self.ring.full.front()?);
        // A batch that spans segments leaves the first one full while it is still being written.
        if self.in_flight.is_some_and(|commit| oldest.sequence >= commit.segment) {
            return None;
        }
        let end = self.end_of_oldest()?;
        if !self.is_volatile() && end > self.upkeep.checkpoint() {
            return None;
        }
        let range = lock(&self.places).range_of(oldest.sequence).unwrap_or(end..end);
        let copy = if lock(&self.places).is_survived(&range) {
            self.nothing_of(range)
        } else {
            self.copy(range, live)
        };
        Some(Task::Survive { segment: oldest, copy })
    }

    /// Position after the last record of the oldest full segment.
    fn end_of_oldest(&self) -> Option<Lsn> {
        let oldest = self.ring.full.front()?;
        let places = lock(&self.places);
        match places.range_of(oldest.sequence) {
            Some(range) => Some(range.end),
            // No records in it; it goes when everything before the next segment may.
            None => Some(places.ring_start().unwrap_or(self.durable)),
        }
    }

    fn copy(&mut self, range: Range<Lsn>, live: &dyn Liveness) -> Copy {
        let mut wanted = Vec::new();
        live.live(range.clone(), &mut wanted);
        debug_assert!(wanted.is_sorted(), "the owner names live records in order");
        let generation = self.upkeep.generation;
        self.upkeep.generation += 1;
        Copy { generation, range, live: wanted, sync: self.unsynced() }
    }

    /// Makes no file.
    fn nothing_of(&self, range: Range<Lsn>) -> Copy {
        Copy { generation: 0, range, live: Vec::new(), sync: self.unsynced() }
    }

    /// Examines one survivor file and rewrites what is worth it.
    fn tidy_survivors(&mut self, live: &dyn Liveness) -> Option<Task> {
        let next = self.next_lsn();
        let since = next.0.saturating_sub(self.upkeep.examined.1.0);
        let is_quiet = self.uncommitted_bytes() == 0;
        if (since < EXAMINE_BYTES && !is_quiet) || self.upkeep.all_examined == Some(next) {
            return None;
        }
        let files = lock(&self.places).survivors().to_vec();
        let Some(file) = self.next_to_examine(&files, next) else {
            self.upkeep.all_examined = Some(next);
            return None;
        };
        self.upkeep.examined = (file.generation, next);
        let usage = live.usage(file.range.clone());
        let exam = Exam { at: next, live: usage.bytes };
        self.upkeep.exams.insert(file.generation, exam);
        let chosen = self.worth_rewriting(&files, &file, usage)?;
        for input in &chosen {
            self.upkeep.exams.remove(&input.generation);
        }
        let (first, last) = (chosen.first()?, chosen.last()?);
        let range = first.range.start..last.range.end;
        let copy = if usage.records == 0 && chosen.len() == 1 {
            self.nothing_of(range)
        } else {
            self.copy(range, live)
        };
        self.stats.compactions += 1;
        Some(Task::Compact { inputs: chosen, copy })
    }

    /// Round robin over the files that may have changed since they were examined.
    fn next_to_examine(&self, files: &[Arc<Survivor>], next: Lsn) -> Option<Arc<Survivor>> {
        let is_due = |file: &&Arc<Survivor>| {
            self.upkeep.exams.get(&file.generation).is_none_or(|exam| exam.at < next)
        };
        let after = files.iter().position(|file| file.generation == self.upkeep.examined.0);
        let (before, rest) = files.split_at_checked(after.map_or(0, |at| at + 1))?;
        rest.iter().chain(before).find(is_due).cloned()
    }

    /// The file alone when little of it is needed, or a run of small neighbours.
    fn worth_rewriting(
        &self,
        files: &[Arc<Survivor>],
        file: &Arc<Survivor>,
        usage: Usage,
    ) -> Option<Vec<Arc<Survivor>>> {
        let percent = usage.bytes.saturating_mul(100) / file.record_bytes.max(1);
        let is_thin = usage.records == 0 || percent < LIVE_PERCENT_MIN;
        if is_thin || (percent < LIVE_PERCENT_LOW && self.is_wasteful(files)) {
            return Some(vec![Arc::clone(file)]);
        }
        let is_small = |one: &Arc<Survivor>| one.file_bytes() < SMALL_BYTES;
        let at = files.iter().position(|one| one.generation == file.generation)?;
        let (before, after) = files.split_at_checked(at)?;
        let left = before.iter().rev().take_while(|one| is_small(one)).count();
        let right = after.iter().take_while(|one| is_small(one)).count();
        if right == 0 || left + right < SMALL_FILES_MAX {
            return None;
        }
        let run = files.iter().skip(at - left).take(left + right);
        Some(run.take(SMALL_FILES_MAX).cloned().collect())
    }

    /// All files together hold more than twice what is needed, as far as examined.
    fn is_wasteful(&self, files: &[Arc<Survivor>]) -> bool {
        let held: u64 = files.iter().map(|file| file.record_bytes).sum();
        let needed = files.iter().map(|file| {
            let exam = self.upkeep.exams.get(&file.generation);
            exam.map_or(file.record_bytes, |exam| exam.live)
        });
        held > needed.sum::<u64>().saturating_mul(2)
    }

    /// Whether the owner should write a checkpoint: enough log since the last, or the ring needs
    /// a segment that the last one does not cover.
    pub fn checkpoint_due(&self) -> bool {
        if self.is_volatile() || self.upkeep.waiting.is_some() || self.upkeep.job == Job::Checkpoint
        {
            return false;
        }
        let last = self.upkeep.checkpoint();
        if self.upkeep.space.is_pausing() || self.durable <= last {
            return false;
        }
        let since = self.durable.0.saturating_sub(last.0);
        let is_pressed = self.ring.full.len() + NOT_FULL > self.ring.segments_max
            || (self.ring.ready.is_empty() && !self.may_grow());
        since >= self.options.checkpoint_bytes
            || (is_pressed && self.end_of_oldest().is_some_and(|end| end > last))
    }

    /// Writes a checkpoint in the background: `write` streams the owner's state as it is at `lsn`,
    /// with every record before `lsn` applied and none from there on. It becomes durable only
    /// after the log up to `lsn` is. `Progress` tells when.
    ///
    /// # Errors
    /// The fault that ended this journal.
    pub fn checkpoint(&mut self, lsn: Lsn, write: WriteState) -> Result<(), Fault> {
        self.check()?;
        if !self.is_volatile() && lsn > self.upkeep.checkpoint() {
            self.upkeep.waiting = Some((lsn, write));
        }
        self.start_checkpoint()
    }

    pub(crate) fn start_checkpoint(&mut self) -> Result<(), Fault> {
        if self.upkeep.job != Job::None || !self.is_checkpoint_ready() {
            return Ok(());
        }
        let Some((lsn, state)) = self.upkeep.waiting.take() else { return Ok(()) };
        if lsn <= self.upkeep.checkpoint() {
            // The one that was being written when this was asked for covers it.
            self.upkeep.covered = Some(lsn);
            return Ok(());
        }
        let sync = self.unsynced();
        let mark = Mark { lsn, incarnation: self.incarnation };
        self.start(
            Job::Checkpoint,
            Task::Checkpoint { mark, state, sync, old: self.upkeep.checkpoint },
        )
    }

    /// Segments that must be synced before anything relies on them: at level `os` nobody did.
    fn unsynced(&self) -> Vec<Arc<Segment>> {
        match self.options.durability {
            Durability::Os => {
                let active = [&self.ring.active];
                self.ring.full.iter().chain(active).cloned().collect()
            }
            Durability::Fsync | Durability::Memory => Vec::new(),
        }
    }

    fn is_checkpoint_ready(&self) -> bool {
        self.upkeep.waiting.as_ref().is_some_and(|(lsn, _)| *lsn <= self.durable)
    }

    /// Takes the end of a job in.
    pub(crate) fn finished(
        &mut self,
        outcome: Outcome,
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        self.upkeep.job = Job::None;
        let (need, result) = match outcome {
            Outcome::Fetched(_) => return Ok(()),
            Outcome::Prepared(made) => {
                (Need::Segment, made.map(|segment| self.ring.ready.push_back(segment)))
            }
            Outcome::Recycled(spent, made) => (Need::Segment, self.recycled(spent, made)),
            Outcome::Survived(retired) => {
                let retired = retired.map(|segment| {
                    self.upkeep.all_examined = None;
                    self.ring.full.pop_front();
                    self.ring.spent.push_back(segment);
                });
                (Need::Survivors, retired)
            }
            Outcome::Compacted(done) => {
                self.upkeep.all_examined = None;
                (Need::Survivors, done)
            }
            Outcome::Discarded(spent, done) => {
                if done.is_err() {
                    self.ring.spent.push_front(spent);
                }
                (Need::Segment, done)
            }
            Outcome::Checkpointed(lsn, written) => {
                let told = written.clone().map(|_| ());
                progress.checkpoint = Some((lsn, told));
                let written = written.map(|bytes| {
                    self.upkeep.checkpoint = Some(lsn);
                    self.upkeep.checkpoint_bytes = bytes;
                });
                (Need::Checkpoint, written)
            }
        };
        match result {
            Ok(()) => self.upkeep.space.succeeded(need),
            Err(fault) if fault.is_no_space() => self.upkeep.space.failed(need, &fault),
            Err(fault) => return self.poison(fault),
        }
        Ok(())
    }

    fn recycled(
        &mut self,
        spent: Arc<Segment>,
        made: Result<Arc<Segment>, NotRecycled>,
    ) -> Result<(), Fault> {
        match made {
            Ok(segment) => self.ring.ready.push_back(segment),
            Err(failed) => {
                if failed.is_untouched {
                    self.ring.spent.push_front(spent);
                }
                return Err(failed.fault);
            }
        }
        Ok(())
    }
}
