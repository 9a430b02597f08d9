//! What the engine needs of a log: to append a record and to know its address. The journal stands
//! behind it in the server, a `Vec` in tests. No files, no flushing: those are the journal's.

use crate::Lsn;

/// One record to append, in pieces so that a body is copied only once.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The engine's own number for the shape of the payload.
    pub kind: u8,
    /// The next record belongs to the same atomic group.
    pub has_more: bool,
    /// The payload, to be written back to back.
    pub parts: &'a [&'a [u8]],
}

/// An append-only log. Appending never fails: space was reserved before work was accepted.
pub trait Log {
    /// The address the next record will get.
    fn next_lsn(&self) -> Lsn;

    /// Appends one record and returns its address. All records of a group become durable together.
    fn append(&mut self, record: Record<'_>) -> Lsn;
}

/// What the leader stamps onto a request: the only time the engine ever sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Wall-clock time, kept from running backwards by the leader.
    pub now: crate::Millis,
    /// Random bits drawn by the leader for this request (server-made names, secrets).
    pub nonce: u64,
}
