//! The engine: queues, exchanges, deliveries and the rest as one deterministic state machine.
//!
//! Lives here: everything that decides. Not here, on purpose: protocols (doors), clocks, files,
//! threads, randomness. Time and random bits enter with a [`model::Stamp`]; records leave through
//! [`model::Log`]; everything else leaves through [`Effects`]. Called by `replica` only.

mod effects;
mod map;
mod routing;

use std::io;
use std::ops::Range;

pub use effects::{
    Damage, Effects, Handout, Login, Output, Place, Push, Read, Resume, SessionInfo, Usage,
};
use model::{Envelope, Limits, Log, Lsn, MessageRef, Millis, SessionId, Stamp};

/// The state machine. One value holds everything of a node.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Changes the limits; things that exist already stay.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// A client connected.
    pub fn open_session(&mut self, id: SessionId, info: SessionInfo) {
        let _ = (id, info);
    }

    /// A client is gone: its unsettled deliveries return, its exclusive queues go away.
    pub fn close_session<L: Log>(
        &mut self,
        at: Stamp,
        id: SessionId,
        log: &mut L,
        out: &mut Effects,
    ) {
        let _ = (at, id, log, out);
    }

    /// Handles one request. Total: a refusal is a reply.
    pub fn apply<L: Log>(
        &mut self,
        at: Stamp,
        from: SessionId,
        envelope: Envelope,
        log: &mut L,
        out: &mut Effects,
    ) {
        let _ = (at, from, envelope, log, out);
    }

    /// Goes on with something that waited for an answer from outside.
    pub fn resume<L: Log>(&mut self, at: Stamp, what: Resume<'_>, log: &mut L, out: &mut Effects) {
        let _ = (at, what, log, out);
    }

    /// The pipeline passed `bytes` of bodies on to the session's own buffers. Returns whether the
    /// session was paused and has room again: then call [`Engine::resume`] with `Room`.
    pub fn taken(&mut self, session: SessionId, bytes: u64) -> bool {
        let _ = (session, bytes);
        false
    }

    /// Does what is due at `at`; nothing happens early.
    pub fn tick<L: Log>(&mut self, at: Stamp, log: &mut L, out: &mut Effects) {
        let _ = (at, log, out);
    }

    /// When [`Engine::tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        None
    }

    /// Recovery: takes in one record of the log.
    ///
    /// # Errors
    /// When the record was not written by this engine or an older one.
    pub fn replay(&mut self, lsn: Lsn, kind: u8, payload: &[u8]) -> Result<(), Damage> {
        let _ = (lsn, kind, payload);
        Ok(())
    }

    /// Recovery ends: after the last replay, before the first request.
    pub fn recovered(&mut self, at: Stamp) {
        let _ = at;
    }

    /// The durable state as it is now; cheap, writing it is not.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {}
    }

    /// Reads a snapshot back, with default limits (see [`Engine::set_limits`]).
    ///
    /// # Errors
    /// When the bytes are not a whole snapshot of this engine or an older one.
    pub fn restore(bytes: &[u8]) -> Result<Self, Damage> {
        let _ = bytes;
        Ok(Self::new(Limits::default()))
    }

    /// How much of a stretch of the log is still needed.
    #[must_use]
    pub fn usage(&self, range: Range<Lsn>) -> Usage {
        let _ = range;
        Usage::default()
    }

    /// Addresses of message records in a stretch of the log that are still needed, in order.
    pub fn live(&self, range: Range<Lsn>, out: &mut Vec<Lsn>) {
        let _ = range;
        out.clear();
    }

    /// A hash of the durable state: equal states, equal hashes.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        0
    }
}

/// The durable state of an engine at one moment, ready to be written on another thread.
#[derive(Debug)]
pub struct Snapshot {}

impl Snapshot {
    /// Writes the snapshot.
    ///
    /// # Errors
    /// As the writer says.
    pub fn write(self, out: &mut dyn io::Write) -> io::Result<()> {
        let _ = out;
        Ok(())
    }
}

/// Reads a stored message: the payload of a message record, or bytes of [`Place::Memory`].
#[must_use]
pub fn message(payload: &[u8]) -> Option<MessageRef<'_>> {
    let _ = payload;
    None
}
