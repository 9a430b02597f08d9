//! What was done with jobs since the data directory was made: counters that survive a restart.
//! Written down some seconds after they changed, so a crash takes back at most those; the number
//! of messages is exact, for it follows from the messages' own records.

use model::{Log, WorkCount};

use crate::Engine;
use crate::channel::Turn;
use crate::fifo::{put_varint, take_varint};
use crate::record;

/// Changed counters are written down after so long.
const WRITE_AFTER_MS: u64 = 10_000;

/// The counters. As a record and in a snapshot: varints in the order of the fields, the counts
/// behind their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Messages that ever came into a durable queue.
    pub jobs: u64,
    /// Leases that ran out.
    pub timeouts: u64,
    /// Sessions that worked with jobs.
    pub sessions: u64,
    pub counts: [u64; WorkCount::ALL],
}

impl Done {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.jobs, self.timeouts, self.sessions, self.counts.len() as u64] {
            put_varint(out, number);
        }
        for count in self.counts {
            put_varint(out, count);
        }
    }

    /// Counts that a newer release knows are left out.
    pub(crate) fn take(rest: &mut &[u8]) -> Option<Self> {
        let (jobs, timeouts) = (take_varint(rest)?, take_varint(rest)?);
        let mut done = Self { jobs, timeouts, sessions: take_varint(rest)?, ..Self::default() };
        let mut places = done.counts.iter_mut();
        for _ in 0..take_varint(rest)? {
            let count = take_varint(rest)?;
            if let Some(place) = places.next() {
                *place = count;
            }
        }
        Some(done)
    }

    pub(crate) fn read(mut rest: &[u8]) -> Option<Self> {
        let done = Self::take(&mut rest)?;
        rest.is_empty().then_some(done)
    }

    /// Takes over what was written down; messages are counted where they come in.
    pub(crate) fn note(&mut self, other: &Self) {
        *self = Self { jobs: self.jobs, ..other.clone() };
    }
}

/// The counters as they are now. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub now: Done,
    /// When they have to be written down, ms since 1970.
    due: Option<u64>,
}

impl Counting {
    /// After recovery.
    pub(crate) fn begin(done: Done) -> Self {
        Self { now: done, due: None }
    }

    pub(super) fn count(&mut self, now: u64, what: WorkCount) {
        if let Some(count) = self.now.counts.get_mut(what as usize) {
            *count += 1;
        }
        self.changed(now);
    }

    pub(super) fn begin_session(&mut self, now: u64) {
        self.now.sessions += 1;
        self.changed(now);
    }

    pub(super) fn time_out(&mut self, now: u64) {
        self.now.timeouts += 1;
        self.changed(now);
    }

    fn changed(&mut self, now: u64) {
        self.due.get_or_insert_with(|| now.saturating_add(WRITE_AFTER_MS));
    }

    /// When they have to be written down.
    pub(crate) const fn due(&self) -> Option<u64> {
        self.due
    }
}

impl Engine {
    /// Writes changed counters down when it is time.
    pub(crate) fn write_done<L: Log>(&mut self, turn: &mut Turn<'_, L>) {
        if self.done.due.is_none_or(|due| due > turn.now()) {
            return;
        }
        self.done.due = None;
        let mut bytes = Vec::new();
        self.done.now.jobs = self.state.done.jobs;
        self.done.now.put(&mut bytes);
        record::append(turn.log, record::WORK_DONE, &bytes);
        self.state.done.note(&self.done.now);
    }
}
