//! [`Backup`]: from a snapshot and fetched records to the bytes of a backup file, step by step and
//! without waiting. Not here: where records come from and what keeps them ([`super`]). Driven by
//! the binary on a thread of its own, and by tests.

use std::rc::Rc;
use std::sync::Arc;

use engine::{Snapshot, SnapshotCursor};
use journal::backup::{Head, Summary, Writer};
use model::{Lsn, Millis};

use super::{Answer, NoBackup};
use crate::checkpoint;
use crate::node::Node;

/// About so many bytes come out of one step, and are read at once.
const STEP_BYTES: usize = 1024 * 1024;
/// Most records read at once.
const RECORDS_MAX: usize = 1024;

/// What [`Backup::step`] wants.
#[derive(Debug)]
pub enum Step {
    /// The next bytes of the file.
    Bytes(Vec<u8>),
    /// These records, with the next step.
    Fetch(Vec<Lsn>),
    /// The last bytes of the file, and what it holds.
    Done(Vec<u8>, Summary),
}

/// A backup in the making; see the module's head. May be moved to another thread.
#[derive(Debug)]
pub struct Backup {
    snapshot: Arc<Snapshot>,
    head: Head,
    writer: Option<Writer>,
    stage: Stage,
    /// Most records asked for at once.
    records_max: usize,
}

#[derive(Debug)]
enum Stage {
    /// Nothing is written before everything in it is durable.
    Waiting {
        is_asked: bool,
    },
    State(SnapshotCursor),
    /// Positions still to be read, last first, and how many to ask for at once.
    Records {
        left: Vec<Lsn>,
        count: usize,
        hash: u64,
    },
}

impl Backup {
    pub(super) fn new(snapshot: Arc<Snapshot>, head: Head) -> Self {
        let stage = Stage::Waiting { is_asked: false };
        Self { snapshot, head, writer: None, stage, records_max: RECORDS_MAX }
    }

    /// Asks for at most so many records at once: simulations want much to happen in between.
    #[must_use]
    pub const fn in_slices_of(mut self, records: usize) -> Self {
        self.records_max = if records < RECORDS_MAX { records } else { RECORDS_MAX };
        self
    }

    /// The position of the state.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.head.lsn
    }

    /// Goes on. After [`Step::Fetch`] the answer must be given. Takes milliseconds: use another
    /// thread where that matters.
    ///
    /// # Errors
    /// A record is missing: break the backup off.
    pub fn step(&mut self, answer: Option<Answer>) -> Result<Step, NoBackup> {
        let mut out = Vec::new();
        match (&mut self.stage, &mut self.writer) {
            (Stage::Waiting { is_asked: is_asked @ false }, _) => {
                *is_asked = true;
                return Ok(Step::Fetch(Vec::new()));
            }
            (Stage::Waiting { .. }, writer) => {
                *writer = Some(Writer::begin(self.head, &mut out));
                self.stage = Stage::State(SnapshotCursor::default());
            }
            (Stage::State(_), Some(_)) => self.write_state(&mut out),
            (Stage::Records { left, count, hash }, Some(writer)) => {
                if let Some(answer) = answer {
                    *count =
                        put_records(&answer, left, writer, &mut out)?.clamp(1, self.records_max);
                    return Ok(Step::Bytes(out));
                }
                let first = left.len().saturating_sub(*count);
                let mut wanted = left.split_off(first);
                wanted.reverse();
                if !wanted.is_empty() {
                    return Ok(Step::Fetch(wanted));
                }
                let hash = *hash;
                let Some(writer) = self.writer.take() else { return Err(NoBackup::Ended) };
                let summary = writer.finish(hash, &mut out);
                return Ok(Step::Done(out, summary));
            }
            (Stage::State(_) | Stage::Records { .. }, None) => return Err(NoBackup::Ended),
        }
        Ok(Step::Bytes(out))
    }

    fn write_state(&mut self, out: &mut Vec<u8>) {
        let (Stage::State(cursor), Some(writer)) = (&mut self.stage, &mut self.writer) else {
            return;
        };
        let mut piece = Vec::new();
        while piece.len() < STEP_BYTES {
            if !self.snapshot.write_next(cursor, &mut piece) {
                let hash = cursor.hash();
                piece.extend_from_slice(&checkpoint::seal(hash));
                let mut left = Vec::new();
                self.snapshot.live(&(Lsn::ZERO..self.head.lsn), &mut left);
                left.reverse();
                writer.state(&piece, out);
                self.stage = Stage::Records { left, count: self.records_max, hash };
                return;
            }
        }
        writer.state(&piece, out);
    }

    /// The last bytes of a file that stays unfinished: it says why.
    #[must_use]
    pub fn break_off(self, why: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let writer = self.writer.unwrap_or_else(|| Writer::begin(self.head, &mut out));
        writer.break_off(why, &mut out);
        out
    }
}

/// A backup taken where the node is: one step at a time, with turns of the node in between. For
/// a stopped server's data, simulations and tests.
#[derive(Debug)]
pub struct InlineBackup {
    backup: Backup,
    answer: Option<Answer>,
    is_waiting: bool,
}

impl InlineBackup {
    /// Starts a backup that reads at most so many records at once.
    ///
    /// # Errors
    /// As [`Node::begin_backup`].
    pub fn begin(node: &mut Node, now: Millis, records_max: usize) -> Result<Self, NoBackup> {
        let backup = node.begin_backup(now, Rc::new(|| {}))?.in_slices_of(records_max);
        Ok(Self { backup, answer: None, is_waiting: false })
    }

    /// The position of the state.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.backup.lsn()
    }

    /// Appends the next bytes of the file, if there are any before the node's next turn. Tells
    /// what the backup holds when it is whole.
    ///
    /// # Errors
    /// The backup is over and unfit; nothing is kept for it any more.
    pub fn poll(
        &mut self,
        node: &mut Node,
        out: &mut Vec<u8>,
    ) -> Result<Option<Summary>, NoBackup> {
        let polled = self.step(node, out);
        if !matches!(polled, Ok(None)) {
            node.end_backup();
        }
        polled
    }

    fn step(&mut self, node: &mut Node, out: &mut Vec<u8>) -> Result<Option<Summary>, NoBackup> {
        if self.is_waiting {
            let Some(answer) = node.take_for_backup() else { return Ok(None) };
            self.answer = Some(answer?);
            self.is_waiting = false;
        }
        match self.backup.step(self.answer.take())? {
            Step::Bytes(bytes) => out.extend_from_slice(&bytes),
            Step::Fetch(wanted) => {
                node.fetch_for_backup(wanted);
                self.is_waiting = true;
            }
            Step::Done(bytes, summary) => {
                out.extend_from_slice(&bytes);
                return Ok(Some(summary));
            }
        }
        Ok(None)
    }

    /// The last bytes of a file that stays unfinished: it says why.
    #[must_use]
    pub fn break_off(self, why: &str) -> Vec<u8> {
        self.backup.break_off(why)
    }
}

/// Writes fetched records; what was not read is asked for again. Returns how many to ask for.
fn put_records(
    answer: &Answer,
    left: &mut Vec<Lsn>,
    writer: &mut Writer,
    out: &mut Vec<u8>,
) -> Result<usize, NoBackup> {
    let gone = answer.records.iter().find(|(_, record)| record.is_none());
    if let Some((lsn, _)) = gone {
        return Err(NoBackup::Missing(lsn));
    }
    writer.records(answer.records.iter().filter_map(|(_, record)| record), out);
    left.extend(answer.unread.iter().rev());
    let average = out.len() / answer.records.len().max(1);
    Ok(STEP_BYTES / average.max(1))
}
