//! What keeps the log small and a restart short: checkpoints, and telling the journal which
//! records are still needed. Also the reads that the engine itself asks for. Called by `node` at
//! the end of every turn; all real work happens on the journal's background thread.

use std::collections::BTreeMap;
use std::ops::Range;

use engine::{Engine, Read};
use journal::{Fault, Fetched, Liveness, Progress, Room, Usage};
use model::{Lsn, Millis, SessionId};

use crate::backup::{BACKUP_TOKEN, Pinned};
use crate::checkpoint;
use crate::cold;
use crate::node::Node;

/// Marks fetch tokens of the engine's own reads; session ids never have this bit.
const ENGINE_TOKEN: u64 = 1 << 63;
/// Most records the engine may have under way in one fetch.
const READS_MAX: usize = 256;

/// State of the upkeep.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    is_checkpointing: bool,
    /// What failed for lack of space is to be tried again.
    pub(crate) is_wanted: bool,
    /// The engine's reads that are with the background thread, by token.
    fetching: BTreeMap<u64, Vec<Read>>,
    tokens: u64,
}

impl Upkeep {
    pub(crate) fn note(&mut self, progress: &Progress) {
        if let Some((lsn, outcome)) = &progress.checkpoint {
            self.is_checkpointing = false;
            if let Err(fault) = outcome {
                tracing::warn!(%lsn, %fault, "a checkpoint was not written; trying again later");
            }
        }
    }

    /// Whether nothing waits for the background thread.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_checkpointing && self.fetching.is_empty()
    }
}

/// The engine, and a backup that is being taken, as the journal asks them.
struct Living<'a> {
    engine: &'a Engine,
    backup: Option<Pinned<'a>>,
}

impl Liveness for Living<'_> {
    fn usage(&self, range: Range<Lsn>) -> Usage {
        let usage = self.engine.usage(range.clone());
        let usage = Usage { records: usage.records, bytes: usage.bytes };
        match &self.backup {
            None => usage,
            Some(pinned) => pinned.usage(&range, usage),
        }
    }

    fn live(&self, range: Range<Lsn>, out: &mut Vec<Lsn>) {
        self.engine.live(range.clone(), out);
        if let Some(pinned) = &self.backup {
            pinned.live(&range, out);
        }
    }
}

impl Node {
    /// Starts a checkpoint or a pass over old segments when one is due.
    pub(crate) fn keep_up(&mut self) -> Result<(), Fault> {
        self.upkeep.is_wanted = false;
        if self.log.journal.checkpoint_due() && !self.upkeep.is_checkpointing {
            self.begin_checkpoint()?;
        }
        let living = Living { engine: &self.engine, backup: self.backups.pinned() };
        self.log.journal.maintain(&living)
    }

    /// Makes sure that every message that is still queued has a file.
    pub(crate) fn check_needed(&self) -> Result<(), Fault> {
        let living = Living { engine: &self.engine, backup: None };
        self.log.journal.check_needed(&living)
    }

    /// Takes a snapshot now; the journal writes it once everything in it is durable.
    pub(crate) fn begin_checkpoint(&mut self) -> Result<(), Fault> {
        let lsn = self.log.journal.next_lsn();
        let snapshot = self.engine.snapshot();
        self.upkeep.is_checkpointing = true;
        self.is_sync_wanted |= lsn > self.log.journal.durable();
        self.log.journal.checkpoint(lsn, Box::new(move |out| checkpoint::write(&snapshot, out)))
    }

    /// Whether the engine's reads have to wait: each makes it write a copy, a dead letter, and
    /// thousands that die at once must not take the room that acknowledgements need.
    pub(crate) fn is_held_back(&self) -> bool {
        match self.log.journal.room() {
            Room::Free => false,
            Room::Wait => true,
            Room::Full => self.log.journal.is_tight(0),
        }
    }

    /// Serves the engine's reads: from memory at once, the rest in the background.
    pub(crate) fn read_for_engine(&mut self, now: Millis) -> Result<(), Fault> {
        let durable = self.log.journal.durable();
        let mut cold = Vec::new();
        let mut payload = Vec::new();
        for _ in 0..self.reads.len().min(READS_MAX) {
            if self.is_held_back() {
                break;
            }
            let Some(read) = self.reads.pop_front() else { break };
            if read.lsn >= durable {
                self.reads.push_back(read);
                self.is_sync_wanted = true;
            } else if let Some(record) = self.log.journal.read_hot(read.lsn) {
                payload.clear();
                payload.extend_from_slice(record.payload);
                self.resume_with(now, read, &payload);
            } else {
                cold.push(read);
            }
        }
        if cold.is_empty() {
            return Ok(());
        }
        self.upkeep.tokens = self.upkeep.tokens.wrapping_add(1);
        let token = ENGINE_TOKEN | self.upkeep.tokens;
        let wanted = cold.iter().map(|read| read.lsn).collect();
        self.upkeep.fetching.insert(token, cold);
        self.log.journal.fetch(wanted, token)
    }

    /// Sorts the answer of a fetch to whoever asked. What cannot be read ends the node, and for
    /// good: the journal would go on, but a consumer must not wait for ever for what is damaged.
    pub(crate) fn take_fetched(&mut self, now: Millis, fetched: Fetched) -> Result<(), Fault> {
        let sorted = self.sort_fetched(now, fetched);
        if let Err(fault) = &sorted {
            self.log.poison(fault.clone());
        }
        sorted
    }

    fn sort_fetched(&mut self, now: Millis, fetched: Fetched) -> Result<(), Fault> {
        if fetched.token & BACKUP_TOKEN == BACKUP_TOKEN {
            self.backups.fetched(fetched);
            return Ok(());
        }
        let Fetched { token, records, unread } = fetched;
        let records = records?;
        if token & ENGINE_TOKEN == 0 {
            if let Some(mailbox) = self.mailboxes.get_mut(SessionId(token)) {
                mailbox.cold.put(records);
                (mailbox.wake)();
            }
            return Ok(());
        }
        let reads = self.upkeep.fetching.remove(&token).unwrap_or_default();
        for read in reads {
            if unread.contains(&read.lsn) || self.is_held_back() {
                self.reads.push_back(read);
                continue;
            }
            let found = records.iter().find(|(lsn, _)| *lsn == read.lsn);
            let Some(record) = found.and_then(|(_, record)| record) else {
                return Err(cold::lost(&self.log.journal, read.lsn));
            };
            self.resume_with(now, read, record.payload);
        }
        Ok(())
    }
}
