//! A queue as a place for jobs: lines by rank, and the jobs that stand outside them. What is asked
//! about jobs is `work.rs`; order among those outside is `loose.rs`.

use model::{JobState, Lsn, QueueKind, RANK, Ties};

use super::{Head, Queue};
use crate::fifo::{Entry, NEVER, Taken};
use crate::loose::{self, Job, Loose, URGENT_BELOW};
use crate::ties::Change;
use crate::work::Past;

impl Queue {
    /// Adds a new job: to the line of its rank, or outside the lines when it has to wait or has no
    /// line.
    pub(crate) fn push_job(
        &mut self,
        rank: u32,
        (due, delay_s): (u64, u32),
        (entry, ties): (Entry, Option<Box<Ties>>),
    ) {
        if due == 0
            && ties.is_none()
            && let Some(level) = self.job_level(rank)
        {
            self.may_expire = entry.expires != NEVER || (self.may_expire && self.ready > 0);
            self.ready += 1;
            self.ready_bytes += u64::from(entry.body);
            if let Some(line) = self.line_of(level, rank) {
                line.push(entry);
            }
            return;
        }
        self.may_expire |= entry.expires != NEVER;
        self.loose.get_or_insert_default();
        let mut job = Job::new(entry, rank, due, delay_s);
        job.ties = ties;
        self.with_loose(|loose| loose.take_in(job));
    }

    /// Puts a job outside the lines.
    pub(crate) fn put_loose(&mut self, job: Job) {
        self.may_expire |= job.entry.expires != NEVER;
        self.loose.get_or_insert_default();
        self.with_loose(|loose| loose.insert(job));
    }

    /// Does something with the jobs outside the lines, and counts what that changes. `None` when
    /// there are none.
    pub(super) fn with_loose<T>(&mut self, act: impl FnOnce(&mut Loose) -> T) -> Option<T> {
        let loose = self.loose.as_mut()?;
        let before = loose.sums();
        let outcome = act(loose);
        let after = loose.sums();
        self.ready = self.ready - before.ready + after.ready;
        self.ready_bytes = self.ready_bytes - before.ready_bytes + after.ready_bytes;
        self.aside_bytes = after.aside_bytes;
        Some(outcome)
    }

    /// What happened to tied jobs since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        self.loose.as_mut().map(|loose| loose.take_changes()).unwrap_or_default()
    }

    /// Whether something happened to tied jobs that is to be followed up.
    pub(crate) fn has_changes(&self) -> bool {
        self.loose.as_ref().is_some_and(|loose| loose.has_changes())
    }

    /// Nothing holds a job any more.
    pub(crate) fn admit(&mut self, lsn: Lsn) {
        self.with_loose(|loose| loose.admit(lsn));
    }

    /// A ready job gives way to a more urgent one.
    pub(crate) fn hold(&mut self, lsn: Lsn) {
        self.with_loose(|loose| loose.hold(lsn));
    }

    /// Has every tied job come in anew. Returns whether there are any.
    pub(crate) fn begin_ties(&mut self) -> bool {
        self.loose.as_mut().is_some_and(|loose| loose.begin_ties())
    }

    /// Jobs outside the lines.
    pub(crate) fn loose(&self) -> Option<&Loose> {
        self.loose.as_deref()
    }

    /// Where the next job that is buried goes.
    pub(crate) fn next_burial(&self) -> u64 {
        self.loose.as_ref().map_or(0, |loose| loose.next_burial())
    }

    /// As it was (from a snapshot).
    pub(crate) fn set_next_burial(&mut self, next: u64) {
        if next > 0 {
            self.loose.get_or_insert_default().set_next_burial(next);
        }
    }

    /// Makes the delayed jobs ready whose time has come.
    pub(crate) fn ripen(&mut self, now: u64) {
        if self.loose.as_ref().and_then(|loose| loose.next_due()).is_none_or(|due| due > now) {
            return;
        }
        self.may_expire = true;
        self.with_loose(|loose| while loose.ripen(now).is_some() {});
    }

    /// Whether nothing may be handed out now.
    pub(crate) const fn is_paused(&self, now: u64) -> bool {
        now < self.pause.0
    }

    /// Whether the next ready message stands outside the lines.
    pub(super) fn loose_first(&self) -> Option<Lsn> {
        let (rank, lsn) = self.loose.as_ref()?.first_ready()?;
        let level = self.levels.iter().find(|level| !level.line.is_empty());
        let is_first = level.is_none_or(|level| {
            let line = level.line.peek().and_then(|entry| entry.stored.lsn());
            (rank, Some(Lsn(lsn))) < (level.rank, line)
        });
        is_first.then_some(Lsn(lsn))
    }

    /// Rank and position of the next ready message; volatile ones are nobody's job.
    pub(crate) fn first(&self) -> Option<(u32, Lsn)> {
        if let Some(lsn) = self.loose_first() {
            let job = self.loose.as_ref()?.get(lsn)?;
            return Some((job.rank, lsn));
        }
        let level = self.levels.iter().find(|level| !level.line.is_empty())?;
        Some((level.rank, level.line.peek()?.stored.lsn()?))
    }

    /// Hands out a job that stands outside the lines, whatever its state.
    pub(crate) fn pop_loose(&mut self, lsn: Lsn) -> Option<Head> {
        let entry = self.with_loose(|loose| loose.hand_out(lsn))??;
        let is_redelivered = entry.returns > 0;
        let taken = Taken { seq: loose::number(lsn), is_redelivered, entry };
        Some(Head { level: 0, taken })
    }

    /// Hands out a ready message by its number in a line; the others stay where they are.
    pub(crate) fn pick(&mut self, level: u8, seq: u64) -> Option<Head> {
        let entry = self.existing(level)?.remove(seq)?;
        self.uncount(&entry);
        let is_redelivered = entry.returns > 0;
        Some(Head { level, taken: Taken { seq, is_redelivered, entry } })
    }

    pub(super) fn uncount(&mut self, entry: &Entry) {
        self.ready -= 1;
        self.ready_bytes -= u64::from(entry.body);
    }

    /// Where a message that nobody has stands: level, number and its state.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<(u8, u64, JobState)> {
        if let Some(job) = self.loose.as_ref().and_then(|loose| loose.get(lsn)) {
            return Some((0, loose::number(lsn), job.state()));
        }
        let mut lines = self.levels.iter().filter(|level| !level.line.is_empty());
        lines.find_map(|level| level.line.find(lsn).map(|seq| (level.number, seq, JobState::Ready)))
    }

    /// A ready message of a line, by its number.
    pub(crate) fn entry(&self, level: u8, seq: u64) -> Option<Entry> {
        self.levels.iter().find(|other| other.number == level)?.line.get(seq)
    }

    /// Takes a job away that will stand elsewhere outside the lines.
    pub(crate) fn lift(&mut self, lsn: Lsn) -> Option<Job> {
        self.with_loose(|loose| loose.lift(lsn))?
    }

    /// Writes on what workers made of a job outside the lines.
    pub(crate) fn note_attempt(&mut self, lsn: Lsn, note: impl FnOnce(&mut Past)) -> Option<()> {
        self.loose.as_mut()?.past_mut(lsn).map(note)
    }

    /// A message that was taken is done with: nothing is left of it in the queue.
    pub(crate) fn done(&mut self, seq: u64) {
        if let Some(lsn) = loose::position(seq) {
            self.with_loose(|loose| loose.remove(lsn));
        }
    }

    /// Delayed and buried messages.
    pub(crate) fn aside(&self) -> u64 {
        let (_, delayed, buried) = self.loose.as_ref().map_or((0, 0, 0), |loose| loose.counts());
        delayed + buried
    }

    /// Ready messages of a rank below 1024.
    pub(crate) fn urgent(&self) -> u64 {
        let levels = self.levels.iter().take_while(|level| level.rank < URGENT_BELOW);
        let lines: u64 = levels.map(|level| level.line.ready()).sum();
        lines + self.loose.as_ref().map_or(0, |loose| loose.urgent())
    }

    /// A queue that a door made for its jobs, that is empty and that nobody needs.
    pub(crate) fn is_vacant(&self, now: u64) -> bool {
        self.spec.options.kind == QueueKind::Jobs
            && self.keys.as_ref().is_none_or(|keys| !keys.is_kept(now))
            && self.users == 0
            && self.consumers.is_none()
            && self.ready + self.unsettled + self.aside() == 0
            && self.loose.as_ref().is_none_or(|loose| loose.is_empty())
    }

    /// The number of the line for jobs of a rank: that of the priority with this rank, or one that
    /// no priority has. `None` when there are none left.
    fn job_level(&self, rank: u32) -> Option<u8> {
        if let Ok(index) = self.levels.binary_search_by(|other| other.rank.cmp(&rank)) {
            return self.levels.get(index).map(|level| level.number);
        }
        let max = self.spec.options.priority_max;
        let priority = RANK.checked_sub(rank).filter(|above| above.is_multiple_of(256));
        let priority = priority.and_then(|above| u8::try_from(above / 256).ok());
        if priority.is_some_and(|priority| priority <= max) {
            return priority;
        }
        let is_free = |level: &u8| self.levels.iter().all(|other| other.number != *level);
        (1..=u8::MAX).filter(|level| *level > max).find(is_free)
    }

    /// The rank of a line.
    pub(crate) fn rank(&self, level: u8) -> u32 {
        let found = self.levels.iter().find(|other| other.number == level);
        found.map_or(RANK, |level| level.rank)
    }

    /// Numbers and ranks of all lines, lowest rank first.
    pub(crate) fn ranks(&self) -> impl ExactSizeIterator<Item = (u8, u32)> {
        self.levels.iter().map(|level| (level.number, level.rank))
    }

    /// Rank and delay of a job that stays as it is.
    pub(crate) fn stays(&self, level: u8, seq: u64) -> (u32, u32) {
        match loose::position(seq).and_then(|lsn| self.loose()?.get(lsn)) {
            Some(job) => (job.rank, job.delay_s),
            None => (self.rank(level), 0),
        }
    }
}
