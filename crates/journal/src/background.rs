//! [`Background`]: everything slow: segments, survivors, checkpoints, cold reads.
//!
//! Lives here: the jobs. Not here: when one is due (`upkeep.rs`). Runs on the background thread,
//! one job at a time; fetches are served between the pieces of a long job.

use std::ops::Range;
use std::sync::Arc;

use model::Lsn;

use crate::checkpoint::{self, Mark, WriteState};
use crate::fault::Fault;
use crate::files::{Directory, checkpoint_name};
use crate::places::{SharedPlaces, lock};
use crate::reader::Reader;
use crate::record::{Entry, Records};
use crate::segment::{self, NotRecycled, Plan, Segment};
use crate::survivor::{Survivor, SurvivorWriter};
use crate::worker::{Port, Work};

/// An answer stops growing here; the rest is named as unread.
pub const FETCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Records copied between two looks at waiting fetches.
const COPY_STEP: usize = 64;

/// A job.
pub(crate) enum Task {
    Fetch { wanted: Vec<Lsn>, token: u64 },
    Prepare(Plan),
    Recycle(Arc<Segment>, Plan),
    Discard(Arc<Segment>),
    Survive { segment: Arc<Segment>, copy: Copy },
    Compact { inputs: Vec<Arc<Survivor>>, copy: Copy },
    Checkpoint { mark: Mark, state: WriteState, sync: Vec<Arc<Segment>>, old: Option<Lsn> },
}

impl Task {
    /// Up to where the log must be durable before the job may start, if it was chosen when the
    /// log ended at `end`.
    pub(crate) fn barrier(&self, end: Lsn) -> Lsn {
        match self {
            Self::Survive { .. } | Self::Compact { .. } => end,
            Self::Fetch { .. }
            | Self::Prepare(_)
            | Self::Recycle(..)
            | Self::Discard(_)
            | Self::Checkpoint { .. } => Lsn::ZERO,
        }
    }
}

/// Which records to copy, and into what.
pub(crate) struct Copy {
    pub(crate) generation: u64,
    pub(crate) range: Range<Lsn>,
    pub(crate) live: Vec<Lsn>,
    /// Segments to sync first: at level `os` what says that the other records are dead may be in
    /// the page cache only.
    pub(crate) sync: Vec<Arc<Segment>>,
}

/// The answer to [`crate::Journal::fetch`].
#[derive(Debug)]
pub struct Fetched {
    /// As given.
    pub token: u64,
    /// The records, or why they could not be read. A failed read does not poison the journal.
    pub records: Result<Records, Fault>,
    /// Positions not answered because the answer was full; ask again for them.
    pub unread: Vec<Lsn>,
}

/// What became of a job.
pub(crate) enum Outcome {
    Fetched(Fetched),
    Prepared(Result<Arc<Segment>, Fault>),
    Recycled(Arc<Segment>, Result<Arc<Segment>, NotRecycled>),
    Discarded(Arc<Segment>, Result<(), Fault>),
    Survived(Result<Arc<Segment>, Fault>),
    Compacted(Result<(), Fault>),
    Checkpointed(Lsn, Result<u64, Fault>),
}

/// See the module's head.
pub(crate) struct Background {
    pub(crate) dir: Directory,
    pub(crate) pace: u64,
    pub(crate) cold: Cold,
}

/// The reading side.
pub(crate) struct Cold {
    pub(crate) places: SharedPlaces,
    pub(crate) reader: Reader,
}

type TaskPort<'a> = &'a mut dyn Port<Task, Outcome>;

impl Cold {
    /// Serves the fetches that wait. Only fetches are sent while a job runs.
    fn serve(&mut self, port: TaskPort<'_>) {
        while let Some(task) = port.next() {
            if let Task::Fetch { wanted, token } = task {
                self.fetch(wanted, token, port);
            } else {
                debug_assert!(false, "a second job was sent while one runs");
            }
        }
    }

    fn fetch(&mut self, wanted: Vec<Lsn>, token: u64, port: TaskPort<'_>) {
        let mut records = Records::default();
        let read = self.collect(&wanted, &mut records);
        let unread = wanted.get(records.entries.len()..).unwrap_or_default().to_vec();
        let fetched = match read {
            Ok(()) => Fetched { token, records: Ok(records), unread },
            Err(fault) => Fetched { token, records: Err(fault), unread: wanted },
        };
        port.answer(Outcome::Fetched(fetched));
    }

    fn collect(&mut self, wanted: &[Lsn], records: &mut Records) -> Result<(), Fault> {
        for lsn in wanted {
            if records.bytes.len() >= FETCH_BYTES_MAX {
                break;
            }
            let place = lock(&self.places).find(*lsn);
            let frame = match &place {
                Some(place) => self.reader.read(*lsn, place)?,
                None => None,
            };
            let found = frame.map(|frame| {
                let start = records.bytes.len();
                records.bytes.extend_from_slice(frame.payload);
                (frame.head.kind, start..records.bytes.len())
            });
            records.entries.push(Entry { lsn: *lsn, found });
        }
        Ok(())
    }

    /// Copies the named records into the writer.
    fn copy(
        &mut self,
        live: &[Lsn],
        writer: &mut SurvivorWriter,
        port: TaskPort<'_>,
    ) -> Result<(), Fault> {
        for step in live.chunks(COPY_STEP) {
            for lsn in step {
                let Some(place) = lock(&self.places).find(*lsn) else { continue };
                if let Some(frame) = self.reader.read(*lsn, &place)? {
                    writer.add(*lsn, &[&frame.head.encode(), frame.payload])?;
                }
            }
            self.serve(port);
        }
        Ok(())
    }
}

impl Background {
    /// A durable survivor file with the named records; `None` when none is named.
    fn gather(&mut self, copy: &Copy, port: TaskPort<'_>) -> Result<Option<Arc<Survivor>>, Fault> {
        copy.sync.iter().try_for_each(|segment| segment.handle.sync())?;
        if copy.live.is_empty() {
            return Ok(None);
        }
        let mut writer = SurvivorWriter::create(&self.dir, self.pace)?;
        let copied = self.cold.copy(&copy.live, &mut writer, port);
        let made =
            copied.and_then(|()| writer.finish(&self.dir, copy.generation, copy.range.clone()));
        if made.is_err() {
            SurvivorWriter::abandon(&self.dir);
        }
        Ok(Some(Arc::new(made?)))
    }

    fn survive(
        &mut self,
        segment: Arc<Segment>,
        copy: &Copy,
        port: TaskPort<'_>,
    ) -> Result<Arc<Segment>, Fault> {
        let survivor = self.gather(copy, port)?;
        lock(&self.cold.places).retire(segment.sequence, survivor);
        Ok(segment)
    }

    fn compact(
        &mut self,
        inputs: &[Arc<Survivor>],
        copy: &Copy,
        port: TaskPort<'_>,
    ) -> Result<(), Fault> {
        let survivor = self.gather(copy, port)?;
        lock(&self.cold.places).replace(inputs, survivor);
        for input in inputs {
            self.dir.remove_if_there(&input.handle.name())?;
        }
        Ok(())
    }

    fn discard(&self, segment: &Segment) -> Result<(), Fault> {
        segment.handle.file.forget();
        self.dir.remove_if_there(&segment.handle.name())?;
        // Segments go oldest first, also through a power cut: no gap may appear in the sequence.
        self.dir.sync()
    }

    fn checkpoint(
        &mut self,
        mark: Mark,
        state: WriteState,
        old: Option<Lsn>,
        port: TaskPort<'_>,
    ) -> Result<u64, Fault> {
        let cold = &mut self.cold;
        let bytes = checkpoint::write(&self.dir, mark, state, self.pace, &mut || cold.serve(port))?;
        if let Some(old) = old.filter(|old| *old != mark.lsn) {
            self.dir.remove_if_there(&checkpoint_name(old))?;
        }
        Ok(bytes)
    }
}

impl Work for Background {
    type Job = Task;
    type Done = Outcome;
    const NAME: &'static str = "background";

    fn run(&mut self, task: Task, port: &mut dyn Port<Task, Outcome>) {
        let outcome = match task {
            Task::Fetch { wanted, token } => return self.cold.fetch(wanted, token, port),
            Task::Prepare(plan) => {
                let cold = &mut self.cold;
                let made = segment::prepare(&self.dir, plan, &mut || cold.serve(port));
                Outcome::Prepared(made.map(Arc::new))
            }
            Task::Recycle(spent, plan) => {
                let made = segment::recycle(&self.dir, &spent, plan).map(Arc::new);
                Outcome::Recycled(spent, made)
            }
            Task::Discard(spent) => {
                let done = self.discard(&spent);
                Outcome::Discarded(spent, done)
            }
            Task::Survive { segment, copy } => {
                Outcome::Survived(self.survive(segment, &copy, port))
            }
            Task::Compact { inputs, copy } => {
                Outcome::Compacted(self.compact(&inputs, &copy, port))
            }
            Task::Checkpoint { mark, state, sync, old } => {
                let synced = sync.iter().try_for_each(|segment| segment.handle.sync());
                let written = synced.and_then(|()| self.checkpoint(mark, state, old, port));
                Outcome::Checkpointed(mark.lsn, written)
            }
        };
        port.answer(outcome);
    }

    fn rest(&mut self) {
        if !self.cold.reader.is_empty() {
            self.cold.reader.clear();
        }
    }
}
