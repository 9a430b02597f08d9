//! Bodies that are no longer in memory: which to fetch for a mailbox, and the fetched ones until
//! they are delivered. Reading them is the journal's background thread's work. Called by `node`.

use std::collections::VecDeque;

use engine::Place;
use journal::{Fault, Journal, Records};
use model::{Lsn, SessionId};

use crate::log::CommitLog;
use crate::mailbox::Mailbox;
use crate::node::log_place;

/// Most bodies fetched at once for one session.
const FETCH_MAX: usize = 512;
/// Most bytes of bodies fetched at once for one session (one body may be larger).
const FETCH_BYTES_MAX: u64 = 1024 * 1024;

/// Fetched records of one session, in the order in which they will be delivered.
#[derive(Debug, Default)]
pub(crate) struct ColdRecords {
    /// The answers, and how many records of the first are delivered.
    batches: VecDeque<Records>,
    used: usize,
    /// A fetch is under way.
    is_fetching: bool,
}

impl ColdRecords {
    /// Takes the answer of a fetch in.
    pub(crate) fn put(&mut self, records: Records) {
        self.is_fetching = false;
        self.batches.push_back(records);
    }

    /// Moves to the record with this address; what is passed over is dropped.
    fn seek(&mut self, lsn: Lsn) -> bool {
        while let Some(batch) = self.batches.front() {
            while let Some((found, _)) = batch.get(self.used) {
                if found == lsn {
                    return true;
                }
                self.used = self.used.saturating_add(1);
            }
            self.batches.pop_front();
            self.used = 0;
        }
        false
    }

    /// The record that [`ColdRecords::seek`] found.
    fn current(&self) -> Option<&[u8]> {
        let (_, record) = self.batches.front()?.get(self.used)?;
        Some(record?.payload)
    }
}

/// Where the stored message of a delivery is.
pub(crate) enum Found<'a> {
    /// In memory.
    Here(&'a [u8]),
    /// On disk: fetch it and come again.
    Cold,
    /// The log does not have it, although it is needed: something removed a file.
    Lost(Lsn),
}

/// Looks for the stored message of a delivery.
pub(crate) fn find<'a>(
    journal: &'a Journal,
    cold: &'a mut ColdRecords,
    place: &'a Place,
) -> Found<'a> {
    let lsn = match place {
        Place::Memory(bytes) => return Found::Here(bytes),
        Place::Log(lsn) => *lsn,
    };
    if let Some(record) = journal.read_hot(lsn) {
        return Found::Here(record.payload);
    }
    if !cold.seek(lsn) {
        return Found::Cold;
    }
    cold.current().map_or(Found::Lost(lsn), Found::Here)
}

/// The fault of a needed message that is not in the log any more.
pub(crate) fn lost(journal: &Journal, lsn: Lsn) -> Fault {
    Fault::Damaged {
        file: journal.dir().to_owned(),
        offset: 0,
        last_good: lsn,
        detail: "a message that is still queued is missing from its files",
    }
}

/// Asks for the bodies that the front of the mailbox needs next.
pub(crate) fn fetch(log: &mut CommitLog, mailbox: &mut Mailbox, id: SessionId) {
    if mailbox.cold.is_fetching {
        return;
    }
    let durable = log.journal.durable();
    let mut wanted = Vec::new();
    let mut bytes = 0_u64;
    for (gate, item) in &mailbox.items {
        if *gate > durable || wanted.len() >= FETCH_MAX || bytes >= FETCH_BYTES_MAX {
            break;
        }
        let Some((lsn, length)) = log_place(item) else { continue };
        if log.journal.read_hot(lsn).is_none() {
            bytes = bytes.saturating_add(u64::from(length));
            wanted.push(lsn);
        }
    }
    mailbox.cold.is_fetching = true;
    if let Err(fault) = log.journal.fetch(wanted, id.0) {
        log.poison(fault);
    }
}
