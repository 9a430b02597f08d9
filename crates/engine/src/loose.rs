//! Jobs of a queue that stand outside its lines: delayed and buried ones, those that were released
//! or kicked, and those whose rank has no line of its own. Each is kept by the log position of its
//! message, which also is its number in the queue ([`LOOSE`]). What moves a job here is a record
//! ([`Shift`]) or its own message; what happens to it in between is `work.rs`.
//!
//! All is durable but who has it out. A job whose time has come is ready without a record: the
//! time stands in the state, and recovery sees it come again.

use std::collections::{BTreeMap, BTreeSet};

use model::{JobState, Lsn, QueueId, Ties};

use crate::fifo::{Entry, put_varint, take_varint};
use crate::record;
use crate::ties::{Change, may_be_held};
use crate::work::Past;

/// Marks the number of an entry that stands outside the lines; below it is its log position.
pub(crate) const LOOSE: u64 = 1 << 63;
/// Ranks below are urgent. Source: beanstalkd protocol 1.13, "stats".
pub(crate) const URGENT_BELOW: u32 = 1024;

/// The number of an entry that stands outside the lines.
pub(crate) const fn number(lsn: Lsn) -> u64 {
    LOOSE | lsn.0
}

/// The log position in such a number; `None` for a number of a line.
pub(crate) const fn position(seq: u64) -> Option<Lsn> {
    if seq & LOOSE == 0 { None } else { Some(Lsn(seq & !LOOSE)) }
}

/// How often what happened to a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub timeouts: u32,
    pub releases: u32,
    pub buries: u32,
    pub kicks: u32,
    pub failures: u32,
}

/// Why a job moves. The numbers are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    /// Its holder gave it back.
    Released = 0,
    /// Its lease ran out.
    TimedOut = 1,
    /// It was laid aside.
    Buried = 2,
    /// Somebody wanted it ready.
    Kicked = 3,
    /// Its holder is gone.
    Lost = 4,
    /// Its holder said that it failed; only as the end of a worker's attempt.
    Failed = 5,
}

impl Why {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Released,
            1 => Self::TimedOut,
            2 => Self::Buried,
            3 => Self::Kicked,
            4 => Self::Lost,
            5 => Self::Failed,
            _ => return None,
        })
    }
}

/// A job goes to stand outside the lines, or moves there. The payload of a `shift` record:
///
/// | size | type | meaning |
/// |---|---|---|
/// | 4 | u32 | `QueueId` |
/// | 1 | u8 | level of the line it is taken from |
/// | 1 | u8 | why (0 released, 1 timed out, 2 buried, 3 kicked, 4 lost, 5 failed) |
/// | 1 | u8 | bit 0: it was claimed; bit 1: it is buried now |
/// | 1-10 | varint | its number there; bit 63: outside the lines, at this log position |
/// | 1-5 | varint | rank from now on |
/// | 1-10 | varint | not ready before, ms since 1970; 0 is at once |
/// | 1-5 | varint | the delay it was given, in seconds |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shift {
    pub queue: QueueId,
    pub level: u8,
    pub seq: u64,
    pub why: Why,
    pub was_claimed: bool,
    pub is_buried: bool,
    pub rank: u32,
    pub due: u64,
    pub delay_s: u32,
}

impl Shift {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.queue.0.to_le_bytes());
        let flags = u8::from(self.was_claimed) | u8::from(self.is_buried) << 1;
        out.extend_from_slice(&[self.level, self.why as u8, flags]);
        put_varint(out, self.seq);
        put_varint(out, u64::from(self.rank));
        put_varint(out, self.due);
        put_varint(out, u64::from(self.delay_s));
    }

    pub(crate) fn read(mut rest: &[u8]) -> Option<Self> {
        let rest = &mut rest;
        let queue = QueueId(record::take_u32(rest)?);
        let level = record::take_u8(rest)?;
        let why = Why::from_number(record::take_u8(rest)?)?;
        let flags = record::take_u8(rest)?;
        let shift = Self {
            queue,
            level,
            why,
            was_claimed: flags & 1 != 0,
            is_buried: flags & 2 != 0,
            seq: take_varint(rest)?,
            rank: take_u32(rest)?,
            due: take_varint(rest)?,
            delay_s: take_u32(rest)?,
        };
        rest.is_empty().then_some(shift)
    }
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(rest)?).ok()
}

/// One such job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub entry: Entry,
    /// Lowest first.
    pub rank: u32,
    /// Not ready before, ms since 1970; 0 is at once.
    pub due: u64,
    /// The delay it was last given.
    pub delay_s: u32,
    /// Its place among the buried ones; `None` when it is not buried.
    pub burial: Option<u64>,
    pub tally: Tally,
    /// What else holds it.
    pub ties: Option<Box<Ties>>,
    /// What workers made of it.
    pub past: Option<Box<Past>>,
    /// It waits for others, see `ties.rs`. Volatile.
    is_held: bool,
    /// Somebody has it, or it is on its way out. Volatile.
    pub is_out: bool,
    /// Its time has not come; follows from `due` and the time. Volatile.
    is_waiting: bool,
    /// What must be durable before it is handed out. Volatile.
    pub changed: Lsn,
}

impl Job {
    /// A job that stands nowhere yet.
    pub(crate) const fn new(entry: Entry, rank: u32, due: u64, delay_s: u32) -> Self {
        let tally = Tally { timeouts: 0, releases: 0, buries: 0, kicks: 0, failures: 0 };
        Self {
            entry,
            rank,
            due,
            delay_s,
            burial: None,
            tally,
            ties: None,
            past: None,
            is_held: false,
            is_out: false,
            is_waiting: false,
            changed: Lsn::ZERO,
        }
    }

    fn may_be_held(&self) -> bool {
        self.ties.as_deref().is_some_and(may_be_held)
    }

    /// Where it is.
    pub(crate) const fn state(&self) -> JobState {
        if self.is_out {
            JobState::Claimed
        } else if self.burial.is_some() {
            JobState::Buried
        } else if self.is_waiting || self.is_held {
            JobState::Delayed
        } else {
            JobState::Ready
        }
    }
}

/// All such jobs of one queue, by the log positions of their messages.
#[derive(Debug, Default)]
pub(crate) struct Loose {
    jobs: BTreeMap<u64, Job>,
    ready: BTreeSet<(u32, u64)>,
    delayed: BTreeSet<(u64, u64)>,
    buried: BTreeMap<u64, u64>,
    next_burial: u64,
    /// How many wait for others.
    held: u64,
    /// Bytes of ready bodies.
    ready_bytes: u64,
    /// Bytes of delayed, held and buried bodies.
    aside_bytes: u64,
    /// What happened to tied jobs and was not followed up yet. Volatile.
    changes: Vec<Change>,
}

/// How much of what stands outside the lines, and in what state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub ready: u64,
    pub ready_bytes: u64,
    pub aside_bytes: u64,
}

impl Loose {
    /// The first ready one: rank and log position.
    pub(crate) fn first_ready(&self) -> Option<(u32, u64)> {
        self.ready.first().copied()
    }

    /// The first in a state; there is no order among claimed ones.
    pub(crate) fn first(&self, state: JobState) -> Option<Lsn> {
        match state {
            JobState::Ready => self.ready.first().map(|(_, lsn)| Lsn(*lsn)),
            JobState::Delayed => self.delayed.first().map(|(_, lsn)| Lsn(*lsn)),
            JobState::Buried => self.buried.values().next().map(|lsn| Lsn(*lsn)),
            JobState::Claimed => None,
        }
    }

    /// When the next delayed one is ready.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// How many are ready, delayed, buried.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let delayed = self.delayed.len() as u64 + self.held;
        (self.ready.len() as u64, delayed, self.buried.len() as u64)
    }

    /// What is ready, and the bytes of what is and is not.
    pub(crate) fn sums(&self) -> Sums {
        Sums {
            ready: self.ready.len() as u64,
            ready_bytes: self.ready_bytes,
            aside_bytes: self.aside_bytes,
        }
    }

    /// What happened to tied jobs since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether something is to be followed up.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// How many urgent ones are ready.
    pub(crate) fn urgent(&self) -> u64 {
        self.ready.range(..(URGENT_BELOW, 0)).count() as u64
    }

    /// No job stands here, out ones included.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn get(&self, lsn: Lsn) -> Option<&Job> {
        self.jobs.get(&lsn.0)
    }

    /// What workers made of a job, to be written on.
    pub(crate) fn past_mut(&mut self, lsn: Lsn) -> Option<&mut Past> {
        self.jobs.get_mut(&lsn.0).map(|job| &mut **job.past.get_or_insert_default())
    }

    /// All, by position.
    pub(crate) fn all(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.jobs.values()
    }

    /// Positions of all inside `range`.
    pub(crate) fn positions(&self, range: &std::ops::Range<Lsn>) -> impl Iterator<Item = Lsn> {
        self.jobs.range(range.start.0..range.end.0).map(|(lsn, _)| Lsn(*lsn))
    }

    /// Puts a job in its place. One with a time stands among the delayed ones until
    /// [`Loose::ripen`] is told that the time has come; one that may have to wait for others does
    /// until [`Loose::admit`].
    pub(crate) fn insert(&mut self, mut job: Job) {
        let Some(Lsn(lsn)) = job.entry.stored.lsn() else { return };
        (job.is_out, job.is_held) = (false, false);
        job.is_waiting = job.burial.is_none() && job.due > 0;
        self.jobs.insert(lsn, job);
        self.list(lsn);
    }

    /// As [`Loose::insert`], for a job that has just come in.
    pub(crate) fn take_in(&mut self, job: Job) {
        if let Some(lsn) = job.entry.stored.lsn().filter(|_| job.ties.is_some()) {
            self.changes.push(Change::Came(lsn));
        }
        self.insert(job);
    }

    /// Puts a job that stands nowhere into the order of its state.
    fn list(&mut self, lsn: u64) {
        let Some(job) = self.jobs.get_mut(&lsn) else { return };
        let body = u64::from(job.entry.body);
        let may_be_held = job.may_be_held();
        if let Some(order) = job.burial {
            self.buried.insert(order, lsn);
            self.next_burial = self.next_burial.max(order + 1);
        } else if job.is_waiting {
            self.delayed.insert((job.due, lsn));
        } else if may_be_held {
            job.is_held = true;
            self.held += 1;
            self.changes.push(Change::Wants(Lsn(lsn)));
        } else {
            self.ready.insert((job.rank, lsn));
            self.ready_bytes += body;
            return;
        }
        self.aside_bytes += body;
        if may_be_held && !job.is_held {
            self.changes.push(Change::Idles(Lsn(lsn)));
        }
    }

    /// Nothing holds a job any more.
    pub(crate) fn admit(&mut self, lsn: Lsn) {
        let Some(job) = self.jobs.get_mut(&lsn.0).filter(|job| job.is_held && !job.is_out) else {
            return;
        };
        job.is_held = false;
        self.held -= 1;
        self.aside_bytes -= u64::from(job.entry.body);
        self.ready_bytes += u64::from(job.entry.body);
        self.ready.insert((job.rank, lsn.0));
    }

    /// A ready job gives way to a more urgent one.
    pub(crate) fn hold(&mut self, lsn: Lsn) {
        let Some(job) = self.jobs.get_mut(&lsn.0) else { return };
        if self.ready.remove(&(job.rank, lsn.0)) {
            job.is_held = true;
            self.held += 1;
            self.ready_bytes -= u64::from(job.entry.body);
            self.aside_bytes += u64::from(job.entry.body);
        }
    }

    /// Has every tied job come in anew. Returns whether there are any.
    pub(crate) fn begin_ties(&mut self) -> bool {
        self.changes.clear();
        for (lsn, job) in &self.jobs {
            if job.ties.is_some() {
                self.changes.push(Change::Came(Lsn(*lsn)));
            }
        }
        for (lsn, job) in &self.jobs {
            if job.is_held {
                self.changes.push(Change::Wants(Lsn(*lsn)));
            }
        }
        !self.changes.is_empty()
    }

    /// The place of the next one to be buried.
    pub(crate) const fn next_burial(&self) -> u64 {
        self.next_burial
    }

    /// No burial before this place, whatever is buried now.
    pub(crate) fn set_next_burial(&mut self, next: u64) {
        self.next_burial = self.next_burial.max(next);
    }

    /// Takes a job out of the order it stands in; it is still of the queue.
    fn unlist(&mut self, lsn: u64) {
        let Some(job) = self.jobs.get_mut(&lsn) else { return };
        let body = u64::from(job.entry.body);
        match job.state() {
            JobState::Claimed => return,
            JobState::Ready => {
                self.ready.remove(&(job.rank, lsn));
                self.ready_bytes -= body;
                return;
            }
            JobState::Delayed if job.is_held => {
                job.is_held = false;
                self.held -= 1;
            }
            JobState::Delayed => {
                self.delayed.remove(&(job.due, lsn));
            }
            JobState::Buried => {
                if let Some(order) = job.burial {
                    self.buried.remove(&order);
                }
            }
        }
        self.aside_bytes -= body;
    }

    /// Hands a job out.
    pub(crate) fn hand_out(&mut self, lsn: Lsn) -> Option<Entry> {
        self.unlist(lsn.0);
        let job = self.jobs.get_mut(&lsn.0)?;
        job.is_out = true;
        Some(job.entry.clone())
    }

    /// A job that was handed out is ready again, in its place, with this many returns. A buried or
    /// delayed one that was claimed by its id lies there no longer.
    pub(crate) fn give_back(&mut self, lsn: Lsn, returns: u32) {
        let Some(mut job) = self.lift(lsn) else { return };
        job.entry.returns = returns;
        (job.burial, job.due) = (None, 0);
        self.insert(job);
    }

    /// Takes a job away that will stand elsewhere.
    pub(crate) fn lift(&mut self, lsn: Lsn) -> Option<Job> {
        self.unlist(lsn.0);
        self.jobs.remove(&lsn.0)
    }

    /// Removes a job for good.
    pub(crate) fn remove(&mut self, lsn: Lsn) -> Option<Entry> {
        let job = self.lift(lsn)?;
        if let Some(ties) = job.ties {
            self.changes.push(Change::Gone(lsn, ties));
        }
        Some(job.entry)
    }

    /// Takes the next delayed job whose time has come by `now` out of the delayed ones.
    pub(crate) fn ripen(&mut self, now: u64) -> Option<()> {
        let (_, lsn) = self.delayed.first().copied().filter(|(due, _)| *due <= now)?;
        self.unlist(lsn);
        self.jobs.get_mut(&lsn)?.is_waiting = false;
        self.list(lsn);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fifo::{NEVER, Stored};

    fn job(lsn: u64, rank: u32, due: u64) -> Job {
        let stored = Stored::Log(Lsn(lsn));
        let entry = Entry { stored, expires: NEVER, body: 1, head: 9, returns: 0, lease_s: 1 };
        Job::new(entry, rank, due, 0)
    }

    #[test]
    fn a_shift_reads_back() {
        let shift = Shift {
            queue: QueueId(7),
            level: 3,
            seq: number(Lsn(99)),
            why: Why::Lost,
            was_claimed: true,
            is_buried: true,
            rank: u32::MAX,
            due: 1 << 50,
            delay_s: 12,
        };
        let mut bytes = Vec::new();
        shift.put(&mut bytes);
        assert_eq!(Shift::read(&bytes), Some(shift));
        for length in 0..bytes.len() {
            assert_eq!(Shift::read(&bytes[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn the_lowest_rank_then_the_oldest_is_first() {
        let mut loose = Loose::default();
        for (lsn, rank) in [(10, 5), (20, 5), (5, 9), (30, 1)] {
            loose.insert(job(lsn, rank, 0));
        }
        let mut order = Vec::new();
        while let Some((_, lsn)) = loose.first_ready() {
            order.push(lsn);
            loose.hand_out(Lsn(lsn));
        }
        assert_eq!(order, [30, 10, 20, 5]);
        loose.give_back(Lsn(20), 1);
        assert_eq!(loose.first_ready(), Some((5, 20)));
    }

    #[test]
    fn a_delayed_job_is_ready_when_its_time_has_come() {
        let mut loose = Loose::default();
        loose.insert(job(1, 0, 500));
        assert_eq!(loose.ripen(499), None);
        assert_eq!(loose.next_due(), Some(500));
        assert_eq!(loose.sums().aside_bytes, 1);
        assert_eq!(loose.ripen(500), Some(()));
        assert_eq!(loose.counts(), (1, 0, 0));
        assert_eq!((loose.sums().ready_bytes, loose.sums().aside_bytes), (1, 0));
    }
}
