//! Online backups: the state at one position and every message it refers to, while work goes on.
//!
//! Lives here: the moment, and what must not be forgotten meanwhile. Not here: making the file
//! ([`steps`], `journal::backup`), reading one back ([`restore`]), sending it anywhere. The binary
//! and tests drive one so, with a turn of the node wherever they wait:
//!
//! ```text
//! begin_backup -> step(None) -> Fetch: fetch_for_backup ... take_for_backup -> step(answer)
//!                            -> Bytes: send them -> step(None)
//!                            -> Done: end_backup
//! ```
//!
//! The node does nothing slow: a snapshot shares its chunks with the engine, records are read by
//! the journal's background thread, and `step` may run on any thread. What the snapshot refers to
//! and is not read yet counts as needed when the journal retires a segment or rewrites survivors;
//! nothing else is held back, so a slow reader costs disk space, at most what the state referred
//! to when it was taken, and never time.

mod restore;
mod steps;

use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use engine::Snapshot;
use journal::backup::Head;
use journal::{Fetched, Records, Usage};
use model::{Lsn, Millis};

use crate::alarm::Alarm;
use crate::node::Node;

pub use restore::{Restored, Unfit, restore_backup, verify_backup};
pub use steps::{Backup, InlineBackup, Step};

/// Marks fetch tokens of backups; those of the engine lack the second bit, sessions the first.
pub(crate) const BACKUP_TOKEN: u64 = 0b11 << 62;
/// Why there is no backup, or not more of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoBackup {
    /// One is being taken.
    #[error("another backup is being taken; wait until it is done")]
    Busy,
    /// The disk is nearly full.
    #[error("the disk is nearly full, and a backup keeps space from coming back; free some first")]
    DiskLow,
    /// A record could not be read.
    #[error("could not read a message: {0}")]
    Unreadable(String),
    /// A record is not where it should be.
    #[error("the message at log position {0} is missing from its files")]
    Missing(Lsn),
    /// The backup was ended.
    #[error("the backup was ended")]
    Ended,
}

/// All backups of a node: at most one.
#[derive(Debug, Default)]
pub(crate) struct Backups {
    running: Option<Running>,
    /// Counts backups, so that a late answer goes to nobody.
    id: u64,
}

struct Running {
    lsn: Lsn,
    snapshot: Arc<Snapshot>,
    /// Records before it were read.
    cursor: Lsn,
    /// What the taker waits for, once the log is durable up to `lsn`.
    answer: Option<Result<Answer, NoBackup>>,
    is_rung: bool,
    wake: Rc<dyn Fn()>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("lsn", &self.lsn)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// Records that were asked for with [`Node::fetch_for_backup`].
#[derive(Debug)]
pub struct Answer {
    records: Records,
    unread: Vec<Lsn>,
}

/// What a running backup still needs.
pub(crate) struct Pinned<'a> {
    snapshot: &'a Snapshot,
    needed: Range<Lsn>,
}

impl Pinned<'_> {
    fn overlap(&self, range: &Range<Lsn>) -> Range<Lsn> {
        range.start.max(self.needed.start)..range.end.min(self.needed.end)
    }

    /// Counts all of it as needed: too high, and cheap. Survivors are not rewritten meanwhile.
    pub(crate) fn usage(&self, range: &Range<Lsn>, usage: Usage) -> Usage {
        if self.overlap(range).is_empty() {
            return usage;
        }
        let bytes = range.end.0.saturating_sub(range.start.0);
        Usage { records: usage.records.max(1), bytes: usage.bytes.max(bytes) }
    }

    /// Adds what is needed to what the engine needs; in order, without repeats.
    pub(crate) fn live(&self, range: &Range<Lsn>, out: &mut Vec<Lsn>) {
        let range = self.overlap(range);
        if !range.is_empty() {
            self.snapshot.live(&range, out);
            out.sort_unstable();
            out.dedup();
        }
    }
}

impl Backups {
    /// What the journal must not forget.
    pub(crate) fn pinned(&self) -> Option<Pinned<'_>> {
        let running = self.running.as_ref()?;
        let is_over = matches!(running.answer, Some(Err(_)));
        let needed = running.cursor..running.lsn;
        (!is_over).then_some(Pinned { snapshot: &running.snapshot, needed })
    }

    /// Takes the answer of a fetch.
    pub(crate) fn fetched(&mut self, fetched: Fetched) {
        let is_current = fetched.token == BACKUP_TOKEN | self.id;
        let Some(running) = self.running.as_mut().filter(|_| is_current) else { return };
        if matches!(running.answer, Some(Err(_))) {
            return;
        }
        let unread = fetched.unread;
        running.answer = Some(match fetched.records {
            Ok(records) => Ok(Answer { records, unread }),
            Err(fault) => Err(NoBackup::Unreadable(fault.to_string())),
        });
    }
}

impl Node {
    /// Starts a backup of the state as it is now. `wake` is called when
    /// [`Node::take_for_backup`] has something. End it with [`Node::end_backup`].
    ///
    /// # Errors
    /// [`NoBackup::Busy`], [`NoBackup::DiskLow`].
    pub fn begin_backup(&mut self, now: Millis, wake: Rc<dyn Fn()>) -> Result<Backup, NoBackup> {
        if self.backups.running.is_some() {
            return Err(NoBackup::Busy);
        }
        if self.is_alarmed(Alarm::Disk) {
            return Err(NoBackup::DiskLow);
        }
        let lsn = self.log.journal.next_lsn();
        let snapshot = Arc::new(self.engine.snapshot());
        self.backups.id = (self.backups.id + 1) & !BACKUP_TOKEN;
        self.backups.running = Some(Running {
            lsn,
            snapshot: Arc::clone(&snapshot),
            cursor: Lsn::ZERO,
            answer: None,
            is_rung: false,
            wake,
        });
        tracing::info!(%lsn, "a backup begins");
        Ok(Backup::new(snapshot, Head { lsn, began_ms: now.0 }))
    }

    /// Asks for records, rising from call to call; one call at a time. The answer is held back
    /// until everything in the backup is durable.
    pub fn fetch_for_backup(&mut self, wanted: Vec<Lsn>) {
        let Some(running) = &mut self.backups.running else { return };
        self.is_sync_wanted |= running.lsn > self.log.journal.durable();
        running.is_rung = false;
        if let Some(first) = wanted.first() {
            running.cursor = *first;
        }
        let token = BACKUP_TOKEN | self.backups.id;
        if let Err(fault) = self.log.journal.fetch(wanted, token) {
            running.answer = Some(Err(NoBackup::Unreadable(fault.to_string())));
        }
    }

    /// The answer to [`Node::fetch_for_backup`], when it is there.
    ///
    /// # Errors
    /// Why the backup is over: give it up with [`Backup::break_off`].
    pub fn take_for_backup(&mut self) -> Option<Result<Answer, NoBackup>> {
        let durable = self.log.journal.durable();
        let Some(running) = &mut self.backups.running else { return Some(Err(NoBackup::Ended)) };
        match &running.answer {
            Some(Err(why)) => Some(Err(why.clone())),
            Some(Ok(_)) if durable >= running.lsn => running.answer.take(),
            Some(Ok(_)) | None => None,
        }
    }

    /// A backup is done or given up: nothing is kept for it any more.
    pub fn end_backup(&mut self) {
        if let Some(running) = self.backups.running.take() {
            tracing::info!(lsn = %running.lsn, "the backup is over");
        }
    }

    /// Tells the taker when an answer is there, and ends a backup for which there is no room.
    pub(crate) fn watch_backup(&mut self) {
        if self.backups.running.is_none() {
            return;
        }
        let is_low = self.is_alarmed(Alarm::Disk);
        let durable = self.log.journal.durable();
        let Some(running) = &mut self.backups.running else { return };
        if is_low && !matches!(running.answer, Some(Err(_))) {
            running.answer = Some(Err(NoBackup::DiskLow));
            running.is_rung = false;
        }
        let is_there = match &running.answer {
            None => false,
            Some(Ok(_)) => durable >= running.lsn,
            Some(Err(_)) => true,
        };
        if is_there && !std::mem::replace(&mut running.is_rung, true) {
            (running.wake)();
        }
    }
}
