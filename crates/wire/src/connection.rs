//! [`Connection`]: one client's protocol as a pure state machine. `net::drive` moves the bytes.

use std::time::Instant;

use bytes::BytesMut;
use model::{Event, Reply, Ticket};

use crate::Outbox;

/// The end of a connection, decided by the door. Bytes already in the [`Outbox`] are still sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Close {
    /// Both sides said goodbye.
    #[error("closed in good order")]
    Done,
    /// The peer broke the protocol; the text is for the log.
    #[error("protocol violation: {0}")]
    Violation(String),
    /// The peer was silent for too long.
    #[error("nothing heard for {0} ms")]
    Silence(u64),
    /// The server wants it to end.
    #[error("{0}")]
    Shutdown(&'static str),
}

/// One client's protocol: input, replies, events and deadlines in; bytes and requests out.
///
/// Invariant (cut invariance): the same input cut at any place writes the same bytes. After `Err`
/// the machine is not called again. Time is always a parameter.
pub trait Connection {
    /// Called once, before anything else: what a door asks of the engine without being asked.
    fn on_open(&mut self, _now: Instant, _out: &mut Outbox) {}

    /// Takes as many whole commands from the front of `input` as [`Outbox::has_room`] allows and
    /// leaves the rest there. `net` calls again with more input, or when there is room again.
    ///
    /// # Errors
    /// When the connection must end.
    fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), Close>;

    /// Takes the answer to a request of `channel`, in the order in which they were asked.
    ///
    /// # Errors
    /// When the connection must end.
    fn on_reply(
        &mut self,
        now: Instant,
        to: (u16, Ticket),
        reply: Reply,
        out: &mut Outbox,
    ) -> Result<(), Close>;

    /// Takes something nobody asked for just now.
    ///
    /// # Errors
    /// When the connection must end.
    fn on_event(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) -> Result<(), Close>;

    /// Called once after every batch of replies and events, before the bytes are written: the
    /// place to write what was gathered (one multiple acknowledgement per channel).
    fn on_batch_end(&mut self, _out: &mut Outbox) {}

    /// When [`Connection::on_deadline`] wants to be called; `None` is never.
    fn deadline(&self) -> Option<Instant>;

    /// The deadline passed: send a heartbeat, or give up on a silent peer.
    ///
    /// # Errors
    /// When the connection must end.
    fn on_deadline(&mut self, now: Instant, out: &mut Outbox) -> Result<(), Close>;

    /// The peer sends no more; it may still read. What was asked before is still to be answered:
    /// a door that returns `Ok` is called on with replies and events until it ends itself.
    ///
    /// # Errors
    /// When the connection must end now.
    fn on_end_of_input(&mut self, _now: Instant, _out: &mut Outbox) -> Result<(), Close> {
        Err(Close::Done)
    }

    /// Whether more input is of use, with so many bytes left that the door did not take yet. A
    /// door that leaves whole commands for later must say no at some point.
    fn wants_input(&self, _held_bytes: usize) -> bool {
        true
    }

    /// How many messages the peer has been handed and not answered yet, about: while it has
    /// plenty, it does not miss us for a moment, and `net` may read its answers less often.
    fn owed(&self) -> u64 {
        0
    }

    /// The server itself holds this client's input back for now: silence is not the peer's fault.
    fn on_held_back(&mut self, _now: Instant) {}

    /// Bytes were taken by the peer's socket (for heartbeats: something was sent at `now`).
    fn on_written(&mut self, _now: Instant) {}
}
