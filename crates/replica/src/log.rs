//! [`CommitLog`]: the journal as the engine sees it. Appending never fails in the engine's eyes;
//! a fault is kept here and stops the node at the end of the turn. Called by `node`.

use journal::{Fault, Journal};
use model::{Log, Lsn, Record};

/// The journal plus its first fault.
#[derive(Debug)]
pub(crate) struct CommitLog {
    pub(crate) journal: Journal,
    /// Set once, never cleared: nothing is acknowledged any more.
    fault: Option<Fault>,
}

impl CommitLog {
    pub(crate) const fn new(journal: Journal) -> Self {
        Self { journal, fault: None }
    }

    /// Passes the first fault on, if there was one.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Keeps the first fault.
    pub(crate) fn poison(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

impl Log for CommitLog {
    fn next_lsn(&self) -> Lsn {
        self.journal.next_lsn()
    }

    fn append(&mut self, record: Record<'_>) -> Lsn {
        let lsn = self.journal.next_lsn();
        if self.fault.is_none()
            && let Err(fault) = self.journal.append(journal::Record {
                kind: record.kind,
                more: record.has_more,
                parts: record.parts,
            })
        {
            self.fault = Some(fault);
        }
        lsn
    }
}
